"""Candidates of a cut compared: accuracy, squared error, and whether a difference is shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.features.settings import Proof
from pipeline.stats import intervals, paired_tests
from pipeline.types import Floats

BYTES: Final = 2  # of one feature: pooled ones are kept as float16
FEWEST: Final = 40  # images; on fewer nothing is shown
OVERLAP: Final = math.sqrt(2)  # Nadeau and Bengio's correction of a standard error, one image held out at a time
Shown = Literal["better", "not worse", "nothing"]


def error_level(proof: Proof, comparisons: int) -> float:
    """Return the one-sided error that each of so many comparisons may have (Bonferroni)."""
    return (1 - proof.confidence) / max(comparisons, 1)


def bound_quantile(proof: Proof, comparisons: int) -> float:
    """Return how many standard errors of a proportion a bound lies away, for one of so many comparisons."""
    return OVERLAP * NormalDist().inv_cdf(1 - error_level(proof, comparisons))


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
        One of `pipeline.backbones.cutting.POOLINGS`.
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
    errors: Floats

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


@dataclass(frozen=True)
class Difference:
    """How a candidate did beside a reference, on the same images.

    Attributes
    ----------
    accuracy, accuracy_low : float
        Its accuracy less the reference's, and the lower confidence bound of that, corrected for the comparisons.
    standard_errors : float
        By how many of them its mean squared error is smaller than the reference's.
    needed : float
        By how many it would have to be smaller to be shown to be better; infinite with too few images.
    shown : {"better", "not worse", "nothing"}
        Better implies not worse.
    """

    accuracy: float
    accuracy_low: float
    standard_errors: float
    needed: float
    shown: Shown


def compare(one: Judged, reference: Judged, chance: Floats, proof: Proof, comparisons: int) -> Difference:
    """Say how a candidate did beside a reference, and what that shows.

    Both were judged on the same images, for which `chance` (n,) is as `chance` returns it; `comparisons` is among how
    many candidates this one may be picked.
    """
    n = len(one.right)
    gained = int(np.count_nonzero(one.right & ~reference.right))
    lost = int(np.count_nonzero(reference.right & ~one.right))
    value, low, _ = paired_tests.accuracy_difference(gained, lost, n, z=bound_quantile(proof, comparisons))
    ahead = standard_errors(reference.errors, one.errors)
    needed = _standard_errors_needed(n, error_level(proof, comparisons))
    shown: Shown = "nothing"
    if math.isfinite(needed) and standard_errors(chance, one.errors) >= needed:
        if ahead >= needed and gained >= lost:
            shown = "better"
        elif low >= -proof.margin:
            shown = "not worse"
    return Difference(value, low, ahead, needed, shown)


def chance(labels: Sequence[str]) -> Floats:
    """Return the squared error, (n,), of giving every image the frequencies of the classes."""
    codes, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)[1:]
    shares = counts / len(codes)
    errors: Floats = np.sum(shares**2) - 2 * shares[codes] + 1
    return errors


def standard_errors(worse: Floats, better: Floats) -> float:
    """Return the mean difference of two heads' errors on the same images, in its own standard errors, overlap counted.

    `worse` and `better` are the squared errors of each image, (n,). Positive is the result if `worse` has more. It is 0
    for a single image.
    """
    difference = worse - better
    if len(difference) < 2:
        return 0.0
    spread = OVERLAP * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    mean = float(difference.mean())
    return mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0


def _standard_errors_needed(n: int, level: float) -> float:
    """Return Student's quantile; infinity where n images are too few to show anything."""
    from scipy.special import stdtrit  # scipy.stats takes a second to load

    return -float(stdtrit(n - 1, level)) if n >= FEWEST else math.inf
