"""For two classes: from which probability on an image is given the one that matters, for a wished precision or recall.

The most probable class is right most often, and makes both kinds of mistake as they come. Who wants few false alarms,
or few misses, chooses another threshold than one half. It is chosen on images that were held out, the validation split
or folds, and kept with the head, and with the model that the head is joined into.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, InputError
from pipeline.stats import intervals


@dataclass(frozen=True)
class Wish:
    """What the threshold is to reach on the images held out.

    Parameters
    ----------
    metric : "precision" or "recall"
        Of the positive class.
    at_least : float
        The fraction wished, above 0 and at most 1.
    positive : str or None
        Label of the positive class; None is the second in the order of the labels.
    """

    metric: Literal["precision", "recall"]
    at_least: float
    positive: str | None


def choose(
    probabilities: NDArray[np.float64], y: NDArray[np.int64], classes: Sequence[str], wish: Wish
) -> dict[str, Any]:
    """Return the threshold that fulfils a wish, and among these the one with the most of the other metric.

    Parameters
    ----------
    probabilities : ndarray of shape (n, 2)
        Of images held out.
    y : ndarray of shape (n,)
    classes : sequence of str
    wish : Wish

    Returns
    -------
    dict
        JSON-able: ``positive`` (label), ``value`` (an image is given this label from this probability on), ``wish``
        ({metric: fraction}), what it reaches on these images, which chose it: ``precision``, ``recall``, and
        ``low``, the lower end of the 95 % interval of the metric that was wished.

    Raises
    ------
    InputError
        There are not two classes, no image of the positive one, or no threshold fulfils the wish.
    """
    wished = f"{wish.metric}_at_least"
    if len(classes) != 2:
        raise InputError.of(wished, "two classes", len(classes))
    positive = wish.positive if wish.positive is not None else classes[1]
    if positive not in classes:
        raise InputError.of("positive", " or ".join(classes), positive)
    code = list(classes).index(positive)
    actual = y == code
    if not actual.any():
        raise InputError.of(wished, f"images of {positive} held out", None, "add images of it")
    values, recall, precision = _curve(probabilities[:, code], actual)
    reached, other = (precision, recall) if wish.metric == "precision" else (recall, precision)
    fits = np.flatnonzero(reached >= wish.at_least)
    if not len(fits):
        expected = f"a threshold with a {wish.metric} of {wish.at_least} on the {len(y):,} images held out"
        raise InputError.of(wished, expected, f"{reached.max():.4f} at most")
    place = max(fits.tolist(), key=lambda at: (other[at], reached[at], values[at]))
    given = int(np.count_nonzero(probabilities[:, code] >= values[place]))
    of = given if wish.metric == "precision" else int(actual.sum())
    low, _ = intervals.proportion(round(float(reached[place]) * of), of)
    return {
        "positive": positive,
        "value": float(values[place]),
        "wish": {wish.metric: wish.at_least},
        "precision": float(precision[place]),
        "recall": float(recall[place]),
        "low": low,
    }


def unshown(threshold: dict[str, Any]) -> list[str]:
    """Return a warning where a threshold of `choose` reaches the wish, but on too few images to show it for others."""
    ((metric, wished),) = threshold["wish"].items()
    if threshold["low"] >= wished:
        return []
    return [
        f"`{metric}_at_least={wished:g}`: reached on the images held out ({threshold[metric]:.3f}), but not shown: "
        f"the 95 % interval begins at {threshold['low']:.3f}. More images would narrow it"
    ]


def decide(
    probabilities: NDArray[np.float64], classes: Sequence[str], threshold: dict[str, Any] | None
) -> NDArray[np.int64]:
    """Return the class that each image is given, (n,): by the threshold if there is one, else the most probable.

    `probabilities` are (n, K), `threshold` is as `of_record` returns it.
    """
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1), np.int64)
    code = list(classes).index(threshold["positive"])
    return np.where(probabilities[:, code] >= threshold["value"], code, 1 - code)


def of_record(record: dict[str, Any], directory: Path) -> dict[str, Any] | None:
    """Return the threshold in the record of a head or a model, or None; ArtefactError if it is damaged."""
    threshold = record.get("threshold")
    if threshold is None:
        return None
    fits = (
        isinstance(threshold, dict) and len(record["classes"]) == 2 and threshold.get("positive") in record["classes"]
    )
    value = threshold.get("value") if fits else None
    if not isinstance(value, float) or not 0 <= value <= 1:
        raise ArtefactError(
            f"{directory}: expected a threshold with one of two classes and a value from 0 to 1, received "
            f"{threshold!r}; make it again"
        )
    return dict(threshold)


def _curve(
    probability: NDArray[np.float64], actual: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return thresholds halfway between the probabilities that occur, with the recall and the precision at each."""
    distinct = np.unique(probability)
    below = np.concatenate([[0.0], distinct[:-1]])
    values = (distinct + below) / 2
    ordered = np.sort(probability[actual])
    hits = len(ordered) - np.searchsorted(ordered, distinct, "left")
    given = len(probability) - np.searchsorted(np.sort(probability), distinct, "left")
    return values, hits / len(ordered), hits / given
