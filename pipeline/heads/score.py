"""How a fitted head does on the rows of a split, and whether that is better than a guess."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.head import Head
from pipeline.stats.score_intervals import log_losses
from pipeline.types import Codes


@dataclass(frozen=True)
class Score:
    """How a fitted head does on the rows of one split.

    Attributes
    ----------
    rows : int
        Distinct images.
    accuracy : float
        Fraction of rows whose most probable class is their label.
    loss : float
        Mean of -ln(probability of the label), in nats: unweighted, without the penalties of the fit, and before
        calibration, which is fitted on some of these rows.
    """

    rows: int
    accuracy: float
    loss: float


def score_of(probability: NDArray[np.float64], y: Codes) -> Score:
    """Judge probabilities (n, K) by the codes of n rows."""
    accuracy = float(np.mean(probability.argmax(axis=1) == y))
    return Score(len(y), accuracy, float(log_losses(y, probability).mean()))


def learned_nothing(score: Score, y: Codes, classes: list[str], head: Head) -> list[str]:
    """Return a warning if a head, on rows held out, is right no more often than who always says the commonest class."""
    counts = np.bincount(y, minlength=len(classes))
    share = float(counts.max() / len(y))
    if score.accuracy > share:
        return []
    rare = len(classes) * share > 1.5 and getattr(head, "class_weight", "balanced") is None
    return [
        f"an accuracy of {score.accuracy:.3f} on {len(y):,} images held out is no better than always to say "
        f"{classes[counts.argmax()]!r} ({share:.3f}): nothing was learned that holds for others; try other "
        f"parameters or features{', or `class_weight=balanced`' if rare else ''}"
    ]
