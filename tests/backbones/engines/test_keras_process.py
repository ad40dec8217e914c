"""Work in a process of its own comes back as if it had been done here, or it is said that it cannot be done so."""

import os
import sys
from collections.abc import Callable
from functools import partial

import pytest

from pipeline.backbones import table
from pipeline.backbones.engines import keras_process
from pipeline.backbones.engines.keras_process import CannotBuildError


def backend() -> tuple[str, bool]:
    import keras

    sys.stdout.write("a word that is no answer")
    return keras.config.backend(), "tensorflow" in sys.modules


def test_keras_runs_on_openvino_there_and_nothing_changes_here() -> None:
    before = dict(os.environ), set(sys.modules)
    assert keras_process.call(backend) == ("openvino", False)
    assert before == (dict(os.environ), set(sys.modules))


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (partial(table.find, "x"), "InputError: "),
        (partial(int, "x"), "invalid literal"),
        (partial(os._exit, 3), None),
        (os.abort, None),
    ],
)
def test_what_fails_there_cannot_be_built_so(work: Callable[[], object], reason: str | None) -> None:
    with pytest.raises(CannotBuildError, match=reason):
        keras_process.call(work)
