"""Which of many cuts and poolings to take: the cheapest of those that do as well as the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import metrics

BYTES: Final = 2  # of one feature: pooled ones are kept as float16
DIFFERENT: Final = 1.0  # standard errors


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
    """A candidate, and which images of the sample its head got right without having seen them, of shape (n,), bool."""

    candidate: Candidate
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        """The fraction of the sample that is right."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return metrics.wilson(self.accuracy, len(self.right))


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The candidate to take, the one with the most images right, and why, in a sentence."""

    chosen: Judged
    best: Judged
    why: str

    @property
    def figures(self) -> dict[str, Any]:
        """What it rests on, JSON-able."""
        return {"images": len(self.chosen.right), "chosen": _figures(self.chosen), "best": _figures(self.best)}


def standard_errors(better: NDArray[np.bool_], worse: NDArray[np.bool_]) -> float:
    """Return by how many standard errors two heads differ on the same images.

    This is McNemar's statistic with its sign: only the images that one head has right and the other wrong count, and
    did the two not differ, each of these would fall on either side with probability one half.

    Parameters
    ----------
    better, worse : ndarray of shape (n,), bool
        Which images each head got right.
    """
    gained, lost = np.count_nonzero(better & ~worse), np.count_nonzero(worse & ~better)
    return (gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0


def recommend(judged: Sequence[Judged]) -> Recommendation:
    """Take the cheapest candidate that does not differ from the best one.

    Of those that are cheaper than the best and within one standard error of it on the same images, it is the one with
    the fewest multiply-adds, and of several such the one with the fewest bytes; if there is none, the best itself.

    Parameters
    ----------
    judged : sequence of Judged
        At least one, all on the same images.
    """
    cost = [(one.candidate.multiply_adds, one.candidate.bytes) for one in judged]
    order = sorted(range(len(judged)), key=cost.__getitem__)
    best = max((judged[place] for place in order), key=lambda one: one.accuracy)
    for place in order:
        one = judged[place]
        if one.candidate.cheaper_than(best.candidate) and standard_errors(best.right, one.right) <= DIFFERENT:
            return Recommendation(one, best, _why(one, best))
    return Recommendation(best, best, _why(best, best))


def _why(chosen: Judged, best: Judged) -> str:
    one, low, high = chosen.accuracy, *chosen.interval
    of = "" if chosen.candidate.cut == chosen.candidate.layer else f" ({chosen.candidate.layer})"
    where = f"{chosen.candidate.cut}{of} with {chosen.candidate.pooling}"
    said = f"{where} has {one:.3f} ({low:.3f} to {high:.3f}) of {len(chosen.right):,} images right"
    if chosen is best:
        return f"{said}, and nothing cheaper does as well"
    ours, theirs = chosen.candidate, best.candidate
    saved = []
    if ours.multiply_adds < theirs.multiply_adds:
        saved.append(f"{1 - ours.multiply_adds / theirs.multiply_adds:.0%} fewer multiply-adds")
    if ours.bytes < theirs.bytes:
        saved.append(f"{ours.bytes:,} instead of {theirs.bytes:,} bytes an image")
    return f"{said}; the best, {_named(theirs)}, has {best.accuracy:.3f}, no clear difference for {' and '.join(saved)}"


def _named(candidate: Candidate) -> str:
    return f"{candidate.cut} with {candidate.pooling}"


def _figures(judged: Judged) -> dict[str, Any]:
    candidate, (low, high) = judged.candidate, judged.interval
    return {
        "cut": candidate.cut,
        "layer": candidate.layer,
        "pooling": candidate.pooling,
        "accuracy": judged.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "features": candidate.features,
        "bytes": candidate.bytes,
        "multiply_adds": candidate.multiply_adds,
    }
