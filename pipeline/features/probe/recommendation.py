"""Which of many cuts and poolings to take: the cheapest of those that do as well as the best.

What does better is told by the squared errors of the quick heads, not by their accuracies: these count the few images
on which a decision flips, those weigh how sure it was on every image, so that the same sample tells more apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stats import intervals

BYTES: Final = 2  # of one feature: pooled ones are kept as float16
DIFFERENT: Final = 1.96  # standard errors: 95 %


@dataclass(frozen=True)
class Candidate:
    """One cut with one pooling.

    Attributes
    ----------
    cut : str
        The portable word of the backbone's table, or else the layer's name.
    layer : str
        The layer's name.
    depth : int
        Place among the cuts that are compared, 1 being the lowest.
    pooling : str
        One of `pipeline.backbones.POOLINGS`.
    features : int
        Numbers an image.
    multiply_adds : int
        Of the trunk, for one image.
    """

    cut: str
    layer: str
    depth: int
    pooling: str
    features: int
    multiply_adds: int

    @property
    def bytes(self) -> int:
        """Of one image's features, as `extract` stores them."""
        return BYTES * self.features

    def cheaper_than(self, other: "Candidate") -> bool:
        """Whether it costs less in multiply-adds or in bytes, and in neither of them more."""
        ours, theirs = (self.multiply_adds, self.bytes), (other.multiply_adds, other.bytes)
        return ours != theirs and ours[0] <= theirs[0] and ours[1] <= theirs[1]


@dataclass(frozen=True, eq=False)
class Judged:
    """A candidate, and how its head did on the sample, each image judged by a head that had not seen it.

    Attributes
    ----------
    candidate : Candidate
    right : ndarray of shape (n,), bool
        Which images were given their class.
    errors : ndarray of shape (n,)
        Squared error of each image.
    """

    candidate: Candidate
    right: NDArray[np.bool_]
    errors: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """The fraction of the sample that is right."""
        return float(self.right.mean())

    @property
    def squared_error(self) -> float:
        """The mean over the sample."""
        return float(self.errors.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return intervals.wilson(self.accuracy, len(self.right))


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The candidate to take, the one with the least squared error, and why, in a sentence."""

    chosen: Judged
    best: Judged
    why: str

    @property
    def figures(self) -> dict[str, Any]:
        """What it rests on, JSON-able."""
        return {"images": len(self.chosen.right), "chosen": _figures(self.chosen), "best": _figures(self.best)}


def standard_errors(worse: NDArray[np.float64], better: NDArray[np.float64]) -> float:
    """Return the mean difference of two heads' errors on the same images, in its own standard errors.

    Parameters
    ----------
    worse, better : ndarray of shape (n,)
        The squared errors of each image. Positive is the result if `worse` has more.
    """
    difference = worse - better
    spread = float(difference.std()) / math.sqrt(len(difference))
    mean = float(difference.mean())
    return mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0


def recommend(judged: Sequence[Judged]) -> Recommendation:
    """Take the cheapest candidate that does not differ from the best one, which has the least squared error.

    Of those that are cheaper than the best and whose errors on the same images are not larger by more than `DIFFERENT`
    standard errors, it is the one with the fewest multiply-adds, and of several such the one with the fewest bytes; if
    there is none, the best itself.

    Parameters
    ----------
    judged : sequence of Judged
        At least one, all on the same images.
    """
    order = sorted(judged, key=lambda one: (one.candidate.multiply_adds, one.candidate.bytes))
    best = min(order, key=lambda one: one.squared_error)
    for one in order:
        if one.candidate.cheaper_than(best.candidate) and standard_errors(one.errors, best.errors) <= DIFFERENT:
            return Recommendation(one, best, _why(one, best))
    return Recommendation(best, best, _why(best, best))


def _why(chosen: Judged, best: Judged) -> str:
    ours, theirs = chosen.candidate, best.candidate
    layer = "" if ours.cut == ours.layer else f" ({ours.layer})"
    low, high = chosen.interval
    said = (
        f"{ours.cut}{layer} with {ours.pooling}: {chosen.accuracy:.3f} ({low:.3f} to {high:.3f}) of "
        f"{len(chosen.right):,} images right, squared error {chosen.squared_error:.4f}"
    )
    if chosen is best:
        return f"{said}; nothing cheaper does as well"
    saved = []
    if ours.multiply_adds < theirs.multiply_adds:
        saved.append(f"{1 - ours.multiply_adds / theirs.multiply_adds:.0%} fewer multiply-adds")
    if ours.bytes < theirs.bytes:
        saved.append(f"{ours.bytes:,} instead of {theirs.bytes:,} bytes an image")
    return (
        f"{said}; no clear difference from the best, {theirs.cut} with {theirs.pooling} ({best.accuracy:.3f}, "
        f"{best.squared_error:.4f}), for {' and '.join(saved)}"
    )


def _figures(judged: Judged) -> dict[str, Any]:
    candidate, (low, high) = judged.candidate, judged.interval
    return {
        "cut": candidate.cut,
        "layer": candidate.layer,
        "pooling": candidate.pooling,
        "accuracy": judged.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "squared_error": judged.squared_error,
        "features": candidate.features,
        "bytes": candidate.bytes,
        "multiply_adds": candidate.multiply_adds,
    }
