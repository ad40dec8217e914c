"""Whether 0.9 means nine in ten: how often images are given their class, beside how sure the probabilities are of it.

Images are put into bins of equal numbers by their confidence, the largest of their probabilities. In each bin the
accuracy is compared with the mean confidence; the mean of the differences, without their signs and over the images, is
the expected calibration error [1]_ [2]_. Bins of equal numbers, and not of equal widths, since nearly all confidences
of a good head lie close to 1 [3]_.

A bin's accuracy differs from its confidence by chance, too, and a mean without signs takes all of that for error. So
the estimate is corrected by the bootstrap: twice the plain one less the mean of those of the resamples, at least 0.
That is about right where there is an error to speak of; where there is none, a part of the bias stays, and the interval
will reach down to 0. The interval is the basic one of the same bootstrap. As resamples know nothing of mistakes that
the images happen not to hold, it is widened to cover what does not depend on bins, and never is more than the
calibration error: the difference of mean confidence and accuracy, over the score interval of the latter.

How far the estimates are from the truth, and how often the interval held it, is in docs/measurements.md;
`benchmarks/calibration.py` computes that table.

References
----------
.. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI
   2015.
.. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.
.. [3] J. Nixon et al., "Measuring calibration in deep learning", CVPR workshops 2019; A. Kumar, P. Liang, T. Ma,
   "Verified uncertainty calibration", NeurIPS 2019, which also names the bias.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stats.intervals import LEVEL, proportion, weights
from pipeline.types import Codes, Floats

BINS: Final = 10
FEWEST_IN_BIN: Final = 20  # images; of fewer there are fewer bins


@dataclass(frozen=True)
class Bin:
    """Images of about the same confidence.

    Attributes
    ----------
    images : int
    least, most : float
        Confidence, from and to.
    confidence : float
        Its mean.
    accuracy, low, high : float
        Share of the images that were given their class, with its 95 % interval.
    """

    images: int
    least: float
    most: float
    confidence: float
    accuracy: float
    low: float
    high: float


def bins(actual: Codes, probabilities: Floats) -> list[Bin]:
    """Return the bins of a reliability diagram, by rising confidence.

    `actual` (n,) are codes of the true classes, n at least 1; `probabilities` are (n, K).
    """
    confidence, right = _judged(actual, probabilities)
    found = []
    for place in _places(confidence):
        sure, hits = confidence[place], int(right[place].sum())
        low, high = proportion(hits, len(sure))
        found.append(
            Bin(len(sure), float(sure.min()), float(sure.max()), float(sure.mean()), hits / len(sure), low, high)
        )
    return found


def calibration_error(actual: Codes, probabilities: Floats, *, seed: int, resamples: int) -> dict[str, Any]:
    """Return the expected calibration error with its 95 % interval, as the module says.

    ``value``, ``low`` and ``high`` are fractions from 0 to 1. `actual` and `probabilities` are as for `bins`; `seed`
    and `resamples` are of the bootstrap.
    """
    confidence, right = _judged(actual, probabilities)
    n, places = len(right), _places(confidence)
    gaps = np.zeros((n, len(places)))
    for column, place in enumerate(places):
        gaps[place, column] = right[place] - confidence[place]
    plain = float(np.abs(gaps.sum(axis=0)).sum()) / n
    resampled = np.concatenate(
        [np.abs(block @ gaps).sum(axis=1) / n for block in weights(n, seed=seed, resamples=resamples)]
    )
    value = max(0.0, 2 * plain - float(resampled.mean()))
    ends = 2 * plain - np.quantile(resampled, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])
    least, most = _overall_gap(float(confidence.mean()), int(right.sum()), n)
    return {
        "value": value,
        "low": float(np.clip(min(ends[0], least), 0.0, value)),
        "high": float(np.clip(max(ends[1], most), value, 1.0)),
    }


def _judged(actual: Codes, probabilities: Floats) -> tuple[Floats, Floats]:
    """Return each image's confidence, and 1 where its most probable class is its own, else 0."""
    given = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(given)), given], (given == actual).astype(np.float64)


def _places(confidence: Floats) -> list[NDArray[np.intp]]:
    """Return the images of each bin. Equal confidences share a bin, so that no order of the images matters."""
    n = len(confidence)
    count = max(1, min(BINS, n // FEWEST_IN_BIN))
    ordered = np.sort(confidence)
    ranks = np.searchsorted(ordered, confidence, "left") + np.searchsorted(ordered, confidence, "right")
    of_image = np.minimum(ranks * count // (2 * n), count - 1)
    return [np.flatnonzero(of_image == number) for number in np.unique(of_image)]


def _overall_gap(confidence: float, hits: int, n: int) -> tuple[float, float]:
    """Return the least and the greatest difference of mean confidence and accuracy, over the interval of the latter."""
    low, high = proportion(hits, n)
    far = max(abs(confidence - low), abs(confidence - high))
    return (0.0 if low <= confidence <= high else min(abs(confidence - low), abs(confidence - high))), far
