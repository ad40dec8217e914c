"""From scores to probabilities: one factor, by maximum likelihood on rows that had no part in the scores."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Codes, Floats

LARGEST: Final = 20.0  # of the factor's logarithm, either way
NO_SPREAD: Final = 1e-100  # of scores that tell no class from another


def certainty(y: Codes, n_classes: int) -> Floats:
    """Return how much each code is taken for certain, (n,): (n_k + 1) / (n_k + 2), with n_k rows of its class.

    So Platt, "Probabilistic outputs for support vector machines" (1999), section 2.2.
    """
    counts = np.bincount(y, minlength=n_classes)[y]
    return np.asarray((counts + 1) / (counts + 2))


def fit_factor(scores: Floats, y: Codes, weights: NDArray[np.float64], offset: Floats, sure: Floats) -> float:
    """Return the factor a > 0 for which softmax(a · scores + offset) makes the codes most likely.

    It is the inverse of the temperature of Guo et al., "On calibration of modern neural networks" (2017): one number,
    so that with offsets of 0 no row changes its class. The codes are not taken for certain: the true one counts `sure`,
    and the others share the rest. So the factor stays finite where the classes can be separated.

    Parameters
    ----------
    scores : ndarray of shape (n, K)
        Of rows that had no part in what scores them: each left out in turn.
    y : ndarray of shape (n,)
    weights : ndarray of shape (n,)
        Of the rows; at least one above 0.
    offset : ndarray of shape (K,)
    sure : ndarray of shape (n,)
        Below 1; see `certainty`.

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
    own = np.arange(n), y

    def loss(logarithm: float) -> float:
        logits = np.exp(logarithm) * scores + offset
        true = logits[own]
        others = (logits.sum(axis=1) - true) / (k - 1)
        return float(weights @ (logsumexp(logits, axis=1) - sure * true - (1 - sure) * others))

    # In the logarithm of a factor the loss has one minimum; where it lies depends on the unit of the scores.
    unit = -np.log(spread)
    found = minimize_scalar(
        loss, bounds=(unit - LARGEST, unit + LARGEST), method="bounded", options={"xatol": 1e-9, "maxiter": 200}
    )
    return float(np.exp(found.x))
