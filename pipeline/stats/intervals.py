"""Confidence intervals at 95 %: of one proportion, and by the bootstrap of anything else.

Hits are whole numbers, so no interval of a proportion holds the truth in just 0.95 of all test splits: which ones hold
it jumps from one count of mistakes to the next. At 200 images and a true accuracy of 0.995, two mistakes or fewer occur
in 0.920 of all splits, three or fewer in 0.981, and no interval whatever can hold the truth in a share between the two.

Wilson's interval, as modified by Brown, Cai and DasGupta (2001), is the one of seven that is never below 0.93 over true
proportions of 0.5, 0.5005, … 0.995: docs/measurements.md has the table, and `benchmarks/coverage.py` computes it.

References
----------
.. [1] E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927) 209-212.
.. [2] B. Efron, "Better bootstrap confidence intervals", JASA 82 (1987) 171-185.
.. [3] E. L. Korn, B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts
   estimated from survey data", Survey Methodology 24 (1998) 193-201.
.. [4] L. D. Brown, T. T. Cai, A. DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16
   (2001) 101-133, section 4.1.
"""

from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Final

import numpy as np

from pipeline.types import Floats

LEVEL: Final = 0.95
Z: Final = NormalDist().inv_cdf((1 + LEVEL) / 2)
# The Poisson means under which 1, 2 and 3 events or more have a probability of 0.05.
FEWEST: Final = (0.05129329438755058, 0.3553615106986620, 0.8176914471639534)

_NORMAL = NormalDist()
_WEIGHTS_AT_ONCE: Final = 2**22  # resamples times images in memory at once: 32 MB


def wilson(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion observed, at 95 % [1]_: both ends, within 0 to 1.

    It holds those proportions that the one observed, of `n`, does not reject; `n` may be an effective number [3]_.
    """
    shrink = 1 / (1 + Z**2 / n)
    centre = shrink * (value + Z**2 / (2 * n))
    half = shrink * Z * np.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    # At 0 and at 1 the end equals the value; rounding must not carry it past.
    return max(0.0, min(value, float(centre - half))), min(1.0, max(value, float(centre + half)))


def proportion(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval of a proportion [1]_ as modified for few mistakes, or few hits [4]_, at 95 %.

    With one to three mistakes (one or two among 50 and less) the end towards 1 is that of a Poisson number of mistakes:
    Wilson's lies too far within, so that a proportion close to 1 was held too seldom. With few hits likewise.

    Parameters
    ----------
    hits : int
        From 0 to n.
    n : int
        At least 1.

    Returns
    -------
    (float, float)
        Both ends, within 0 to 1.
    """
    low, high = wilson(hits / n, n)
    few = 2 if n <= 50 else 3
    if 1 <= hits <= few:
        low = min(low, FEWEST[hits - 1] / n)
    if 1 <= n - hits <= few:
        high = max(high, 1 - FEWEST[n - hits - 1] / n)
    return low, high


def bca(value: float, resampled: Floats, jackknife: Floats) -> tuple[float, float]:
    """Return the bias-corrected and accelerated bootstrap interval, at 95 % [2]_.

    Parameters
    ----------
    value : float
        The statistic of the sample itself.
    resampled : ndarray, shape (resamples,)
        The statistic of each resample. Those that are not defined (NaN) are left out; one at least must be defined.
    jackknife : ndarray, shape (n,)
        The statistic of the sample without its i-th image. NaN are left out.

    Returns
    -------
    (float, float)
        Both ends; equal if the resamples do not differ.
    """
    resampled, jackknife = resampled[np.isfinite(resampled)], jackknife[np.isfinite(jackknife)]
    below = (np.count_nonzero(resampled < value) + np.count_nonzero(resampled <= value)) / (2 * len(resampled))
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / len(resampled)), 1 - 0.5 / len(resampled)))
    pull = jackknife.mean() - jackknife if len(jackknife) else jackknife
    spread = float(np.sum(pull**2))
    skewed = spread > len(pull) * (np.finfo(np.float64).eps * max(abs(value), 1.0)) ** 2
    acceleration = float(np.sum(pull**3)) / (6 * spread**1.5) if skewed else 0.0
    shares = []
    for z in (-Z, Z):
        shift = bias + z
        shares.append(_NORMAL.cdf(bias + shift / max(1 - acceleration * shift, 1e-6)))
    low, high = np.quantile(resampled, shares)
    return float(low), float(high)


def weights(n: int, *, seed: int, resamples: int) -> Iterator[Floats]:
    """Yield how often each bootstrap resample holds each image, in blocks that fit into memory.

    Parameters
    ----------
    n : int
        Images, at least 1.
    seed : int
    resamples : int
        Rows in all blocks together.

    Yields
    ------
    ndarray of float64, shape (b, n)
        Whole numbers; each row adds up to n.
    """
    rng = np.random.default_rng(seed)
    block = max(1, _WEIGHTS_AT_ONCE // n)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def farthest(start: float, end: float, accepts: Callable[[float], bool]) -> float:
    """Return the value next to where `accepts` turns false between `start` (true) and `end`, by halving."""
    if accepts(end) or start == end:
        return end
    inside, outside = start, end
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if accepts(middle) else (inside, middle)
    return inside
