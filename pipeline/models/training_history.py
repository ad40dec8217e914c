"""The epochs of a head and of the fine-tuning that followed, as one history: what a training curve is drawn from.

A row an epoch, counted through both: ``epoch`` from 1, ``phase``, ``kept`` (1 for the epoch whose weights are used,
else 0), ``loss``, ``accuracy`` and, where there were validation images, ``val_loss`` and ``val_accuracy``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pipeline.heads.registry import Head
from pipeline.storage.json_files import OBJECT, Field, each, maybe, number, whole

HEAD, FINE_TUNING = "head", "fine-tuning"
COLUMNS: Final = ["epoch", "phase", "kept", "loss", "accuracy", "val_loss", "val_accuracy"]
# What ``made`` in model.json holds of a head that had epochs, unless fine-tuning started from another one.
MADE: Final[Mapping[str, Field]] = {
    "head_history": maybe(each(replace(OBJECT, each=number()))),
    "head_epoch": maybe(whole()),
}

Row = dict[str, Any]
Epochs = Sequence[Mapping[str, float]]


def kept_epoch(head: Head) -> int:
    """Return the epoch whose weights a head has: that of least validation loss with early stopping, else the last."""
    history = head.history_
    if not (getattr(head, "patience", 0) and all("val_loss" in row for row in history)):
        return len(history)
    return 1 + min(range(len(history)), key=lambda place: history[place]["val_loss"], default=-1)


def recorded(head: Head) -> dict[str, Any]:
    """Return what a model made of a head keeps of its epochs; nothing if it has none."""
    return {"head_history": head.history_, "head_epoch": kept_epoch(head)} if head.history_ else {}


def of_head(head: Head) -> list[Row]:
    """Return the history of a head."""
    return _rows(head.history_, HEAD, kept_epoch(head))


def of_model(made: Mapping[str, Any], tuned: Epochs) -> list[Row]:
    """Return the history of a model.

    Parameters
    ----------
    made : mapping
        As in ``model.json``; an older one says nothing of the head's epochs.
    tuned : sequence of mapping
        Its epochs of fine-tuning.
    """
    head, best = made.get("head_history") or [], made.get("best_epoch") or 0
    before = _rows(head, HEAD, 0 if best else made.get("head_epoch") or 0)
    return before + _rows(tuned, FINE_TUNING, best + len(head) if best else 0, first=len(head))


def _rows(history: Epochs, phase: str, kept: int, first: int = 0) -> list[Row]:
    return [
        {**row, "epoch": epoch, "phase": phase, "kept": int(epoch == kept)}
        for epoch, row in enumerate(history, first + 1)
    ]
