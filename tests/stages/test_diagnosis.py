import os
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.features.cache.row_cache import RowCache
from stages import diagnosis
from stages.__main__ import main


def findings(cache: Path) -> dict[str, diagnosis.Finding]:
    return {finding.name: finding for finding in diagnosis.diagnose(cache)}


def test_a_machine_that_runs_these_tests_is_well(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert [finding for finding in found.values() if finding.state == "wrong"] == []
    assert f"{sys.version_info.major}.{sys.version_info.minor}." in found["Python"].found
    assert "efficientnet_lite0" in found["weights"].found
    assert "float32" in found["precisions"].found


@pytest.mark.parametrize(
    ("package", "name", "state"),
    [("h5py", "packages", "wrong"), ("dvc", "packages", "note"), ("fastapi", "extra serve", "note")],
)
def test_a_missing_package_is_named_with_what_brings_it(
    package: str, name: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = diagnosis._version
    monkeypatch.setattr(diagnosis, "_version", lambda asked: "" if asked == package else version(asked))
    finding = findings(tmp_path)[name]
    assert finding.state == state
    assert package in finding.found + finding.advice


@pytest.mark.parametrize(("missing", "state"), [({"tensorflow"}, "note"), ({"tensorflow", "openvino"}, "wrong")])
def test_without_tensorflow_the_packaged_base_still_runs(
    missing: set[str], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = diagnosis.engine.version_of
    monkeypatch.setattr(diagnosis.engine, "version_of", lambda name: "" if name in missing else version(name))
    finding = next(diagnosis._engines())
    assert (finding.state, "pip install 'headstart[cpu]'" in finding.advice) == (state, True)


def test_a_cache_that_cannot_be_written_is_wrong_and_the_status_is_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["doctor", "--cache", str(tmp_path / "file" / "cache")])
    assert result.exit_code == 1
    assert f"wrong  cache: {tmp_path / 'file' / 'cache'}: Not a directory" in result.stdout
    assert result.stderr == "Error: 1 of the above would stop a run\n"


def test_rows_and_who_is_adding_some_are_told(tmp_path: Path) -> None:
    cache = RowCache(tmp_path, spec='{"a":1}', dtype="float32", view="view-0")
    with cache.writer(0.0, 1.0):
        cache.add(np.zeros((1, 32), np.uint8), np.zeros((1, 4), np.float32))
        found = findings(tmp_path)
    assert found["rows"].found == "1 under 1 spec"
    assert found["locks"].state == "note"
    assert f"process {os.getpid()} on " in found["locks"].found
    assert findings(tmp_path)["locks"].state == "ok"


def test_little_disk_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "LITTLE_DISK", float("inf"))
    assert findings(tmp_path)["disk"].state == "note"
