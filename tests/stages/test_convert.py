"""``headstart convert`` where keras-hub is not installed; `tests.hub` has what it does where it is."""

import importlib.util
from pathlib import Path

import pytest
from click.testing import CliRunner

from stages.convert import convert


@pytest.mark.skipif(importlib.util.find_spec("keras_hub") is not None, reason="keras-hub is installed")
def test_a_line_says_what_is_missing_and_where_it_goes(tmp_path: Path) -> None:
    result = CliRunner().invoke(convert, ["dinov2_small", str(tmp_path / "base.onnx")])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "keras-hub is not installed: expected the extra hub, in an environment of its own" in result.stderr
    assert list(tmp_path.iterdir()) == []
