"""How error falls with the number of training images: a power law towards a floor, fitted and carried on.

error(n) = a · n^-b + c with a, c at least 0, as Cortes et al. found for learning curves [1]_, and Hestness et al. over
many tasks and orders of magnitude [2]_; fitted by weighted least squares, as Figueroa et al. do to plan samples [3]_.
For a given b the rest is linear, so b is searched on a grid, and many resampled curves are fitted at once.

References
----------
.. [1] C. Cortes, L. D. Jackel, S. A. Solla, V. Vapnik, J. S. Denker, "Learning curves: asymptotic values and rate of
   convergence", NIPS 6 (1993).
.. [2] J. Hestness et al., "Deep learning scaling is predictable, empirically", arXiv 1712.00409 (2017).
.. [3] R. L. Figueroa, Q. Zeng-Treitler, S. Kandula, L. H. Ngo, "Predicting sample size required for classification
   performance", BMC Medical Informatics and Decision Making 12:8 (2012).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Floats

EXPONENTS: Final = np.linspace(0.05, 2.0, 40)


@dataclass(frozen=True)
class PowerLaws:
    """R fitted curves.

    Attributes
    ----------
    unit : float
        Images; sizes are divided by it, so that `a` is the error at that size above the floor.
    a, b, c : ndarray of shape (R,), float64
    """

    unit: float
    a: Floats
    b: Floats
    c: Floats

    def at(self, size: float) -> Floats:
        """Return the error of each curve at so many training images, shape (R,)."""
        return np.asarray(self.a * (size / self.unit) ** -self.b + self.c)


def fit(sizes: NDArray[np.int64], errors: Floats, weights: Floats) -> PowerLaws:
    """Fit a power law to each of R curves.

    `sizes` (S,) are training images, at least three different numbers, `errors` (R, S) fractions, `weights` (S,) one
    over the variance of each error, the same for all curves.
    """
    unit = float(sizes.max())
    best = np.full(len(errors), np.inf)
    found = np.zeros((3, len(errors)))
    for exponent in EXPONENTS:
        a, c = _line(np.asarray((sizes / unit) ** -exponent), errors, weights)
        residuals = errors - a[:, None] * (sizes / unit) ** -exponent - c[:, None]
        loss = (residuals**2) @ weights
        better = loss < best
        best = np.where(better, loss, best)
        found = np.where(better, np.stack([a, np.full(len(a), exponent), c]), found)
    return PowerLaws(unit, *found)


def _line(x: Floats, errors: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return slopes and intercepts, none below zero, of weighted least squares: of one of them alone, if need be."""
    share = weights / weights.sum()
    mean_x, mean_e = x @ share, errors @ share
    slope = (errors - mean_e[:, None]) @ (share * (x - mean_x)) / ((x - mean_x) ** 2 @ share)
    floor = mean_e - slope * mean_x
    through_zero = errors @ (share * x) / (x**2 @ share)
    slope, floor = np.where(floor < 0, through_zero, slope), np.maximum(floor, 0)
    flat = slope < 0
    return np.where(flat, 0, slope), np.where(flat, mean_e, floor)
