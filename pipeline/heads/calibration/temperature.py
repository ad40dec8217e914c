"""From scores to probabilities: one factor or temperature, by the likelihood of rows that had no part in the scores."""

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
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    own = np.arange(len(y)), y

    def loss(logarithm: float) -> float:
        cooled = logits * np.exp(-logarithm)
        prior = (logarithm - centre) ** 2 / (2 * deviation**2)
        return float(np.sum(logsumexp(cooled, axis=1) - cooled[own])) + prior

    end = np.log(LARGEST)
    steps = np.linspace(-end, end, _STEPS)
    best = int(np.argmin([loss(step) for step in steps]))
    around = steps[max(best - 1, 0)], steps[min(best + 1, _STEPS - 1)]
    found = minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-9, "maxiter": 200})
    return float(np.clip(np.exp(found.x), 1 / LARGEST, LARGEST))


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
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    counted = scores[weights > 0]
    spread = float(np.abs(counted - counted.mean(axis=1, keepdims=True)).mean())
    if spread < NO_SPREAD:
        return 1.0
    n, k = scores.shape
    sure = (len(counted) + 1) / (len(counted) + 2)
    own = np.arange(n), y

    def loss(logarithm: float) -> float:
        logits = np.exp(logarithm) * scores + offset
        true = logits[own]
        others = (logits.sum(axis=1) - true) / (k - 1)
        return float(weights @ (logsumexp(logits, axis=1) - sure * true - (1 - sure) * others))

    # In the logarithm of a factor the loss has one minimum; where it lies depends on the unit of the scores.
    unit = -np.log(spread)
    found = minimize_scalar(
        loss, bounds=(unit - _FARTHEST, unit + _FARTHEST), method="bounded", options={"xatol": 1e-9, "maxiter": 200}
    )
    return float(np.exp(found.x))
