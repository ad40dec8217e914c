"""From scores to probabilities: one factor or temperature, by the likelihood of rows that had no part in the scores."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Codes, Floats

LARGEST: Final = 100.0  # of a temperature, and of its inverse: what lies beyond is a mistake in the data
# What the logarithm of a temperature is held to be before any row is seen: normal, with this mean and deviation. Heads
# that nothing has scaled are a little too sure more often than not. `benchmarks/calibration.py` compares others.
CENTRE: Final = 0.1
DEVIATION: Final = 0.5
_STEPS: Final = 37  # of a first search: a head that is far from sure enough may have two minima
_FARTHEST: Final = 20.0  # of a factor's logarithm, either way
_EXACT: Final = 1e-9  # of a logarithm that is searched for
_MOST_STEPS: Final = 200
NO_SPREAD: Final = 1e-100  # of scores that tell no class from another


def fit_temperature(logits: Floats, y: Codes, *, centre: float = CENTRE, deviation: float = DEVIATION) -> float:
    """Return the temperature T under which the labels and T itself are most likely: softmax(logits / T).

    The labels count as certain. Where every row is given its class, ever lower temperatures would be ever more likely;
    the prior on ln T keeps it finite, and with few rows keeps a head that was right nearly as it is.

    Parameters
    ----------
    logits : ndarray of shape (n, K)
        Of rows that had no part in the fit of what gives them, as natural logarithms of odds.
    y : ndarray of shape (n,)
    centre, deviation : float
        Of the normal prior on ln T.

    Returns
    -------
    float
        From 1 / `LARGEST` to `LARGEST`.
    """
    own = np.arange(len(y)), y

    def loss(logarithm: float) -> float:
        cooled = logits * np.exp(-logarithm)
        most = cooled.max(axis=1)
        total = np.log(np.exp(cooled - most[:, None]).sum(axis=1)) + most
        return float(np.sum(total - cooled[own])) + (logarithm - centre) ** 2 / (2 * deviation**2)

    def derivatives(logarithm: float) -> tuple[float, float]:
        cooled = logits * np.exp(-logarithm)
        mean, variance = _moments(cooled, cooled)
        slope = float(np.sum(cooled[own] - mean))
        return slope + (logarithm - centre) / deviation**2, float(variance.sum()) - slope + 1 / deviation**2

    end = np.log(LARGEST)
    steps = np.linspace(-end, end, _STEPS)
    best = int(np.argmin([loss(step) for step in steps]))
    found = _least(derivatives, steps[max(best - 1, 0)], steps[min(best + 1, _STEPS - 1)])
    return float(np.clip(np.exp(found), 1 / LARGEST, LARGEST))


def fit_factor(scores: Floats, y: Codes, weights: NDArray[np.float64], offset: Floats) -> float:
    """Return the factor a > 0 for which softmax(a · scores + offset) makes the codes most likely.

    It is the inverse of the temperature of Guo et al., "On calibration of modern neural networks" (2017): one number,
    so that with offsets of 0 no row changes its class. Scores have no unit that a prior could know. So the codes are
    not taken for certain, else the factor would be infinite where the classes can be separated: of n rows the true one
    counts (n + 1) / (n + 2), and the others share the rest. That is the rate of Platt, "Probabilistic outputs for
    support vector machines" (1999), section 2.2, but of all rows: of each class it is far too modest where there are
    few rows in each.

    Parameters
    ----------
    scores : ndarray of shape (n, K)
        Of rows that had no part in what scores them: each left out in turn.
    y : ndarray of shape (n,)
    weights : ndarray of shape (n,)
        Of the rows; at least one above 0. Those of 0 do not count towards n.
    offset : ndarray of shape (K,)

    Returns
    -------
    float
        1 where the scores tell no class from another: every factor then makes the codes as likely.
    """
    counted = scores[weights > 0]
    spread = float(np.abs(counted - counted.mean(axis=1, keepdims=True)).mean())
    if spread < NO_SPREAD:
        return 1.0
    n, k = scores.shape
    sure = (len(counted) + 1) / (len(counted) + 2)
    own = np.arange(n), y

    def derivatives(logarithm: float) -> tuple[float, float]:
        scaled = np.exp(logarithm) * scores
        mean, variance = _moments(scaled + offset, scaled)
        true = scaled[own]
        others = (scaled.sum(axis=1) - true) / (k - 1)
        slope = float(weights @ (mean - sure * true - (1 - sure) * others))
        return slope, slope + float(weights @ variance)

    # In the logarithm of a factor the loss has one minimum; where it lies depends on the unit of the scores.
    unit = -np.log(spread)
    return float(np.exp(_least(derivatives, unit - _FARTHEST, unit + _FARTHEST)))


def _moments(logits: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance (n,) of each row of values (n, K), whose probabilities are the softmax of its logits."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds /= odds.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nk->n", odds, values)
    return mean, np.einsum("nk,nk->n", odds, (values - mean[:, None]) ** 2)


def _least(derivatives: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Return where a function with one minimum from `low` to `high` is least, given its first two derivatives.

    It takes Newton's steps, and halves what is left of the range where one would leave it. What SciPy has for it takes
    most of a second to load.
    """
    at = (low + high) / 2
    for _ in range(_MOST_STEPS):
        slope, curvature = derivatives(at)
        low, high = (low, at) if slope > 0 else (at, high)
        step = at - slope / curvature if curvature > 0 else high
        before, at = at, step if low < step < high else (low + high) / 2
        if abs(at - before) <= _EXACT:
            break
    return at
