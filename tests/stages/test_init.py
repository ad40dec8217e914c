"""A project of a user's own: what is written, what is left alone, and that DVC takes it."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from stages import init
from stages.__main__ import main
from tests import ROOT


def call(*words: str) -> Result:
    return CliRunner().invoke(main, ["init", *words])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands, outside any repository."""
    for name, value in (("HOME", tmp_path), ("GIT_CEILING_DIRECTORIES", tmp_path), ("GIT_CONFIG_NOSYSTEM", 1)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    found = init.importlib.util.find_spec
    monkeypatch.setattr(init.importlib.util, "find_spec", lambda name: None if name == "dvc" else found(name))


@pytest.mark.parametrize("name", ["dvc.yaml", "params.yaml"])
def test_the_file_of_the_checkout_is_that_of_a_project_with_its_code(name: str) -> None:
    made = init.rendered(name, code=True, export=True, images="data/digits")
    assert made == (ROOT / name).read_text(encoding="utf-8"), f"change both: {init.TEMPLATES / init.FILES[name]}"


@pytest.mark.parametrize("more", [True, False])
def test_a_project_s_stages_are_those_of_the_checkout_without_its_code(more: bool) -> None:
    texts = {name: init.rendered(name, export=more, images="p") for name in ("dvc.yaml", "params.yaml")}
    stages = yaml.safe_load(texts["dvc.yaml"])["stages"]
    expected = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    del expected["digits"]
    if not more:
        del expected["export"]
    for stage in expected.values():
        described = stage.get("do", stage)
        described["deps"] = [one for one in described["deps"] if not one.startswith(("pipeline/", "stages/"))]
    assert stages == expected
    params = yaml.safe_load(texts["params.yaml"])
    assert ("dense" in params["train"], "export" in params, params["images"]) == (True, more, "p")


def test_dvc_and_recipe_take_the_project_and_a_second_call_changes_nothing(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / ".gitignore").write_text("kept\n")
    (folder / "mine" / "my photos").mkdir()
    first = call("mine", "--images", "mine/my photos")
    assert first.exit_code == 0, first.output
    assert first.stdout.endswith("Next: cd mine && dvc repro\n")
    assert "mine/.gitignore: is there already, and stays as it is" in first.stderr
    written = {path: path.read_bytes() for path in (folder / "mine").rglob("*") if path.is_file()}
    assert (folder / "mine" / ".gitignore").read_text() == "kept\n"
    assert {".git", ".dvc"} <= {path.name for path in (folder / "mine").iterdir()}
    second = call("mine", "--images", "mine/my photos")
    assert (second.exit_code, second.stderr.count("stays as it is")) == (0, len(init.FILES))
    assert {path: path.read_bytes() for path in (folder / "mine").rglob("*") if path.is_file()} == written
    command = [init.sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(command, cwd=folder / "mine", capture_output=True, text=True, check=True).stdout.split()
    assert {"prepare", "train@logistic", "evaluate@logistic", "report"} <= {*listed}


@pytest.mark.usefixtures("no_dvc")
@pytest.mark.parametrize(
    ("name", "inside", "line"),
    [
        ("photos", True, "/photos/"),
        ("no", True, "/no/"),
        ("2024", True, "/2024/"),
        ("a: b # c", True, "/a: b # c/"),
        ("what? [new]*", True, "/what\\? \\[new]\\*/"),
        ('"quoted" ${x}', True, '/"quoted" ${x}/'),
        ("elsewhere", False, None),
    ],
)
def test_any_name_of_a_folder_stands_in_the_files_as_it_is(
    name: str, inside: bool, line: str | None, folder: Path
) -> None:
    photos = folder / ("mine" if inside else "") / name
    photos.mkdir(parents=True)
    done = call("mine", "--images", str(photos))
    assert done.exit_code == 0, done.output
    params = yaml.safe_load((folder / "mine" / "params.yaml").read_text())
    assert params["images"] == (name if inside else str(photos))
    ignored = (folder / "mine" / ".gitignore").read_text().splitlines()
    assert ignored[4:] == ([line] if line else [])
    status = subprocess.run(["git", "check-ignore", "-q", str(photos)], cwd=folder / "mine", check=False)
    assert (status.returncode == 0) == inside


@pytest.mark.usefixtures("no_dvc")
def test_what_is_missing_is_said_with_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "photos").mkdir()
    (folder / ".git").mkdir()
    without_dvc = call("below", "--images", "photos")
    assert "pip install 'headstart[dvc]', then `dvc init" in without_dvc.stderr
    assert without_dvc.stdout.endswith("Then: cd below && dvc repro\n")
    monkeypatch.setattr(init.shutil, "which", lambda name: None)
    assert "Git is not installed here: install it, then `git init`" in call("other", "--images", "photos").stderr


def test_why_dvc_could_not_begin_is_told(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "mine").mkdir()
    (folder / "mine" / ".dvc").write_text("no folder")
    result = call("mine", "--images", "photos")
    assert result.exit_code == 1
    assert re.search(r"expected `dvc init` to succeed, received ERROR: .*File exists: .*mine/.dvc'", result.stderr)
    assert "troubles" not in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--images", "gone"], "Directory 'gone' does not exist"),
        (["photos/below", "--images", "photos"], "expected a folder outside the photos in photos"),
        (["mine", "--images", "it's"], "expected names without ', in which dvc.yaml quotes them"),
        ([], "Missing option '--images'"),
    ],
)
def test_a_call_that_cannot_be_done_writes_nothing(words: list[str], told: str, folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "it's").mkdir()
    result = call(*words)
    assert result.exit_code != 0
    assert told in result.stderr
    assert {path.name for path in folder.rglob("*")} == {"photos", "it's"}
