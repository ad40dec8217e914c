import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from stages.prepare import prepare

pytestmark = pytest.mark.usefixtures("decoded_here")


@pytest.fixture
def photos(tmp_path) -> Path:
    for label, red in (("cats", 50), ("dogs", 200)):
        for i in range(10):
            path = tmp_path / "photos" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (red, i, 0)).save(path)
    return tmp_path / "photos"


def run(*words):
    return CliRunner().invoke(prepare, [*map(str, words), "--workers", "2"])


def test_prepare_says_in_one_line_what_it_made(photos, tmp_path):
    result = run(photos, tmp_path / "m.csv", "--stratify")
    assert result.exit_code == 0
    assert result.stdout == (
        f"20 images of 2 classes (train 14, val 2, test 4), 0 quarantined -> {tmp_path / 'm.csv'}\n"
    )
    assert result.stderr == ""


def test_warnings_are_on_stderr_and_skipped_files_are_counted(photos, tmp_path):
    (photos / "fish").mkdir()
    (photos / ".DS_Store").touch()
    (photos / "cats/broken.jpg").touch()
    result = run(photos, tmp_path / "m.csv", "--stratify")
    assert result.stderr.endswith(" Warning: class folder 'fish' is empty\n")
    assert result.stdout.endswith(
        f", 1 quarantined (why: {tmp_path / 'quarantine.csv'}), 1 hidden or stray skipped -> {tmp_path / 'm.csv'}\n"
    )


def test_an_error_is_one_line_with_status_1(tmp_path):
    result = run(tmp_path / "nowhere", tmp_path / "m.csv")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {tmp_path / 'nowhere'}: expected a folder of images, received nothing of that name\n"
    )
    assert result.stdout == ""


def test_a_wrong_option_is_status_2(photos, tmp_path):
    assert run(photos, tmp_path / "m.csv", "--val-fraction", "some").exit_code == 2


def test_options_reach_the_library(photos, tmp_path):
    exclude = tmp_path / "exclude.txt"
    exclude.write_text("cats/0.png\n")
    options = ["--label-pattern", r"^(\d)", "--val-fraction", 0, "--test-fraction", 0, "--exclude", exclude]
    result = run(photos, tmp_path / "m.csv", *options)
    assert result.stdout.startswith("19 images of 10 classes (train 19, val 0, test 0), 1 quarantined")
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\ncats/1.png,x\ndogs/1.png,y\ncats/gone.png,x\n")
    options = ["--labels", labels, "--val-fraction", 0, "--test-fraction", 0]
    assert "received 1 of 3 files" in run(photos, tmp_path / "m.csv", *options).stderr
    assert run(photos, tmp_path / "m.csv", *options, "--max-quarantined", 0.4).exit_code == 0


def test_help_loads_nothing_heavy():
    program = "import stages.prepare, sys; print([m for m in ('PIL', 'numpy', 'joblib', 'keras') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
