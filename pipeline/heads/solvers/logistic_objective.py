"""The penalised mean loss of several logistic regressions, and how it is minimised on rows that memory may not hold."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.solvers import batched_lbfgs
from pipeline.heads.solvers.batched_lbfgs import Ended, Evaluated, Found
from pipeline.heads.solvers.curvature import Dense, LowRank, Points, Spectrum, Which
from pipeline.heads.solvers.row_blocks import Workers
from pipeline.heads.standardise import Standardised, Table, probabilities
from pipeline.types import Codes, Floats

PIECE: Final = 2**19  # numbers of rows on disk at a time: 2 MB in float32
# Of rows on disk so many numbers are fitted in memory first, and the curvature is learned of at most so many columns.
SAMPLED_VALUES: Final = 2**25
LARGEST_CURVATURE: Final = 4096
# Gaps of the head that is kept: in nats where the curvature is about one, else the largest entry of the gradient. In
# float32 first, for a few steps, then in float64: its coefficients are within 1e-5 of the optimum, relative.
ROUGH, KEPT = 1e-6, 1e-12
ROUGH_L1, KEPT_L1 = 1e-3, 1e-7
ROUGH_STEPS: Final = 30
ROUNDED: Final = 1000  # where rounding lets no step lower the value, a gradient so many times larger will do


class Penalty(NamedTuple):
    """Weights of the penalties of problems, (P,): of the absolute values and of half the squares of coefficients."""

    l1: Floats
    l2: Floats

    @classmethod
    def of(cls, C: Floats, ratio: Floats, rows: Floats) -> "Penalty":
        """Return those of scikit-learn's objective, divided by C n: its gradient is then of one size whatever n."""
        return cls(ratio / (C * rows), (1 - ratio) / (C * rows))


