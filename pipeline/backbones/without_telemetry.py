"""Import a runtime without what would report over the network that it was imported."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any


def openvino() -> Any:
    """Import OpenVINO and return the module.

    Its telemetry, which would report each import over the network and write into the home directory, is left out:
    OpenVINO does without where that package cannot be imported.
    """
    with _absent("openvino_telemetry"):
        import openvino

    return openvino


def converter() -> Any:
    """Import OpenVINO's converter and return the function: the command line leaves it out of OpenVINO's own import.

    Where it fails it would leave Python's root logger at errors only, for the whole process: that is put back.
    """
    with _absent("openvino_telemetry"):
        from openvino.tools.ovc import convert_model

    return _root_logger_kept()(convert_model)


def quantiser() -> Any:
    """Import NNCF, which calibrates graphs for int8, and return the module; ImportError if it is not installed.

    It says errors only.
    """
    of_loggers = logging.getLoggerClass()
    try:
        with _absent("openvino_telemetry"):
            import nncf
    finally:
        logging.setLoggerClass(of_loggers)  # it would make all loggers from now on ones of its own
    nncf.set_log_level(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _root_logger_kept() -> Iterator[None]:
    root = logging.getLogger()
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


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
            sys.modules.pop(name, None)
