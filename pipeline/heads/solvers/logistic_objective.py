"""The penalised mean loss of several logistic regressions, and how it is minimised on rows that memory may not hold."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.solvers import batched_lbfgs
from pipeline.heads.standardise import Standardised, Table, probabilities
from pipeline.types import Codes, Floats

# In coordinates in which the curvature is about one, a gradient is as far from zero as the point is from the optimum.
CURVED: Final = 3e-6
PIECE: Final = 2**17  # numbers of rows on disk at a time: 1 MB
# Of rows on disk so many numbers are fitted in memory first, and the curvature is learned of at most so many columns.
SAMPLED_VALUES: Final = 2**25
LARGEST_CURVATURE: Final = 4096


class Objective:
    """The penalised mean loss of several fits, as a function of points: coefficients (1 or K, d), then intercepts.

    scikit-learn's objective is divided by C n, with n the number of rows of the fold: its optimum is the same, and its
    gradient is of one size whatever n.

    Parameters
    ----------
    X : Table of shape (n, d)
    y : ndarray of shape (n,)
    n_outputs : int
        1 for two classes, else K.
    scales : list of (mean, scale)
        Of each fold: its coefficients are those of columns that are standardised on its rows.
    weights : ndarray of shape (folds, n)
        Of the rows; those of a fold sum to about 1.
    """

    def __init__(
        self, X: Table, y: Codes, n_outputs: int, scales: Sequence[tuple[Floats, Floats]], weights: Floats
    ) -> None:
        # The rows are standardised once, by the first fold's numbers. What differs in another is left to its weights.
        mean, scale = scales[0]
        self.rows, self.y, self.weights, self.n_outputs = (
            Standardised(X, mean, scale, piece=PIECE),
            y,
            weights,
            n_outputs,
        )
        self.n_classes = n_outputs if n_outputs > 1 else 2
        self.stretch = np.array([scale / own for _, own in scales])
        self.shift = np.array([(own_mean - mean) / own for own_mean, own in scales])
        self.counts = np.count_nonzero(weights, axis=1)
        self.size = n_outputs * (X.shape[1] + 1)

    def split(self, point: Floats) -> tuple[Floats, Floats]:
        """Return coefficients (1 or K, d) and intercepts (1 or K,)."""
        return point[: -self.n_outputs].reshape(self.n_outputs, -1), point[-self.n_outputs :]

    def minimise(
        self, strength: Floats, ratio: Floats, start: Floats, *, tolerance: float, max_iter: int
    ) -> batched_lbfgs.Found:
        """Return the optimum of each penalty on each fold, folds first.

        Parameters
        ----------
        strength : ndarray of shape (q,)
            1 / C of each penalty.
        ratio : ndarray of shape (q,)
            Share of the L1 penalty.
        start : ndarray of shape (folds, size)
        tolerance, max_iter
            As for `batched_lbfgs.minimise`.
        """
        folds = np.repeat(np.arange(len(start)), len(strength))
        strength, ratio = (np.tile(values, len(start)) for values in (strength, ratio))
        strength = strength / self.counts[folds]
        l1 = np.zeros((len(folds), self.size))
        l1[:, : -self.n_outputs] = (strength * ratio)[:, None]
        l2 = strength * (1 - ratio)

        def smooth(points: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
            return self._evaluate(points, folds[which], l2[which])

        return self._solve(smooth, start[folds], l1, l2, tolerance, max_iter)

    def _solve(
        self,
        smooth: batched_lbfgs.Smooth,
        start: Floats,
        l1: Floats,
        l2: Floats,
        tolerance: float,
        max_iter: int,
    ) -> batched_lbfgs.Found:
        """Minimise; a single fit on rows of a file is first made on a sample that fits in memory.

        A pass over a file is dear. The optimum of the sample is near the one of all rows, and in the coordinates in
        which the sample's curvature is one, that of all rows is nearly so, too: a few passes are left to make, and the
        objective that they minimise is that of all rows.
        """
        n_sampled = min(len(self.y), SAMPLED_VALUES // self.rows.shape[1])
        if len(start) > 1 or self.rows.in_memory or len(np.unique(self.y[:n_sampled])) < self.n_classes:
            return batched_lbfgs.minimise(smooth, start, l1, tolerance=tolerance, max_iter=max_iter)
        sample = self._first(n_sampled)
        near = batched_lbfgs.minimise(
            lambda points, which: sample._evaluate(points, which, l2[which]),
            start,
            l1,
            tolerance=1e-3,
            max_iter=max_iter,
        ).points
        if l1.any() or self.rows.shape[1] > LARGEST_CURVATURE:  # an L1 penalty is one in these coordinates only
            return batched_lbfgs.minimise(smooth, near, l1, tolerance=tolerance, max_iter=max_iter)
        curvature = _Curvature(sample._hessians(near[0], float(l2[0])), self)

        def curved(points: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
            values, gradients = smooth(curvature.point(points), which)
            return values, curvature.slope(gradients)

        found = batched_lbfgs.minimise(
            curved, curvature.coordinates(near), l1, tolerance=CURVED, max_iter=max_iter, unit_curvature=True
        )
        return found._replace(points=curvature.point(found.points))

    def _first(self, count: int) -> "Objective":
        """Return the objective of the first rows, in memory; by their digests they are a sample of all."""
        sample = copy(self)
        sample.rows, sample.y = self.rows.first(count), self.y[:count]
        sample.weights = self.weights[:, :count] / self.weights[:, :count].sum(axis=1, keepdims=True)
        sample.weights *= self.weights.sum(axis=1, keepdims=True)
        return sample

    def _hessians(self, point: Floats, l2: float) -> Floats:
        """Return for each output the second derivatives by its coefficients and intercept, (1 or K, d + 1, d + 1)."""
        coef, intercept = self.split(point)
        k, d = coef.shape
        hessians = np.zeros((k, d + 1, d + 1))
        for rows, block in self.rows.blocks():
            one = np.hstack([block, np.ones((len(block), 1))])
            probability = probabilities(block @ coef.T + intercept)[:, -k:]
            spread = self.weights[0, rows, None] * probability * (1 - probability)
            for output in range(k):
                half = one * np.sqrt(spread[:, output, None])
                hessians[output] += half.T @ half
        diagonal = np.arange(d + 1)
        hessians[:, diagonal[:-1], diagonal[:-1]] += l2
        hessians[:, -1, -1] += l2 + np.finfo(np.float64).eps
        return hessians

    def _evaluate(self, points: Floats, folds: NDArray[np.intp], l2: Floats) -> tuple[Floats, Floats]:
        """Return values (p,) and gradients (p, size) of the smooth part, in one pass over the rows."""
        p, k = len(points), self.n_outputs
        coef = points[:, :-k].reshape(p, k, -1)
        stretch, shift = self.stretch[folds][:, None, :], self.shift[folds][:, None, :]
        kernel = (coef * stretch).reshape(p * k, -1)
        bias = points[:, -k:] - (coef * shift).sum(axis=2)
        values, by_kernel, by_bias = np.zeros(p), np.zeros_like(kernel), np.zeros((p, k))
        for rows, block in self.rows.blocks():
            logits = (block @ kernel.T).reshape(-1, p, k) + bias
            weights = self.weights[folds, rows].T
            losses, residuals = _softmax_loss(logits, self.y[rows])
            values += np.einsum("np,np->p", weights, losses)
            residuals *= weights[:, :, None]
            by_kernel += residuals.reshape(len(block), -1).T @ block
            by_bias += residuals.sum(axis=0)
        slope = by_kernel.reshape(coef.shape) * stretch - by_bias[:, :, None] * shift + l2[:, None, None] * coef
        values += l2 / 2 * np.einsum("pkd,pkd->p", coef, coef)
        return values, np.hstack([slope.reshape(p, -1), by_bias])


class _Curvature:
    """Coordinates in which given second derivatives are one: those of each output's coefficients and intercept."""

    def __init__(self, hessians: Floats, objective: Objective) -> None:
        self._roots = np.linalg.cholesky(hessians)
        self._objective = objective

    def coordinates(self, points: Floats) -> Floats:
        """Return where points (p, size) lie in these coordinates."""
        return self._map(points, lambda root, columns: root.T @ columns)

    def point(self, coordinates: Floats) -> Floats:
        """Return the points (p, size) at these coordinates."""
        from scipy.linalg import solve_triangular

        return self._map(coordinates, lambda root, columns: solve_triangular(root, columns, lower=True, trans="T"))

    def slope(self, gradients: Floats) -> Floats:
        """Return gradients (p, size) by the coordinates."""
        from scipy.linalg import solve_triangular

        return self._map(gradients, lambda root, columns: solve_triangular(root, columns, lower=True))

    def _map(self, points: Floats, change: Callable[[Floats, Floats], Floats]) -> Floats:
        mapped = []
        for point in points:
            coef, intercept = self._objective.split(point)
            columns = np.hstack([coef, intercept[:, None]])
            new = np.array([change(root, column) for root, column in zip(self._roots, columns, strict=True)])
            mapped.append(np.concatenate([new[:, :-1].ravel(), new[:, -1]]))
        return np.array(mapped)


def _softmax_loss(logits: Floats, y: Codes) -> tuple[Floats, Floats]:
    """Return the losses (n, p) in nats, and their derivatives by the logits (n, p, 1 or K)."""
    n, _, k = logits.shape
    if k == 1:
        # Of the true class against the other: neither loss nor derivative cancels, however sure the fit.
        sign = np.where(y == 1, 1.0, -1.0)[:, None]
        margin = logits[:, :, 0] * sign
        small = np.exp(-np.abs(margin))
        losses = np.log1p(small) - np.minimum(margin, 0.0)
        wrong = np.where(margin > 0, small, 1.0) / (1.0 + small)
        return losses, (-sign * wrong)[:, :, None]
    top = logits.max(axis=2, keepdims=True)
    odds = np.exp(logits - top)
    total = odds.sum(axis=2, keepdims=True)
    own = np.arange(n), slice(None), y
    losses = (np.log(total) + top)[:, :, 0] - logits[own]
    residuals = odds / total
    residuals[own] -= 1.0
    return losses, residuals
