"""How good the predictions are, and how far each number can be trusted: every metric with its 95 % interval.

The intervals answer: had other test images been drawn from the same population, what would this head have got?

* **Proportions** (accuracy, precision, recall): the score interval of Wilson (1927), modified for few mistakes as
  `intervals.proportion` says.
* **The rest** (balanced accuracy, macro F1, F1, ROC AUC, log loss): the bias-corrected and accelerated bootstrap (BCa)
  of Efron (1987) over the test images.
* A bootstrap cannot draw an error that the test split does not hold: without any error the interval of F1 would be
  [1, 1], and with few it would be far too short. So each bootstrap interval is **widened to cover a score interval**,
  which knows of errors unseen: for F1 Wilson's, by way of the Jaccard index; for balanced accuracy and macro F1
  Wilson's with the effective number of images of Korn and Graubard (1998); for AUC the pseudo-score interval of
  Newcombe (2006); for log loss, at its upper end, as many errors as Wilson allows. With many errors the two agree, and
  widening changes little. With few the interval errs on the long side.

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
.. [3] E. L. Korn, B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts
   estimated from survey data", Survey Methodology 24 (1998) 193-201.
.. [4] R. G. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
   Statistics in Medicine 25 (2006) 559-573, method 5.
.. [5] J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
   curve", Radiology 143 (1982) 29-36.
.. [6] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver
   operating characteristic curves: a nonparametric approach", Biometrics 44 (1988) 837-845.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stats.intervals import Z, bca, farthest, proportion, weights, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OVERALL: Final = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "roc_auc")
PER_CLASS: Final = ("precision", "recall", "f1")

_SMALLEST: Final = float(np.finfo(np.float64).eps)  # a probability of 0 counts as this in log loss, as in scikit-learn


def measure(
    actual: Ints,
    probabilities: Floats,
    classes: Sequence[str],
    *,
    seed: int,
    resamples: int,
    predicted: Ints | None = None,
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
    columns, areas = _columns(actual, probabilities, given)
    bootstrap = _Bootstrap(columns, lambda sums: _statistics(sums, areas), seed=seed, resamples=resamples)

    absent = [label for label, images in zip(classes, support, strict=True) if not images]
    no_area = f"no test image of {', '.join(absent)}" if absent else ""
    n = len(actual)
    overall = {
        "accuracy": _proportion(int(correct.sum()), n, "no test image"),
        "balanced_accuracy": bootstrap.estimate(0, _effective_wilson(matrix, _balanced_accuracy)),
        "macro_f1": bootstrap.estimate(1, _effective_wilson(matrix, _macro_f1)),
        "log_loss": bootstrap.estimate(2, _score_log_loss(actual, probabilities)),
        "roc_auc": _undefined(no_area) if absent else bootstrap.estimate(3, _score_auc(areas, support)),
    }
    per_class = {
        label: {
            "n": int(support[k]),
            "precision": _proportion(int(correct[k]), int(taken[k]), "no image was given this class"),
            "recall": _proportion(int(correct[k]), int(support[k]), "no test image of this class"),
            "f1": bootstrap.estimate(4 + k, _score_f1(correct[k], support[k] + taken[k]))
            if support[k] + taken[k]
            else _undefined("no test image of this class, and none was given it"),
        }
        for k, label in enumerate(classes)
    }
    return {"n": n, **overall, "classes": per_class}


def confusion(actual: Ints, predicted: Ints, k: int) -> Ints:
    """Count images by actual class (row) and predicted class (column).

    Parameters
    ----------
    actual, predicted : ndarray of int, shape (n,)
        Codes from 0 to k - 1.
    k : int
        Number of classes.

    Returns
    -------
    ndarray of int64, shape (k, k)
    """
    return np.bincount(actual * k + predicted, minlength=k * k).reshape(k, k)


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


def _columns(actual: Ints, probabilities: Floats, predicted: Ints) -> tuple[Floats, Floats]:
    """Return what each image adds to the sums, (n, 5 K + 1), and the AUC of each class against the rest, (K,).

    The columns: is of class k (K of them), is rightly given class k, is given class k, its log loss, and the two
    components of AUC [6]_ (of an image of class k the share of the others that it outranks; of another image the share
    of class k that outranks it).
    """
    n, k = probabilities.shape
    of_class = np.eye(k)[actual]
    given = np.eye(k)[predicted]
    loss = _log_loss(actual, probabilities)[:, None]
    wins = np.zeros((n, k))
    losses = np.zeros((n, k))
    # The two AUC of two classes are one and the same, but for rounding.
    for label in range(k) if k > 2 else (1,):
        inside = actual == label
        ours, theirs = probabilities[inside, label], probabilities[~inside, label]
        if len(ours) and len(theirs):
            wins[inside, label] = _outranked(ours, theirs)
            losses[~inside, label] = 1 - _outranked(theirs, ours)
    with np.errstate(invalid="ignore"):
        areas = wins.sum(axis=0) / of_class.sum(axis=0)
    if k == 2:
        areas[0] = np.nan
    return np.hstack([of_class, of_class * given, given, loss, wins, losses]), areas


def _log_loss(actual: Ints, probabilities: Floats) -> Floats:
    """Return each image's log loss, (n,), in nats."""
    chosen = probabilities[np.arange(len(actual)), actual]
    return -np.log(np.clip(chosen, _SMALLEST, 1.0))


