"""An export as something that predicts: which file of it, and an engine that runs that file over squares."""

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, HeadstartError, InputError
from pipeline.export import allowed_operations, bundle, runtimes
from pipeline.export.bundle import Exported
from pipeline.export.formats import FORMATS, Format
from pipeline.storage.json_files import LONGEST
from pipeline.wording import one_line

FASTEST_FIRST: Final = ("onnx", "web", "openvino", "tflite", "saved_model", "keras", "tflite-int8", "tflite-dynamic")
SUFFIXES: Final = frozenset(Path(row.path).suffix for row in FORMATS.values()) - {""}


def is_export(path: Path) -> bool:
    """Whether a path is the folder of an export, or a file in one."""
    return (path / bundle.DOCUMENT).is_file() or (path.parent / bundle.DOCUMENT).is_file()


def chosen(path: Path) -> tuple[Exported, Format]:
    """Read the export that a path is in, and say which format of it is meant.

    `path` is a file of an export, or its folder: then the fastest format whose runtime is installed. ArtefactError if
    the export is damaged; InputError if the file is no format of it, or no runtime is installed.
    """
    if (path / bundle.DOCUMENT).is_file():
        found = bundle.read(path)
        rows = [found.formats[name] for name in FASTEST_FIRST if name in found.formats]
        installed = [row for row in rows if _is_installed(row)]
        if not installed:
            raise InputError(f"{path}: {_wanted(rows)}")
        return found, installed[0]
    found = bundle.read(path.parent)
    named = [row for row in found.formats.values() if row.path == path.name]
    if not named:
        known = ", ".join(row.path for row in found.formats.values())
        raise InputError(f"{path}: expected one of {known}, received {path.name}")
    if not _is_installed(named[0]):
        raise InputError(f"{path}: {_wanted(named)}")
    return found, named[0]


class ExportedEngine:
    """A file of an export, run over squares of the model's size as `pipeline.backbones.engines` runs a network.

    Parameters
    ----------
    exported : Exported
    row : Format
        One of its formats.

    Attributes
    ----------
    row_shape : tuple of int
        (K,): the probabilities of one image.
    """

    def __init__(self, exported: Exported, row: Format) -> None:
        self.row_shape: tuple[int, ...] = (len(exported.classes),)
        self._path = exported.directory / row.path
        with self._refusing():
            allowed_operations.require_harmless(self._path, row.runtime)
            self._run = runtimes.opened(self._path)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield the probabilities of each batch of shape (n, size, size, 3), in order, as (n, K).

        ArtefactError if the file gives others than the export says.
        """
        for batch in batches:
            with self._refusing():
                rows = self._run(batch)
            if rows.shape != (len(batch), *self.row_shape):
                expected = f"probabilities of shape {(len(batch), *self.row_shape)}"
                raise ArtefactError(f"{self._path}: expected {expected}, received {rows.shape}")
            yield rows

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn whatever a runtime raises of a file into an error that names the file."""
        try:
            yield
        except (ImportError, MemoryError, HeadstartError):
            raise
        except Exception as error:
            told = one_line(error)[:LONGEST] or type(error).__name__
            raise ArtefactError(
                f"{self._path}: expected a file that its runtime can run, received one of which it says: {told}; run "
                "`hs.export` again"
            ) from error


def _is_installed(row: Format) -> bool:
    return all(importlib.util.find_spec(name) for name in _modules(row))


def _modules(row: Format) -> list[str]:
    """Return what it takes to run a format: its runtime and, for ONNX, what reads the file before it is loaded."""
    return [runtimes.MODULES[row.runtime], *(["onnx"] if row.runtime == "onnxruntime" else [])]


def _wanted(rows: list[Format]) -> str:
    names = sorted({" and ".join(_modules(row)) for row in rows})
    return f"expected {' or '.join(names)} to run it, received none: pip install 'headstart[export]'"