class Objective:
    """The penalised mean loss of several fits, as a function of points: coefficients (1 or K, d), then intercepts.

    Parameters
    ----------
    tables : sequence of Table of shape (n_i, d)
        The rows, one table after another; n in all.
    y : ndarray of shape (n,)
    n_outputs : int
        1 for two classes, else K.
    mean, scale : ndarrays of shape (d,)
    weights : ndarray of shape (folds, n)
        Of the rows; those of a fold sum to about 1.
    held : ndarray of shape (folds, n), or None
        Weights of the rows that a fold holds out, 0 for all others. Every pass tells how it does on them, for nothing.
    dtype : float32 or float64
        Of rows and points.
    workers : Workers
    """

    def __init__(
        self,
        tables: Sequence[Table],
        y: Codes,
        n_outputs: int,
        mean: Floats,
        scale: Floats,
        weights: Floats,
        *,
        workers: Workers,
        held: Floats | None = None,
        dtype: Any = np.float64,
    ) -> None:
        self._rows = [Standardised(table, mean, scale, piece=PIECE, dtype=dtype) for table in tables]
        self._y, self._n_outputs, self._dtype, self._workers = y, n_outputs, dtype, workers
        self._weights, self._held = weights.T.astype(dtype), None if held is None else held.T.astype(dtype)
        self.size = n_outputs * (tables[0].shape[1] + 1)

    def minimise(
        self,
        start: Points,
        folds: NDArray[np.intp],
        penalty: Penalty,
        known: Spectrum | Dense,
        *,
        ended: Ended,
        max_iter: int,
    ) -> Found:
        """Minimise problems (P,), each on one of the folds.

        Parameters
        ----------
        start : ndarray of shape (P, size)
        folds : ndarray of shape (P,)
        penalty : Penalty
            An L1 penalty is one in the original coordinates only, which then stay.
        known : Spectrum or Dense
            Of the rows, or the coordinates in which their curvature is about one.
        ended, max_iter
            As for `batched_lbfgs.minimise`; held out are, of each problem, the sums over rows of weight · loss,
            weight² · loss, (weight · loss)², and of the weights of rows whose most probable class is theirs.
        """

        def smooth(points: Points, which: Which) -> Evaluated:
            return self._evaluate(points, folds[which], penalty.l2[which])[0]

        start = start.astype(self._dtype)
        if penalty.l1.any():
            l1 = np.zeros_like(start)
            l1[:, : -self._n_outputs] = penalty.l1[:, None]
            return batched_lbfgs.minimise(smooth, start, l1, ended=ended, max_iter=max_iter)
        first, spread = self._evaluate(start, folds, penalty.l2, with_spread=True)
        at = LowRank(known, spread, penalty.l2, self._dtype) if isinstance(known, Spectrum) else known

        def curved(points: Points, which: Which) -> Evaluated:
            here = smooth(at.point(points, which), which)
            return here._replace(gradients=at.slope(here.gradients, which))

        every = np.arange(len(start))
        ends = batched_lbfgs.minimise(
            curved,
            at.coordinates(start, every),
            None,
            ended=ended,
            max_iter=max_iter,
            first=first._replace(gradients=at.slope(first.gradients, every)),
            unit_curvature=True,
        )
        return ends._replace(points=at.point(ends.points, every))

    def hessians(self, point: Points, l2: float) -> Floats:
        """Return for each output the second derivatives by its coefficients and intercept, (1 or K, d + 1, d + 1)."""
        k = self._n_outputs
        coef, intercept = point[:-k].reshape(k, -1), point[-k:]
        d = coef.shape[1]
        hessians = np.zeros((k, d + 1, d + 1))
        for rows, block in self._pieces():
            one = np.hstack([block, np.ones((len(block), 1))])
            probability = probabilities(block @ coef.T + intercept)[:, -k:]
            spread = self._weights[rows] * probability * (1 - probability)
            for output in range(k):
                half = one * np.sqrt(spread[:, output, None])
                hessians[output] += half.T @ half
        diagonal = np.arange(d + 1)
        hessians[:, diagonal[:-1], diagonal[:-1]] += l2
        hessians[:, -1, -1] += l2 + np.finfo(np.float64).eps
        return hessians

    def _pieces(self) -> Iterator[tuple[slice, Points]]:
        before = 0
        for table in self._rows:
            for rows, block in table.blocks():
                yield slice(before + rows.start, before + rows.stop), block
            before += table.shape[0]

    def _evaluate(
        self, points: Points, folds: NDArray[np.intp], l2: Floats, *, with_spread: bool = False
    ) -> tuple[Evaluated, Floats]:
        """Return what one pass over the rows says of points (p, size), and the mean p (1 - p) of outputs (p, k).

        The latter costs as much as the loss, and is 0 unless it is asked for.
        """
        p, k = len(points), self._n_outputs
        coef, bias = points[:, :-k].reshape(p * k, -1), points[:, -k:].reshape(-1)
        squares = np.einsum("pd,pd->p", points[:, :-k], points[:, :-k], dtype=np.float64)

        def part(piece: tuple[slice, Points]) -> tuple[Floats, Points, Floats, Floats, Floats]:
            rows, block = piece
            logits = block @ coef.T
            logits += bias
            said = _softmax_loss(logits.reshape(-1, p, k), self._y[rows])
            weights = self._weights[rows][:, folds]
            value = np.einsum("np,np->p", weights, said.losses, dtype=np.float64)
            spread = _spread(weights, said.residuals) if with_spread else np.zeros((p, k))
            aside = np.zeros((p, 0)) if self._held is None else _held_out(self._held[rows][:, folds], said)
            residuals = said.residuals
            residuals *= weights[:, :, None]
            by_bias = residuals.sum(axis=0, dtype=np.float64)
            return value, residuals.reshape(len(block), -1).T @ block, by_bias, spread, aside

        parts = self._workers.in_order(part, self._pieces())
        values, by_coef, by_bias, spread, aside = next(parts)
        for more in parts:
            values += more[0]
            by_coef += more[1]
            by_bias += more[2]
            spread += more[3]
            aside += more[4]
        slope = by_coef.reshape(p, -1)
        slope += l2[:, None].astype(self._dtype) * points[:, :-k]
        gradients = np.hstack([slope, by_bias.astype(self._dtype)])
        return Evaluated(values + l2 / 2 * squares, gradients, aside), spread


