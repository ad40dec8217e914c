"""Which of many cuts and poolings to take: the base's top, unless another is *shown* to be better or no worse.

Two things count as shown, each corrected for the number of candidates, so that the chance that any candidate is wrongly
shown stays below 1 - confidence:

* *Better*: the squared errors of its quick head are smaller on the same images, by Student's paired t-test, and it gets
  no fewer images right. Squared errors and not accuracies, since these count the few images on which a decision flips,
  those weigh how sure the head was on every image, so that the same sample tells more apart.
* *Not worse*: the lower confidence bound of the difference in accuracy (Tango's) is not below minus the margin. A test
  that finds no difference shows nothing of the kind: with few images no test finds any.

Three things keep few images from showing much.

* Heads that leave one image out share nearly all their training images, so their errors depend on one another. Nadeau
  and Bengio [1]_ give the variance of a mean difference as s² (1/n + images held out / images trained on): here twice
  the usual one.
* On fewer than `FEWEST` images nothing is shown: in simulated data sets of 12 and 24 images, the share in which a top
  that was best was left came to 0.08 in spite of all, from 50 images on to 0.035 (`benchmarks/cut_choice.py`).
* A candidate must also be shown to be better than chance, the frequencies of the classes: where a sample holds no
  signal, all errors of a candidate lean to one side together.

References
----------
.. [1] C. Nadeau, Y. Bengio, "Inference for the generalization error", Machine Learning 52 (2003) 239-281.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.features.settings import Proof
from pipeline.stats import intervals, paired_tests

BYTES: Final = 2  # of one feature: pooled ones are kept as float16
FEWEST: Final = 40  # images; on fewer nothing is shown
OVERLAP: Final = math.sqrt(2)  # Nadeau and Bengio's correction of a standard error, one image held out at a time

Floats = NDArray[np.float64]
Shown = Literal["better", "not worse", "nothing"]


def error_level(proof: Proof, comparisons: int) -> float:
    """Return the one-sided error that each of so many comparisons may have (Bonferroni)."""
    return (1 - proof.confidence) / max(comparisons, 1)


def images_for_margin(proof: Proof, comparisons: int) -> int:
    """Return the fewest images on which two candidates that never disagree are shown to be within the margin."""
    z = bound_quantile(proof, comparisons)
    return math.ceil(z**2 * (1 - proof.margin) / proof.margin)


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


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The candidate to take, the base's top, how each candidate did beside it, and why, in a sentence or two."""

    chosen: Judged
    top: Judged
    differences: list[Difference]
    proof: Proof
    why: str

    @property
    def figures(self) -> dict[str, Any]:
        """What it rests on, JSON-able."""
        return {
            "images": len(self.chosen.right),
            "candidates": len(self.differences),
            "margin": self.proof.margin,
            "confidence": self.proof.confidence,
            "chosen": _figures(self.chosen),
            "top": _figures(self.top),
        }


def compare(one: Judged, reference: Judged, chance: Floats, proof: Proof, comparisons: int) -> Difference:
    """Say how a candidate did beside a reference, and what that shows.

    Parameters
    ----------
    one, reference : Judged
        On the same images.
    chance : ndarray of shape (n,)
        As `chance` returns it, for these images.
    proof : Proof
    comparisons : int
        Among how many candidates this one may be picked.
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

    Parameters
    ----------
    worse, better : ndarray of shape (n,)
        The squared errors of each image. Positive is the result if `worse` has more. It is 0 for a single image.
    """
    difference = worse - better
    if len(difference) < 2:
        return 0.0
    spread = OVERLAP * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    mean = float(difference.mean())
    return mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0


