"""The wheel holds all that runs, and nothing of the repository is needed or opened where it is installed."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from tests import ROOT

# In the environment of the wheel, what opens or lists a file of the repository fails; that of its tests is lent.
GUARD = """
import sys
ROOT, LENT = {root!r}, {lent!r}
def watch(event, words):
    if event in ("open", "os.listdir", "os.scandir") and isinstance(words[0], (str, bytes)):
        path = words[0] if isinstance(words[0], str) else words[0].decode("utf-8", "replace")
        if path.startswith(ROOT) and not path.startswith(LENT):
            raise RuntimeError("opened in the repository: " + path)
sys.addaudithook(watch)
"""


def contents(folder: Path) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in folder.rglob("*.*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment's programs: the wheel is in it, and the packages of this one are lent to it."""
    root, lent = tmp_path_factory.mktemp("installed") / "venv", sysconfig.get_path("purelib")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
    (packages,) = root.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    (packages / "lent.pth").write_text(f"{lent}\n")  # such a file within `lent`, as of an editable install, is not read
    lent_too = (str(Path(sys.prefix).resolve()), str(ROOT / ".headstart"))
    (packages / "sitecustomize.py").write_text(GUARD.format(root=f"{ROOT}{os.sep}", lent=lent_too))
    program = root / "bin" / "headstart"
    program.write_text(f"#!{root / 'bin' / 'python'}\nimport sys\nfrom stages.__main__ import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return root / "bin"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of a user's, with a photo, and packages that have the names of ours."""
    for name in ("pipeline", "stages"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    for kind, blue in (("cat", 20), ("dog", 220)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for shade in range(8):
            Image.new("RGB", (40, 30), (30 * shade, 80, blue)).save(tmp_path / "photos" / kind / f"{shade}.png")
    return tmp_path


def call(folder: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEADSTART"))}
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        points = archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode()
    assert held == {"headstart.py"} | contents(ROOT / "pipeline") | contents(ROOT / "stages")
    assert "headstart = stages.__main__:main" in points


def test_the_command_runs_in_a_folder_with_such_packages_and_opens_nothing_of_the_repository(
    installed: Path, own: Path
) -> None:
    for words, told in (
        (["--version"], "headstart, version"),
        (["recipe", "--list"], "vgg16-flatten "),
        (["prepare", "photos", "out/manifest.csv"], "16 images of 2 classes "),
        (["init", "--images", "photos"], "dvc.yaml\n"),
        (["predict", "imagenet", "photos/cat/1.png"], "path,label,p_tench,"),
    ):
        ran = call(own, installed / "headstart", *words)
        assert (ran.returncode, told in ran.stdout) == (0, True), (words, ran.stdout[:500], ran.stderr)


def test_importing_it_beside_such_a_package_says_in_one_line_what_hides_what(installed: Path, own: Path) -> None:
    hidden = call(own, installed / "python", "-c", "import headstart")
    *_, last = hidden.stderr.splitlines()
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    assert last.startswith(f"ImportError: headstart: expected its own package pipeline in {packages}, received {own}")
    shown = call(own / "photos", installed / "python", "-c", "import headstart; print(headstart.__file__)")
    assert shown.stdout == f"{packages / 'headstart.py'}\n", shown.stderr


def test_the_guard_sees_a_file_of_the_repository(installed: Path, own: Path) -> None:
    seen = call(own / "photos", installed / "python", "-c", f"open({str(ROOT / 'params.yaml')!r})")
    assert seen.stderr.endswith(f"RuntimeError: opened in the repository: {ROOT / 'params.yaml'}\n")
