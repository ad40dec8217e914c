"""Locks and half-written files where there is no ``fcntl``, as on Windows: see `tests/storage/windows.py`."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT

# What cannot be there: others remove a folder that is held, and a folder is synced.
IMPOSSIBLE = "removed_meanwhile or its_folder_are_synced"
IMPORT_ALL = """
import importlib, pkgutil, pipeline, stages
names = [one.name for of in (pipeline, stages) for one in pkgutil.walk_packages(of.__path__, f"{of.__name__}.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.fixture
def windows(tmp_path: Path) -> dict[str, str]:
    """The variables of a process that finds what Windows has."""
    shutil.copy(ROOT / "tests" / "storage" / "windows.py", tmp_path / "sitecustomize.py")
    return os.environ | {"PYTHONPATH": str(tmp_path)}


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="/proc tells what a process has open")
def test_the_promises_of_locks_and_of_published_files_hold_without_fcntl(windows: dict[str, str]) -> None:
    tests = ["tests/storage/test_locks.py", "tests/storage/test_atomic.py"]
    options = ["-p", "no:cacheprovider", "-s", "--noconftest", "-o", "addopts=", "-q", "-k", f"not ({IMPOSSIBLE})"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, env=windows, capture_output=True, text=True
    )
    passed = re.search(r"^(\d+) passed, 2 deselected", ran.stdout, re.MULTILINE)
    assert passed and int(passed[1]) > 40, ran.stdout


def test_every_module_is_imported_without_fcntl_and_signals_of_posix(windows: dict[str, str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], cwd=ROOT, env=windows, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 200
