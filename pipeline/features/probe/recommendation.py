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
from typing import Any

from pipeline.features.probe.comparison import (
    FEWEST,
    Candidate,
    Difference,
    Judged,
    bound_quantile,
    chance,
    compare,
)
from pipeline.features.settings import Proof
from pipeline.wording import counted, interval


def images_for_margin(proof: Proof, comparisons: int) -> int:
    """Return the fewest images on which two candidates that never disagree are shown to be within the margin."""
    z = bound_quantile(proof, comparisons)
    return math.ceil(z**2 * (1 - proof.margin) / proof.margin)


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


def _why(
    chosen: Judged,
    reference: Judged,
    top: Judged,
    differences: Sequence[Difference],
    judged: Sequence[Judged],
    proof: Proof,
) -> str:
    said = (
        f"{_named(chosen.candidate)}: {_share(chosen)} of {counted(len(chosen.right), 'image')} right, "
        f"squared error {chosen.squared_error:.4f}"
    )
    if len(judged) == 1:
        return f"{said}; there is nothing to compare it with"
    level = f"with {100 * proof.confidence:g} % confidence over {counted(len(judged) - 1, 'comparison')}"
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
    return interval(judged.accuracy, *judged.interval)


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