def optimum(
    X: Table,
    y: Codes,
    n_outputs: int,
    scale: tuple[Floats, Floats],
    weights: Floats,
    penalty: Penalty,
    start: Points,
    known: Spectrum,
    max_iter: int,
) -> tuple[Floats, bool]:
    """Return the optimum of one penalty on all rows, (size,) float64, and whether the solver got there.

    A pass over a file is dear, so that rows on disk are first fitted on a sample in memory. Its optimum is near the one
    of all rows, and in the coordinates in which the sample's curvature is one, that of all rows is nearly so, too: a
    few passes are left to make, and the objective that they minimise is that of all rows.
    """
    lasso = bool(penalty.l1.any())
    rough, kept = (ROUGH_L1, KEPT_L1) if lasso else (ROUGH, KEPT)
    only = np.zeros(1, np.intp)
    at = start[None]
    curvature: Spectrum | Dense = known
    with Workers() as workers:

        def objective(count: int, dtype: Any) -> Objective:
            share = weights[:count] * (weights.sum() / weights[:count].sum())
            rows = X if count == len(y) else X[:count]
            return Objective([rows], y[:count], n_outputs, *scale, share[None], workers=workers, dtype=dtype)

        def minimise(one: Objective, least: float, steps: int) -> Found:
            return one.minimise(
                at, only, penalty, curvature, ended=lambda _, gaps, aside: gaps <= least, max_iter=steps
            )

        sampled = len(y) if isinstance(X, np.ndarray) else min(len(y), SAMPLED_VALUES // X.shape[1])
        if len(np.unique(y[:sampled])) == max(2, n_outputs):
            at = minimise(objective(sampled, np.float32), rough, min(ROUGH_STEPS, max_iter)).points
            if not isinstance(X, np.ndarray) and not lasso and X.shape[1] <= LARGEST_CURVATURE:
                near = at[0].astype(np.float64)
                curvature = Dense(objective(sampled, np.float64).hessians(near, float(penalty.l2[0])))
        found = minimise(objective(len(y), np.float64), kept, max_iter)
    # Where rounding lets no step lower the value, the gradient tells whether that is the optimum.
    return found.points[0], bool(found.gaps[0] <= kept * (ROUNDED if found.stalled[0] else 1))


class _Said(NamedTuple):
    """Losses (n, p) in nats, their derivatives by the logits (n, p, 1 or K), and which rows are right (n, p)."""

    losses: Points
    residuals: Points
    right: NDArray[np.bool_]


def _held_out(weights: Points, said: _Said) -> Floats:
    """Return the four sums of `Objective.minimise`, (p, 4)."""
    weighted = weights * said.losses
    pairs = ((weights, said.losses), (weights, weighted), (weighted, weighted), (weights, said.right))
    return np.stack([np.einsum("np,np->p", one, other, dtype=np.float64) for one, other in pairs], axis=1)


def _spread(weights: Points, residuals: Points) -> Floats:
    """Return the weighted sum of p (1 - p) for each problem and output; a derivative is p or p - 1."""
    apart = np.abs(residuals)
    return np.asarray(np.einsum("np,npk->pk", weights, apart * (1 - apart), dtype=np.float64))


def _softmax_loss(logits: Points, y: Codes) -> _Said:
    n, _, k = logits.shape
    if k == 1:
        # Of the true class against the other: neither loss nor derivative cancels, however sure the fit.
        sign = np.where(y == 1, 1, -1).astype(logits.dtype)[:, None]
        right = (logits[:, :, 0] > 0) == (y == 1)[:, None]
        margin = logits[:, :, 0] * sign
        small = np.exp(-np.abs(margin))
        losses = np.log1p(small) - np.minimum(margin, 0)
        wrong = np.where(margin > 0, small, 1) / (1 + small)
        return _Said(losses, (-sign * wrong)[:, :, None], right)
    own = np.arange(n), slice(None), y
    top = logits.max(axis=2)
    losses = top - logits[own]
    right = logits.argmax(axis=2) == y[:, None]
    logits -= top[:, :, None]
    odds = np.exp(logits, out=logits)
    total = odds.sum(axis=2)
    losses += np.log(total)
    odds /= total[:, :, None]
    odds[own] -= 1
    return _Said(losses, odds, right)
