"""The epochs of a head and of the fine-tuning that followed, as one history: what a training curve is drawn from.

A row an epoch, counted through both: ``epoch`` from 1, ``passes`` over the photos that were made when it ended,
``phase``, ``kept`` (1 for the epoch whose weights are used, else 0), ``loss``, ``accuracy`` and, where there were
validation images, ``val_loss`` and ``val_accuracy``. An epoch of a head takes all views of every photo, which are as
many passes; one of fine-tuning takes the next view of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pipeline.heads.head import Head
from pipeline.heads.store import MOST_VIEWS
from pipeline.storage.json_files import OBJECT, Field, each, maybe, number, whole

HEAD, FINE_TUNING = "head", "fine-tuning"
COLUMNS: Final = ["epoch", "passes", "phase", "kept", "loss", "accuracy", "val_loss", "val_accuracy"]
# What ``made`` in model.json holds of a head that had epochs, unless fine-tuning started from another one.
MADE: Final[Mapping[str, Field]] = {
    "head_history": maybe(each(replace(OBJECT, each=number()))),
    "head_epoch": maybe(whole()),
    "head_views": maybe(whole(1, MOST_VIEWS)),
}

Row = dict[str, Any]
Epochs = Sequence[Mapping[str, float]]


def kept_epoch(head: Head) -> int:
    """Return the epoch whose weights a head has: that of least validation loss with early stopping, else the last."""
    history = head.history_
    if not (getattr(head, "patience", 0) and all("val_loss" in row for row in history)):
        return len(history)
    return 1 + min(range(len(history)), key=lambda place: history[place]["val_loss"], default=-1)


def views_of(record: Mapping[str, Any]) -> int:
    """Return how many views of a photo the head with this record learned from."""
    return record["views"]["count"] if record.get("views") else 1


def recorded(head: Head, views: int) -> dict[str, Any]:
    """Return what a model made of a head keeps of its epochs; nothing if it has none."""
    if not head.history_:
        return {}
    of_views = {"head_views": views} if views > 1 else {}
    return {"head_history": head.history_, "head_epoch": kept_epoch(head), **of_views}


def of_head(head: Head, views: int) -> list[Row]:
    """Return the history of a head that learned from so many views of each photo."""
    return _rows(head.history_, HEAD, kept_epoch(head), views=views)


def of_model(made: Mapping[str, Any], tuned: Epochs) -> list[Row]:
    """Return the history of a model.

    `made` is as in ``model.json``, of which an older one says nothing of the head's epochs; `tuned` are its epochs of
    fine-tuning.
    """
    head, best = made.get("head_history") or [], made.get("best_epoch") or 0
    views = made.get("head_views") or 1
    before = _rows(head, HEAD, 0 if best else made.get("head_epoch") or 0, views=views)
    after = _rows(tuned, FINE_TUNING, best + len(head) if best else 0, before=(len(head), len(head) * views))
    return before + after


def _rows(history: Epochs, phase: str, kept: int, *, views: int = 1, before: tuple[int, int] = (0, 0)) -> list[Row]:
    """Return rows that go on after so many epochs and passes."""
    return [
        {
            **row,
            "epoch": before[0] + place,
            "passes": before[1] + place * views,
            "phase": phase,
            "kept": int(before[0] + place == kept),
        }
        for place, row in enumerate(history, 1)
    ]
