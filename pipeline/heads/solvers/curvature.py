"""Coordinates in which the curvature of a logistic loss is about one.

There the first step of L-BFGS is the gradient's, and half the squared gradient estimates what is still to be gained, in
nats. `LowRank` serves all strengths and folds at once; `Dense` serves one fit on rows that are dear to read.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Floats

Points = NDArray[np.floating[Any]]
Which = NDArray[np.intp]

DIRECTIONS: Final = 128
SPARE: Final = 16  # more columns of the range finder, which make the last directions exact enough
LEAST_SPREAD: Final = 1e-6


class Spectrum(NamedTuple):
    """The directions (d, m) in which standardised rows vary most, their variances (m,), and the mean of the rest."""

    directions: Points
    variances: Floats
    rest: float


def spectrum(rows: Points) -> Spectrum:
    """Find the spectrum of rows (n, d), float32, by a randomised range finder with one power step.

    N. Halko, P. G. Martinsson, J. A. Tropp, "Finding structure with randomness", SIAM Review 53 (2011), algorithms 4.4
    and 5.3.
    """
    n, d = rows.shape
    width = min(DIRECTIONS + SPARE, n, d)
    basis = np.random.default_rng(0).standard_normal((d, width), dtype=np.float32)
    for _ in range(2):
        basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
    seen = rows @ basis
    variances, turned = np.linalg.eigh((seen.T @ seen).astype(np.float64))
    kept = slice(None, -DIRECTIONS - 1, -1)
    variances = np.maximum(variances[kept], 0.0) / n
    total = float(np.einsum("nd,nd->", rows, rows, dtype=np.float64)) / n
    rest = max(0.0, total - float(variances.sum())) / max(1, d - len(variances))
    return Spectrum(np.ascontiguousarray(basis @ turned[:, kept].astype(np.float32)), variances, rest)


class LowRank:
    """The curvature of an output is about its mean p (1 - p) times the rows' covariance, plus the penalty.

    Parameters
    ----------
    found : Spectrum
    spread : ndarray of shape (P, 1 or K)
        Weighted mean of p (1 - p) for each problem and output.
    l2 : ndarray of shape (P,)
    dtype : float32 or float64
    """

    def __init__(self, found: Spectrum, spread: Floats, l2: Floats, dtype: Any) -> None:
        spread = np.maximum(spread, LEAST_SPREAD)
        self._directions = found.directions.astype(dtype, copy=False)
        self._top = np.sqrt(spread[:, :, None] * found.variances + l2[:, None, None]).astype(dtype)
        self._rest = np.sqrt(spread * found.rest + l2[:, None])[:, :, None].astype(dtype)
        self._free = np.sqrt(spread).astype(dtype)

    def coordinates(self, points: Points, which: Which) -> Points:
        """Return where points lie in these coordinates."""
        return self._map(points, self._top[which], self._rest[which], self._free[which])

    def point(self, coordinates: Points, which: Which) -> Points:
        """Return the points at these coordinates."""
        return self._map(coordinates, 1 / self._top[which], 1 / self._rest[which], 1 / self._free[which])

    def slope(self, gradients: Points, which: Which) -> Points:
        """Return gradients by the coordinates: the map is symmetric."""
        return self.point(gradients, which)

    def _map(self, points: Points, top: Points, rest: Points, free: Points) -> Points:
        p, k = free.shape
        coef = points[:, :-k].reshape(p * k, -1)
        seen = (coef @ self._directions) * (top - rest).reshape(p * k, -1)
        mapped = seen @ self._directions.T
        mapped += rest.reshape(p * k, 1) * coef
        return np.hstack([mapped.reshape(p, -1), points[:, -k:] * free])


class Dense:
    """The second derivatives (1 or K, d + 1, d + 1) of one problem by each output's coefficients and intercept."""

    def __init__(self, hessians: Floats) -> None:
        self._roots = np.linalg.cholesky(hessians)

    def coordinates(self, points: Points, which: Which) -> Points:
        """Return where points lie in these coordinates."""
        return self._map(points, lambda root, columns: root.T @ columns)

    def point(self, coordinates: Points, which: Which) -> Points:
        """Return the points at these coordinates."""
        from scipy.linalg import solve_triangular

        return self._map(coordinates, lambda root, columns: solve_triangular(root, columns, lower=True, trans="T"))

    def slope(self, gradients: Points, which: Which) -> Points:
        """Return gradients by the coordinates."""
        from scipy.linalg import solve_triangular

        return self._map(gradients, lambda root, columns: solve_triangular(root, columns, lower=True))

    def _map(self, points: Points, change: Callable[[Points, Points], Points]) -> Points:
        k = len(self._roots)
        columns = np.hstack([points[0, :-k].reshape(k, -1), points[0, -k:, None]])
        new = np.array([change(root, column) for root, column in zip(self._roots, columns, strict=True)])
        return np.concatenate([new[:, :-1].ravel(), new[:, -1]])[None]
