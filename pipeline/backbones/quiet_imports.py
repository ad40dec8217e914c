"""Load TensorFlow, which greets on stderr past its own log level, without its greetings."""

import contextlib
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def hushed(*, shown: bool) -> Iterator[None]:
    """Drop what is written to stderr within the block, past Python's own stream too.

    Parameters
    ----------
    shown : bool
        Whether it is written after all if the block raises.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            sys.stderr.flush()
            if shown:
                said.seek(0)
                os.write(kept, said.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def tensorflow() -> Any:
    """Import TensorFlow and return the module; what it prints meanwhile is shown only if the import fails.

    Import it here first, wherever Keras or TensorFlow is about to be used: once loaded, both are quiet.
    """
    if "tensorflow" not in sys.modules:
        with hushed(shown=True):
            importlib.import_module("tensorflow")
    logging.getLogger("tensorflow").addFilter(_is_news)
    return sys.modules["tensorflow"]


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is more than advice on TensorFlow's use: many networks in a search are as many graphs."""
    return "tf.function retracing" not in record.getMessage()


def openvino() -> Any:
    """Import OpenVINO and return the module.

    Its telemetry, which would report each import over the network and write into the home directory, is left out:
    OpenVINO does without where that package cannot be imported.
    """
    with _absent("openvino_telemetry"):
        import openvino

    return openvino


@contextlib.contextmanager
def _absent(name: str) -> Iterator[None]:
    """Make the import of a module fail within the block, unless it was imported before."""
    missing = name not in sys.modules
    if missing:
        sys.modules[name] = None  # type: ignore[assignment]  # None makes an import fail
    try:
        yield
    finally:
        if missing:
            del sys.modules[name]