def _outranked(scores: Floats, others: Floats) -> Floats:
    """Return for each score the share of `others` below it; equals count one half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(others))


def _statistics(sums: Floats, areas: Floats) -> Floats:
    """Return balanced accuracy, macro F1, log loss, AUC and each F1, (…, 4 + K), from sums (…, 5 K + 1).

    What is not defined is NaN.

    AUC is that of the sample plus the change of its components: first order in the weights, which leaves out a term
    smaller by the square root of the number of images, and spares a sort for each class and resample.
    """
    k = len(areas)
    support, correct, predicted, loss, wins, losses = np.split(sums, [k, 2 * k, 3 * k, 3 * k + 1, 4 * k + 1], axis=-1)
    n = support.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = correct / support
        f1 = 2 * correct / (support + predicted)
        area = wins / support + losses / (n - support) - areas
        means = [_mean(recall), _mean(f1), loss[..., 0] / n[..., 0], np.clip(_mean(area), 0, 1)]
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


def _score_f1(correct: int, actual_and_predicted: int) -> tuple[float, float]:
    """Return a score interval of F1, by way of J = TP / (TP + FP + FN), a proportion: F1 = 2 J / (1 + J)."""
    union = int(actual_and_predicted - correct)
    low, high = wilson(int(correct) / union, union)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def _score_log_loss(actual: Ints, probabilities: Floats) -> tuple[float, float]:
    """Return the mean log loss, and what it would be with as many errors as Wilson's interval allows.

    Those errors cost what the errors of the sample cost on average, with one more among them that costs what the
    probabilities themselves say an error costs: the expected loss of a wrong prediction, were they right.
    """
    n = len(actual)
    loss, guess = _log_loss(actual, probabilities), probabilities.argmax(axis=1)
    wrong = guess != actual
    unlikely = probabilities.copy()
    unlikely[np.arange(n), guess] = 0
    chance = max(float(unlikely.sum()), _SMALLEST)
    expected = float(-np.sum(unlikely * np.log(np.clip(unlikely, _SMALLEST, 1.0)))) / chance
    of_wrong = (float(loss[wrong].sum()) + expected) / (np.count_nonzero(wrong) + 1)
    of_right = float(loss[~wrong].mean()) if not wrong.all() else 0.0
    _, errors = wilson(np.count_nonzero(wrong) / n, n)
    return float(loss.mean()), (1 - errors) * of_right + errors * of_wrong


def _effective_wilson(matrix: Ints, metric: Callable[[Floats], tuple[float, Floats]]) -> tuple[float, float]:
    """Return Wilson's interval of a metric, with as many images as would give a proportion the metric's variance [3]_.

    The variance is that of the delta method. It is taken where each class has one right and one wrong image more, since
    without errors it would be zero; the share of the numbers is what matters, and that it leaves nearly as it was.

    Parameters
    ----------
    matrix : ndarray of int, shape (K, K)
        Confusion matrix.
    metric : callable
        From a confusion matrix to the metric and its derivatives by each count, (K, K).
    """
    seen = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    counts = matrix[np.ix_(seen, seen)].astype(np.float64)
    value, _ = metric(counts)
    k = len(counts)
    if k > 1:
        counts += np.where(np.eye(k, dtype=bool), 1.0, 1 / (k - 1))
    smooth, slopes = metric(counts)
    variance = float(np.sum(counts * slopes**2)) * counts.sum() / matrix.sum()
    return wilson(value, smooth * (1 - smooth) / variance if variance else float(matrix.sum()))


def _balanced_accuracy(counts: Floats) -> tuple[float, Floats]:
    support = counts.sum(axis=1)
    there = support > 0
    of = np.where(there, support, 1.0)
    recall = np.diagonal(counts) / of
    slopes = (np.eye(len(counts)) - recall[:, None]) / of[:, None] / there.sum()
    return float(recall[there].mean()), slopes


def _macro_f1(counts: Floats) -> tuple[float, Floats]:
    both = counts.sum(axis=0) + counts.sum(axis=1)
    f1 = 2 * np.diagonal(counts) / both
    part = f1 / both
    slopes = (2 * np.eye(len(counts)) / both - part[:, None] - part[None, :]) / len(counts)
    return float(f1.mean()), slopes


def _score_auc(areas: Floats, support: Ints) -> tuple[float, float]:
    """Return Newcombe's pseudo-score interval of the mean AUC [4]_.

    It holds the AUC that lie within 1.96 of their own standard errors from the one observed. The standard error is
    that of [5]_, with the mean of both numbers of images less one for each of them, as in [4]_; the K one-vs-rest AUC
    count as independent.
    """
    here = np.isfinite(areas)
    value, k = float(areas[here].mean()), int(here.sum())
    positive = support[here].astype(np.float64)
    negative = support.sum() - positive
    pairs, surplus = positive * negative, (positive + negative) / 2 - 1

    def accepts(area: float) -> bool:
        factor = 1 + surplus * ((1 - area) / (2 - area) + area / (1 + area))
        error = np.sqrt(np.sum(area * (1 - area) * factor / pairs)) / k
        return bool(abs(area - value) <= Z * error)

    return farthest(value, 0.0, accepts), farthest(value, 1.0, accepts)