def recommend(judged: Sequence[Judged], labels: Sequence[str], *, top: Judged, proof: Proof) -> Recommendation:
    """Take the base's top unless another candidate is shown to be better, or cheaper and not worse.

    The reference is, of those shown to be better than the top, the one with the least squared error; the top itself if
    there is none. Cheaper candidates that are shown to be no worse than the reference, and no worse than the top, are
    preferred to it: the one with the fewest multiply-adds is taken, and of several such the one with the fewest bytes.

    Parameters
    ----------
    judged : sequence of Judged
        All on the same images.
    labels : sequence of str
        Of these images.
    top : Judged
        One of them: what is taken unless another is shown to deserve it.
    proof : Proof
    """
    others, by_chance = len(judged) - 1, chance(labels)
    differences = {id(one): compare(one, top, by_chance, proof, others) for one in judged}
    order = sorted(judged, key=lambda one: (one.candidate.multiply_adds, one.candidate.bytes))
    better = [one for one in order if differences[id(one)].shown == "better"]
    reference = min(better, key=lambda one: one.squared_error, default=top)
    chosen = next(
        (
            one
            for one in order
            if one.candidate.cheaper_than(reference.candidate)
            and differences[id(one)].shown != "nothing"
            and compare(one, reference, by_chance, proof, others).shown != "nothing"
        ),
        reference,
    )
    listed = [differences[id(one)] for one in judged]
    why = _why(chosen, reference, top, listed, list(judged), proof)
    return Recommendation(chosen, top, listed, proof, why)


def _standard_errors_needed(n: int, level: float) -> float:
    """Return Student's quantile; infinity where n images are too few to show anything."""
    from scipy.stats import t

    return float(t.isf(level, n - 1)) if n >= FEWEST else math.inf


def _why(
    chosen: Judged,
    reference: Judged,
    top: Judged,
    differences: Sequence[Difference],
    judged: Sequence[Judged],
    proof: Proof,
) -> str:
    said = (
        f"{_named(chosen.candidate)}: {_share(chosen)} of {len(chosen.right):,} images right, "
        f"squared error {chosen.squared_error:.4f}"
    )
    if len(judged) == 1:
        return f"{said}; there is nothing to compare it with"
    level = f"with {100 * proof.confidence:g} % confidence over {len(judged) - 1} comparisons"
    if chosen is top:
        return f"{said}. {_unshown(top, differences, judged, proof, level)}"
    theirs = f"{_named(top.candidate)} ({_share(top)}, squared error {top.squared_error:.4f})"
    no_worse = f"at most {proof.margin:g} less accurate"
    better = differences[judged.index(chosen)].shown == "better"
    said += f"; shown to be {'better' if better else no_worse} than {theirs} {level}"
    if chosen is reference:
        return f"{said}; nothing cheaper is shown to be {no_worse}"
    if reference is not top:
        said += f", and {no_worse} than the best, {_named(reference.candidate)} ({_share(reference)})"
    return f"{said}, for {_saved(chosen.candidate, reference.candidate)}"


def _unshown(top: Judged, differences: Sequence[Difference], judged: Sequence[Judged], proof: Proof, level: str) -> str:
    """Say why no candidate took the place of the top, and what would have to be seen for another choice."""
    others = [(found, one) for found, one in zip(differences, judged, strict=True) if one is not top]
    nearest, one = max(others, key=lambda pair: pair[0].standard_errors)
    said = (
        f"The top is kept: no other cut or pooling is shown to be better, or cheaper and at most {proof.margin:g} less "
        f"accurate, {level}. Nearest is {_named(one.candidate)} ({_share(one)})"
    )
    if math.isinf(nearest.needed):
        said += f", but fewer than {FEWEST} images show nothing"
    else:
        said += (
            f", its squared error {abs(nearest.standard_errors):.1f} standard errors "
            f"{'smaller' if nearest.standard_errors > 0 else 'larger'}; {nearest.needed:.1f} smaller would show it"
        )
    least = images_for_margin(proof, len(others))
    if len(top.right) < least:
        said += f". A cheaper one can be shown from {least:,} images on"
    return said


def _named(candidate: Candidate) -> str:
    layer = "" if candidate.cut == candidate.layer else f" ({candidate.layer})"
    return f"{candidate.cut}{layer} with {candidate.pooling}"


def _share(judged: Judged) -> str:
    low, high = judged.interval
    return f"{judged.accuracy:.3f} [{low:.3f}, {high:.3f}]"


def _saved(ours: Candidate, theirs: Candidate) -> str:
    saved = []
    if ours.multiply_adds < theirs.multiply_adds:
        saved.append(f"{1 - ours.multiply_adds / theirs.multiply_adds:.0%} fewer multiply-adds")
    if ours.bytes < theirs.bytes:
        saved.append(f"{ours.bytes:,} instead of {theirs.bytes:,} bytes an image")
    return " and ".join(saved)


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
