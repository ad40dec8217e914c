"""How good the predictions are, and how far each number can be trusted: every metric with its 95 % interval.

The intervals answer: had other test images been drawn from the same population, what would this head have got?

* **Proportions** (accuracy, precision, recall): the score interval of Wilson (1927), modified for few mistakes as
  `intervals.proportion` says.
* **ROC AUC**: the variance of DeLong et al. (1988) on the scale of log odds; see `score_intervals.auc_interval`.
* **The rest** (balanced accuracy, macro F1, F1, log loss): the bias-corrected and accelerated bootstrap (BCa) of Efron
  (1987) over the test images.
* A bootstrap cannot draw an error that the test split does not hold: without any error the interval of F1 would be
  [1, 1], and with few it would be far too short. So each bootstrap interval is **widened to cover a score interval**,
  which knows of errors unseen: for F1 Wilson's, by way of the Jaccard index; for balanced accuracy and macro F1
  Wilson's with the effective number of images of Korn and Graubard (1998); for log loss, at its upper end, as many
  errors as Wilson allows. With many errors the two agree, and widening changes little. With few the interval errs on
  the long side.

How often these intervals held the truth in simulated test splits is in docs/measurements.md; `benchmarks/coverage.py`
counts again. Counts of mistakes are whole, so with few of them no interval of accuracy holds the truth in just 0.95 of
all splits: at 200 images and 0.995 it can be 0.920 or 0.981 and nothing between. There the intervals are meant to err
on the long side.

Every bootstrapped metric is a function of sums over the images. A resample only changes how often an image counts, so
one matrix product gives these sums for a whole block of resamples, and a subtraction gives them for all the jackknife.

References
----------
.. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927) 209-212.
.. [2] B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987) 171-185.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from pipeline.stats.intervals import bca, proportion, weights
from pipeline.stats.score_intervals import (
    auc_interval,
    balanced_accuracy,
    effective_wilson,
    log_losses,
    macro_f1,
    score_f1,
    score_log_loss,
)
from pipeline.types import Codes, Floats

OVERALL: Final = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc")
PER_CLASS: Final = ("precision", "recall", "f1")


def measure(
    actual: Codes,
    probabilities: Floats,
    classes: Sequence[str],
    *,
    seed: int,
    resamples: int,
    predicted: Codes | None = None,
) -> dict[str, Any]:
    """Measure predictions against the truth.

    Parameters
    ----------
    actual : ndarray of int, shape (n,)
        Codes of the true classes, 0 to K - 1; n is at least 1.
    probabilities : ndarray of float, shape (n, K)
        Rows sum to 1.
    classes : sequence of str
        The K labels, K at least 2.
    seed : int
        Of the bootstrap.
    resamples : int
        Of the bootstrap; 2,000 make its noise small beside the intervals.
    predicted : ndarray of int, shape (n,), or None
        The class that each image was given, where a threshold gave it; None is the most probable one, the first of
        equals.

    Returns
    -------
    dict
        JSON-able::

            {"n": n, "accuracy": estimate, "balanced_accuracy": …, "macro_f1": …, "log_loss": …, "roc_auc": …,
             "classes": {label: {"n": images of the class, "precision": estimate, "recall": …, "f1": …}}}

        An estimate is ``{"value": v, "low": l, "high": h}``, fractions from 0 to 1 (log loss: nats, from 0). What is
        not defined is ``{"value": None, "low": None, "high": None, "reason": text}``.

    Notes
    -----
    Balanced accuracy is the mean recall of the classes that have test images, macro F1 the mean F1 of those that have
    test images or predictions, and ROC AUC of three or more classes the mean over one-vs-rest, all as in scikit-learn.
    Of two classes it is that of the second against the first. It is not defined where a class has no test image.
    """
    given = probabilities.argmax(axis=1) if predicted is None else predicted
    matrix = confusion(actual, given, len(classes))
    support, correct, taken = matrix.sum(axis=1), np.diagonal(matrix), matrix.sum(axis=0)
    columns = _columns(actual, probabilities, given)
    bootstrap = _Bootstrap(columns, lambda sums: _statistics(sums, len(classes)), seed=seed, resamples=resamples)

    absent = [label for label, images in zip(classes, support, strict=True) if not images]
    no_area = f"no test image of {', '.join(absent)}" if absent else ""
    n = len(actual)
    overall = {
        "accuracy": _proportion(int(correct.sum()), n, "no test image"),
        "balanced_accuracy": bootstrap.estimate(0, effective_wilson(matrix, balanced_accuracy)),
        "macro_f1": bootstrap.estimate(1, effective_wilson(matrix, macro_f1)),
        "log_loss": bootstrap.estimate(2, score_log_loss(actual, probabilities)),
        "roc_auc": _undefined(no_area) if absent else roc_auc(actual, probabilities),
    }
    per_class = {
        label: {
            "n": int(support[k]),
            "precision": _proportion(int(correct[k]), int(taken[k]), "no image was given this class"),
            "recall": _proportion(int(correct[k]), int(support[k]), "no test image of this class"),
            "f1": bootstrap.estimate(3 + k, score_f1(correct[k], support[k] + taken[k]))
            if support[k] + taken[k]
            else _undefined("no test image of this class, and none was given it"),
        }
        for k, label in enumerate(classes)
    }
    return {"n": n, **overall, "classes": per_class}


def confusion(actual: Codes, predicted: Codes, k: int) -> Codes:
    """Count images by actual class (row) and predicted class (column), codes (n,) from 0 to k - 1: int64 (k, k)."""
    return np.bincount(actual * k + predicted, minlength=k * k).reshape(k, k)


def roc_auc(actual: Codes, probabilities: Floats) -> dict[str, Any]:
    """Return the estimate of AUC, as `measure` does; every class has an image.

    An image's placement under a class is, if it is of the class, the share of the others that it outranks, else the
    share of the class that outranks it. Their mean over the images of the class is its AUC.
    """
    n, k = probabilities.shape
    placements, areas = np.full((n, k), np.nan), np.full(k, np.nan)
    # The two AUC of two classes are one and the same, but for rounding.
    for label in range(k) if k > 2 else (1,):
        inside = actual == label
        ours, theirs = probabilities[inside, label], probabilities[~inside, label]
        placements[inside, label] = _outranked(ours, theirs)
        placements[~inside, label] = 1 - _outranked(theirs, ours)
        areas[label] = placements[inside, label].mean()
    low, high = auc_interval(areas, actual, placements)
    return {"value": float(np.nanmean(areas)), "low": float(low), "high": float(high)}


class _Bootstrap:
    """The statistics of a sample, of its resamples and of its jackknife, computed once for all metrics.

    Parameters
    ----------
    columns : ndarray, shape (n, c)
        What each image adds to the sums.
    statistics : callable
        From sums of shape (…, c) to statistics of shape (…, s).
    seed, resamples : int
        Of the bootstrap.
    """

    def __init__(self, columns: Floats, statistics: Callable[[Floats], Floats], *, seed: int, resamples: int) -> None:
        total = columns.sum(axis=0)
        sums = [block @ columns for block in weights(len(columns), seed=seed, resamples=resamples)]
        self.values = statistics(total)
        self.resampled = statistics(np.concatenate(sums))
        self.jackknife = statistics(total - columns)

    def estimate(self, which: int, score: tuple[float, float]) -> dict[str, Any]:
        """Return the estimate of one statistic, its interval widened to cover `score`."""
        value = float(self.values[which])
        low, high = bca(value, self.resampled[:, which], self.jackknife[:, which])
        return {"value": value, "low": float(min(low, score[0], value)), "high": float(max(high, score[1], value))}


def _columns(actual: Codes, probabilities: Floats, predicted: Codes) -> Floats:
    """Return what each image adds to the sums, (n, 3 K + 1).

    The columns: is of class k (K of them), is rightly given class k, is given class k, its log loss.
    """
    k = probabilities.shape[1]
    of_class, given = np.eye(k)[actual], np.eye(k)[predicted]
    return np.hstack([of_class, of_class * given, given, log_losses(actual, probabilities)[:, None]])


def _outranked(scores: Floats, others: Floats) -> Floats:
    """Return for each score the share of `others` below it; equals count one half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(others))


def _statistics(sums: Floats, k: int) -> Floats:
    """Return balanced accuracy, macro F1, log loss and each F1, (…, 3 + K), from sums (…, 3 K + 1).

    What is not defined is NaN.
    """
    support, correct, predicted, loss = np.split(sums, [k, 2 * k, 3 * k], axis=-1)
    n = support.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        f1 = 2 * correct / (support + predicted)
        means = [_mean(correct / support), _mean(f1), loss[..., 0] / n]
    return np.concatenate([np.stack(means, axis=-1), f1], axis=-1)


def _mean(values: Floats) -> Floats:
    """Return the mean of the last axis over what is defined; NaN if nothing is."""
    defined = np.isfinite(values)
    mean: Floats = np.where(defined, values, 0.0).sum(axis=-1) / defined.sum(axis=-1)
    return mean


def _proportion(hits: int, n: int, undefined: str) -> dict[str, Any]:
    if not n:
        return _undefined(undefined)
    low, high = proportion(hits, n)
    return {"value": hits / n, "low": low, "high": high}


def _undefined(reason: str) -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "reason": reason}
