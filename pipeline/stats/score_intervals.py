"""Score intervals of the metrics that are no proportion: F1, log loss, balanced accuracy, macro F1 and AUC.

References
----------
.. [1] E. L. Korn, B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts
   estimated from survey data", Survey Methodology 24 (1998) 193-201.
.. [2] R. G. Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2",
   Statistics in Medicine 25 (2006) 559-573, method 5.
.. [3] J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC)
   curve", Radiology 143 (1982) 29-36.
.. [4] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver
   operating characteristic curves: a nonparametric approach", Biometrics 44 (1988) 837-845.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from pipeline.stats.intervals import Z, farthest, wilson
from pipeline.types import Codes, Floats

_SMALLEST: Final = float(np.finfo(np.float64).eps)  # a probability of 0 counts as this in log loss, as in scikit-learn
LARGEST_LOSS: Final = float(-np.log(_SMALLEST))
RARE: Final = 0.5  # of an even share of the images: DeLong's variance of AUC is too small where a class has fewer


def log_losses(actual: Codes, probabilities: Floats) -> Floats:
    """Return each image's log loss, (n,), in nats."""
    chosen = probabilities[np.arange(len(actual)), actual]
    return -np.log(np.clip(chosen, _SMALLEST, 1.0))


def score_f1(correct: int, actual_and_predicted: int) -> tuple[float, float]:
    """Return a score interval of F1, by way of J = TP / (TP + FP + FN), a proportion: F1 = 2 J / (1 + J)."""
    union = int(actual_and_predicted - correct)
    low, high = wilson(int(correct) / union, union)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def score_log_loss(actual: Codes, probabilities: Floats) -> tuple[float, float]:
    """Return the mean log loss, and what it would be with as many errors as Wilson's interval allows.

    Those errors cost what the errors of the sample cost on average, with one more among them that costs what the
    probabilities themselves say an error costs: the expected loss of a wrong prediction, were they right.
    """
    n = len(actual)
    loss, guess = log_losses(actual, probabilities), probabilities.argmax(axis=1)
    wrong = guess != actual
    unlikely = probabilities.copy()
    unlikely[np.arange(n), guess] = 0
    chance = max(float(unlikely.sum()), _SMALLEST)
    expected = float(-np.sum(unlikely * np.log(np.clip(unlikely, _SMALLEST, 1.0)))) / chance
    of_wrong = (float(loss[wrong].sum()) + expected) / (np.count_nonzero(wrong) + 1)
    of_right = float(loss[~wrong].mean()) if not wrong.all() else 0.0
    _, errors = wilson(np.count_nonzero(wrong) / n, n)
    return float(loss.mean()), (1 - errors) * of_right + errors * of_wrong


def effective_wilson(matrix: Codes, metric: Callable[[Floats], tuple[float, Floats]]) -> tuple[float, float]:
    """Return Wilson's interval of a metric, with as many images as would give a proportion the metric's variance [1]_.

    The variance is that of the delta method. It is taken where each class has one right and one wrong image more, since
    without errors it would be zero; the share of the numbers is what matters, and that it leaves nearly as it was.
    `metric` is given a confusion matrix (K, K), and returns the metric and its derivatives by each count, (K, K).
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


def balanced_accuracy(counts: Floats) -> tuple[float, Floats]:
    """Return the mean recall of a confusion matrix, and its derivatives by each count, (K, K)."""
    support = counts.sum(axis=1)
    there = support > 0
    of = np.where(there, support, 1.0)
    recall = np.diagonal(counts) / of
    slopes = (np.eye(len(counts)) - recall[:, None]) / of[:, None] / there.sum()
    return float(recall[there].mean()), slopes


def macro_f1(counts: Floats) -> tuple[float, Floats]:
    """Return the mean F1 of a confusion matrix, and its derivatives by each count, (K, K)."""
    both = counts.sum(axis=0) + counts.sum(axis=1)
    f1 = 2 * np.diagonal(counts) / both
    part = f1 / both
    slopes = (2 * np.eye(len(counts)) / both - part[:, None] - part[None, :]) / len(counts)
    return float(f1.mean()), slopes


def auc_interval(areas: Floats, actual: Codes, placements: Floats) -> tuple[float, float]:
    """Return the interval of the mean AUC over classes: DeLong's variance [4]_ on the scale of log odds.

    Each image counts once, with the mean over the classes of its influence on their AUC, so that what the K one-vs-rest
    AUC have in common is counted, too. Log odds keep the interval within 0 and 1, and let it be lopsided near 1. The
    AUC is drawn towards 1/2 by half a pair of images. Where every AUC is 1, or a class is rare (`RARE`), the images do
    not tell how far the AUC can vary, and the interval is Newcombe's (`score_auc`), which is long there.

    Parameters
    ----------
    areas : ndarray of shape (K,)
        AUC of each class against the rest; NaN where it does not count.
    actual : ndarray of shape (n,)
        Codes of the true classes; each has an image.
    placements : ndarray of shape (n, K)
        Of an image of class k the share of the others that it outranks; of another image the share of class k that
        outranks it.
    """
    n, here = len(actual), np.isfinite(areas)
    value, support = float(areas[here].mean()), np.bincount(actual, minlength=len(areas))
    of_class = actual[:, None] == np.arange(len(areas))
    share = np.where(of_class, support, n - support)
    influence = ((placements - areas) / share)[:, here].mean(axis=1)
    variance = float(influence @ influence) * n / max(n - 1, 1)
    if not variance or support.min() < RARE * n / len(areas):
        return score_auc(areas, support)
    pairs = float((support * (n - support))[here].sum())
    drawn = (value * pairs + 0.5) / (pairs + 1)
    log_odds, half = np.log(drawn / (1 - drawn)), Z * np.sqrt(variance) / (drawn * (1 - drawn))
    low, high = 1 / (1 + np.exp(half - log_odds)), 1 / (1 + np.exp(-half - log_odds))
    return min(low, value), max(high, value)


def score_auc(areas: Floats, support: Codes) -> tuple[float, float]:
    """Return Newcombe's pseudo-score interval of the mean AUC [2]_.

    It holds the AUC that lie within 1.96 of their own standard errors from the one observed. The standard error is
    that of [3]_, with the mean of both numbers of images less one for each of them, as in [2]_; the K one-vs-rest AUC
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
