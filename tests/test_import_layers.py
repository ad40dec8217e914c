"""The layers hold, and the check that says so can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    linter = Path(sys.executable).parent / "lint-imports"
    return subprocess.run([linter, "--no-cache"], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("pipeline/features/spec.py", "from pipeline.heads import ridge", "Layers: who may know whom BROKEN"),
        ("pipeline/stats/metrics.py", "from pipeline import plots", "Layers: who may know whom BROKEN"),
        ("pipeline/photos/decode.py", "import h5py", "HDF5 is read and written in three places BROKEN"),
        ("pipeline/stats/metrics.py", "import tensorflow", "TensorFlow is loaded by those who run networks BROKEN"),
        ("pipeline/inference/predict.py", "import fastapi", "HTTP is served in one place BROKEN"),
        ("pipeline/heads/train.py", "import click", "The library knows no command line, no YAML and no DVC BROKEN"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    result = lint(tmp_path)
    assert result.returncode == 1
    assert contract in result.stdout
