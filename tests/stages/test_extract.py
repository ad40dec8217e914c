from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stages.extract import extract
from stages.prepare import prepare
from tests.fakes import write_classes

BASE = ("--backbone", "mobilenet_v2", "--weights", "none", "--size", "32", "--dtype", "float32")


def run(folder: Path, *options: str) -> Result:
    places = [str(folder / name) for name in ("photos", "manifest.csv", "features.h5")]
    return CliRunner().invoke(extract, [*places, *BASE, "--cache", str(folder / "cache"), *options])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_classes(folder / "photos", {"dark": 8, "light": 8})
    made = CliRunner().invoke(prepare, [str(folder / "photos"), str(folder / "manifest.csv"), "--stratify"])
    assert made.exit_code == 0, made.output
    return folder


def test_parts_are_computed_then_assembled_and_a_plan_says_what_is_left(project: Path) -> None:
    first = run(project, "--shard", "0/2")
    assert first.exit_code == 0, first.output
    assert str(project / "cache") in first.output
    assert not (project / "features.h5").exists()
    planned = run(project, "--plan", "--workers", "4")
    assert planned.exit_code == 0, planned.output
    lines = planned.output.splitlines()
    assert lines[0].startswith("16 images: 16 rows, ")
    assert lines[0].endswith("of them missing")
    assert [line.split(":")[0] for line in lines[1:]] == [
        "on disk",
        "1 machine",
        "4 machines, at best",
        "speed of one machine",
    ]
    assert run(project, "--shard", "1/2", "--executor", "dask", "--workers", "1").exit_code == 0
    assert ": 0 computed, 16 reused -> " in run(project).output
    assert (project / "features.h5").exists()
    planned = run(project, "--plan")
    assert [line.split(":")[0] for line in planned.output.splitlines()] == ["16 images", "on disk"]


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "1/0", "1/2/3"])
def test_a_part_that_is_none_is_a_usage_error(tmp_path: Path, text: str) -> None:
    result = run(tmp_path, "--shard", text)
    assert result.exit_code == 2
    assert "--shard" in result.output
    assert f"expected I/N with I from 0 to N - 1, received '{text}'" in result.output
