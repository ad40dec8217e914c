"""Where a killed run goes on: the state after an epoch, and the folder that belongs to this very run."""

import contextlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, storing
from pipeline.features import spec
from pipeline.storage import locks
from pipeline.storage.atomic import published
from pipeline.storage.json_files import OBJECT, Document, each, number, whole

VERSION: Final = 1
CHECKPOINT: Final = "checkpoint.npz"
TEXT: Final = Document(
    "a checkpoint", "`hs.finetune`", {"best_epoch": whole(), "history": each(replace(OBJECT, each=number()))}
)
_DAMAGE: Final = (
    ArtefactError,
    EOFError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)  # what a damaged archive raises
_PARTS: Final = ("weights", "optimizer", "best")

Row = dict[str, float]


@dataclass
class State:
    """All that a killed run needs to go on as if nothing had happened, besides its settings.

    Attributes
    ----------
    weights, optimizer : list of ndarray
        Of tail and head after the last epoch.
    best : list of ndarray
        The weights that the run would end with now.
    best_epoch : int
        Whose they are; 0 before the first.
    history : list of dict
        A row an epoch.
    """

    weights: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    best: list[NDArray[Any]]
    best_epoch: int = 0
    history: list[Row] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)


@contextlib.contextmanager
def folder(cache: Path, matters: dict[str, Any]) -> Iterator[Path]:
    """Hold the folder of one run; remove it when the block ends, but leave it if the run fails or is killed.

    Parameters
    ----------
    cache : Path
        The cache folder.
    matters : dict
        All that decides how the run goes, as JSON: the same run finds the same folder.

    Raises
    ------
    BusyError
        Another process is at the same run.
    StorageError
        The cache cannot be written.
    """
    place = cache / "finetuning" / spec.identity({"version": VERSION} | matters)

    def busy(other: locks.Writer) -> str:
        return f"{place}: {other} trains this model; wait for it, or stop it"

    with contextlib.ExitStack() as stack:
        with storing(f"{place}: cannot be written"):
            stack.enter_context(locks.alone(place, busy))
        yield place
        shutil.rmtree(place, ignore_errors=True)


def keep(path: Path, state: State) -> None:
    """Publish a state: arrays, and the rest as JSON text; no pickle.

    StorageError if the disk is full or fails; the checkpoint before this one still stands.
    """
    text = json.dumps({"history": state.history, "best_epoch": state.best_epoch})
    parts = _PARTS[:2] if state.best is state.weights else _PARTS
    arrays = {f"{part}.{place}": array for part in parts for place, array in enumerate(getattr(state, part))}
    with storing(f"{path}: cannot be written"), published(path) as temporary:
        np.savez(temporary, text=np.frombuffer(text.encode(), np.uint8), **arrays)


def found(path: Path, like: State) -> State | None:
    """Return the state that was kept; None if there is none, or one that is damaged or has other arrays than `like`."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            text = TEXT.parse(stored["text"].tobytes(), path)
            apart = "best.0" in stored.files  # else the last weights are the best
            parts = {
                part: [_same(stored[f"{part}.{place}"], array) for place, array in enumerate(getattr(like, part))]
                for part in (_PARTS if apart else _PARTS[:2])
            }
        parts.setdefault("best", parts["weights"])
        return State(**parts, best_epoch=text["best_epoch"], history=text["history"])
    except _DAMAGE:
        return None


def _same(array: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    if (array.shape, array.dtype) != (like.shape, like.dtype):
        raise ValueError(f"expected {like.dtype} {like.shape}, received {array.dtype} {array.shape}")
    return array
