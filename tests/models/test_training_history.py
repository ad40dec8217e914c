"""Which epoch of a head or a model is kept, and how the epochs of both are counted."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.models import training_history
from pipeline.plots import training_curves

HISTORY = [
    {"epoch": place + 1, "loss": 1.0 - place / 10, "accuracy": 0.5, "val_loss": loss, "val_accuracy": 0.5}
    for place, loss in enumerate((0.9, 0.7, 0.8))
]
UNJUDGED = [{name: row[name] for name in ("epoch", "loss", "accuracy")} for row in HISTORY]


def head(history: list[dict[str, float]], **parameters: int) -> Any:
    return SimpleNamespace(history_=history, **parameters)


@pytest.mark.parametrize(
    ("fitted", "kept"),
    [
        (head(HISTORY, patience=0), 3),
        (head(HISTORY, patience=1), 2),
        (head(UNJUDGED, patience=0), 3),
        (head([], patience=3), 0),
        (head([]), 0),
    ],
)
def test_with_early_stopping_the_best_epoch_is_kept_and_else_the_last(fitted: Any, kept: int) -> None:
    assert training_history.kept_epoch(fitted) == kept
    marked = [row["epoch"] for row in training_history.of_head(fitted, 1) if row["kept"]]
    assert marked == ([kept] if kept else [])


@pytest.mark.parametrize(
    ("made", "phases", "kept"),
    [
        ({"head_history": HISTORY, "head_epoch": 2, "best_epoch": 2}, ["head"] * 3 + ["fine-tuning"] * 2, 5),
        ({"head_history": HISTORY, "head_epoch": 2, "best_epoch": 0}, ["head"] * 3 + ["fine-tuning"] * 2, 2),
        ({"best_epoch": 1}, ["fine-tuning"] * 2, 1),  # of a head without epochs, or of an earlier version
        ({}, ["fine-tuning"] * 2, None),
    ],
)
def test_epochs_of_fine_tuning_follow_those_of_the_head(
    made: dict[str, Any], phases: list[str], kept: int | None
) -> None:
    rows = training_history.of_model(made, UNJUDGED[:2])
    assert [row["epoch"] for row in rows] == [row["passes"] for row in rows] == list(range(1, len(phases) + 1))
    assert [row["phase"] for row in rows] == phases
    assert [row["epoch"] for row in rows if row["kept"]] == ([kept] if kept else [])
    assert rows[-1]["loss"] == UNJUDGED[1]["loss"]


def test_an_epoch_of_a_head_is_a_pass_a_view_and_one_of_fine_tuning_is_one_pass() -> None:
    fitted = head(HISTORY, patience=0)
    made = training_history.recorded(fitted, training_history.views_of({"views": {"count": 5}})) | {"best_epoch": 2}
    rows = training_history.of_model(made, UNJUDGED[:2])
    assert [row["passes"] for row in rows] == [5, 10, 15, 16, 17]
    assert rows[:3] == [{**row, "kept": 0} for row in training_history.of_head(fitted, 5)]
    drawn = training_curves.curves(rows, "loss")
    assert (drawn.x, drawn.x_title, drawn.start) == ([5, 10, 15, 16, 17], "passes over the photos", 15.5)
    assert drawn.mark == (17, "kept: epoch 5, pass 17", "training", UNJUDGED[1]["loss"])
    assert "head_views" not in training_history.recorded(fitted, training_history.views_of({"views": None}))
