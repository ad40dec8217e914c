"""Many convex problems on the same rows, minimised side by side: each pass over the rows serves all of them.

Fits of one head at several strengths and on several folds read the same rows. One after another, each is a chain of
products of a matrix with a vector, which wait for memory; side by side they are products of matrices, and rows that
must be read from a file are read once for all.

The method is L-BFGS, and with L1 penalties its orthant-wise form:

* J. Nocedal, S. J. Wright, "Numerical Optimization", 2nd ed. (2006), algorithms 7.4 and 7.5. The step is found by
  halving until it fulfils Armijo's condition; Wolfe's second condition serves to keep the curvature positive, which a
  strictly convex objective is by itself.
* G. Andrew, J. Gao, "Scalable training of L1-regularized log-linear models", ICML 2007 (OWL-QN).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.solvers.curvature import Points, Which
from pipeline.types import Floats


class Evaluated(NamedTuple):
    """Values (p,), gradients (p, D), and whatever else a pass over the rows told of each problem, (p, a)."""

    values: Floats
    gradients: Points
    aside: Floats


class Found(NamedTuple):
    """Where the problems ended: `points` (P, D), their `gaps` (P,), what was told there, `aside` (P, a), and `stalled`.

    A problem `stalled` (P,) where rounding let no more steps lower its value.
    """

    points: Points
    gaps: Floats
    aside: Floats
    stalled: NDArray[np.bool_]


Smooth = Callable[[Points, Which], Evaluated]
Ended = Callable[[Which, Floats, Floats], NDArray[np.bool_]]

HISTORY: Final = 8  # pairs of steps and changes of the gradient that describe the curvature
HALVINGS: Final = 30
ARMIJO: Final = 1e-4
ROUNDING: Final = 2e-7  # a step may worsen a value by so much of it in float32, which cannot tell


def minimise(
    smooth: Smooth,
    start: Points,
    l1: Points | None,
    *,
    ended: Ended,
    max_iter: int,
    first: Evaluated | None = None,
    unit_curvature: bool = False,
) -> Found:
    """Minimise smooth(x) + sum(l1 * |x|) for each of P problems.

    Parameters
    ----------
    smooth : callable
        From points (p, D) and the numbers (p,) of their problems to the values of the smooth parts, their gradients,
        and what else is told of them. Must be convex, and above 0.
    start : ndarray of shape (P, D), float32 or float64
        All is computed in its dtype, but for the values.
    l1 : ndarray of shape (P, D), or None
        Weights of the absolute values, at least 0.
    ended : callable
        From the numbers (p,) of problems, their gaps (p,) and what was told of them (p, a) to which are done. A gap is
        half the squared gradient with `unit_curvature`, else the largest entry of the (pseudo-)gradient; it is relative
        to the value where that is below 1. The value falls towards 0 where classes can be separated, and the curvature
        with it: an absolute bound would stop far from the optimum there.
    max_iter : int
        Steps at most. A problem also ends after two steps that did not lower its value.
    first : Evaluated, optional
        What `smooth` says of the start.
    unit_curvature : bool
        Whether the second derivatives are about one, so that the first step should be the gradient's. Otherwise it has
        length 1.
    """
    run = _Run(smooth, start, l1, first, unit_curvature=unit_curvature)
    n = len(start)
    found = Found(start.copy(), np.full(n, np.inf), np.zeros((n, run.aside.shape[1])), np.zeros(n, bool))
    for _ in range(max_iter):
        gaps = run.gaps()
        run.retire(ended(run.problems, gaps, run.aside) | (run.stalls > 1), gaps, found)
        if not len(run.problems):
            return found
        run.step()
    run.retire(np.ones(len(run.problems), bool), run.gaps(), found)
    return found


class _Run:
    """The problems that have not ended: points, values, gradients and what is known of their curvature."""

    def __init__(
        self, smooth: Smooth, start: Points, l1: Points | None, first: Evaluated | None, *, unit_curvature: bool
    ) -> None:
        self.smooth, self.l1, self.points, self.unit_curvature = smooth, l1, start.copy(), unit_curvature
        self.problems = np.arange(len(start))
        self.stalls = np.zeros(len(start), np.int64)
        self.values, self.gradients, self.aside = (
            self._evaluate(start, self.problems) if first is None else self._penalised(first, start, self.problems)
        )
        self.pairs: list[tuple[Points, Points, Points]] = []  # step, change of the gradient, 1 / their product or 0
        self.scale = self._first_scale()

    def _evaluate(self, points: Points, which: Which) -> Evaluated:
        return self._penalised(self.smooth(points, self.problems[which]), points, which)

    def _penalised(self, found: Evaluated, points: Points, which: Which) -> Evaluated:
        if self.l1 is None:
            return found
        return found._replace(values=found.values + (self.l1[which] * np.abs(points)).sum(axis=1, dtype=np.float64))

    def _first_scale(self) -> Points:
        """Return by what the gradient becomes a step as long as nothing is known of the curvature, (p,)."""
        if self.unit_curvature:
            return np.ones(len(self.points), self.points.dtype)
        return np.asarray(1 / np.maximum(np.linalg.norm(self._slope(), axis=1), np.finfo(self.points.dtype).tiny))

    def gaps(self) -> Floats:
        """Return how far each problem is from its optimum, as `minimise` says."""
        slope = self._slope()
        gaps = _products(slope, slope) / 2 if self.unit_curvature else np.abs(slope).max(axis=1)
        return np.asarray(gaps / np.clip(self.values, 1e-300, 1.0))

    def retire(self, ended: NDArray[np.bool_], gaps: Floats, found: Found) -> None:
        """Write the problems that ended into `found`, and go on without them."""
        if not ended.any():
            return
        places = self.problems[ended]
        found.points[places], found.gaps[places] = self.points[ended], gaps[ended]
        found.aside[places], found.stalled[places] = self.aside[ended], self.stalls[ended] > 1
        kept = ~ended
        for name in ("problems", "points", "values", "gradients", "aside", "stalls", "scale"):
            setattr(self, name, getattr(self, name)[kept])
        self.l1 = None if self.l1 is None else self.l1[kept]
        self.pairs = [(step[kept], change[kept], rho[kept]) for step, change, rho in self.pairs]

    def step(self) -> None:
        """Move each problem along its direction, to a value that is lower but for rounding; or leave it there."""
        slope = self._slope()
        direction = self._direction(slope)
        points, gradients = self.points.copy(), self.gradients.copy()
        values, aside = self.values.copy(), self.aside.copy()
        slack = ROUNDING * values if points.dtype == np.float32 else np.zeros(len(values))
        length = np.ones(len(points), points.dtype)
        open_ = np.arange(len(points))
        for _ in range(HALVINGS):
            trial = self.points[open_] + length[open_, None] * direction[open_]
            if self.l1 is not None:
                self._stay_in_orthant(trial, slope, self.l1, open_)
            now = self._evaluate(trial, open_)
            expected = ARMIJO * _products(slope[open_], trial - self.points[open_])
            accepted = now.values <= values[open_] + expected + slack[open_]
            done = open_[accepted]
            points[done], gradients[done] = trial[accepted], now.gradients[accepted]
            values[done], aside[done] = now.values[accepted], now.aside[accepted]
            open_ = open_[~accepted]
            if not len(open_):
                break
            length[open_] /= 2
        step, change = points - self.points, gradients - self.gradients
        self.stalls = np.where(values < self.values, 0, self.stalls + 1)
        self.points, self.values, self.gradients, self.aside = points, values, gradients, aside
        self._remember(step, change)

    def _stay_in_orthant(self, trial: Points, slope: Points, l1: Points, which: Which) -> None:
        """Set to zero what changed its sign on the way, where there is an L1 penalty."""
        before = self.points[which]
        orthant = np.where(before != 0, np.sign(before), -np.sign(slope[which]))
        trial[(l1[which] > 0) & (trial * orthant <= 0)] = 0.0

    def _remember(self, step: Points, change: Points) -> None:
        """Keep the pair, but for one of no curvature; a problem that did not move starts again along the gradient."""
        product, square = _products(step, change), _products(change, change)
        bad, still = product <= 1e-10 * square, ~step.any(axis=1)
        rho = np.where(bad, 0.0, 1 / np.where(bad, 1.0, product)).astype(step.dtype)
        scale = np.where(bad, self.scale, product / np.where(bad, 1.0, square)).astype(step.dtype)
        self.scale = np.where(still, self._first_scale(), scale)
        self.pairs = [*self.pairs[-HISTORY + 1 :], (step, change, rho)]
        for _, _, known in self.pairs:
            known[still] = 0.0

    def _slope(self) -> Points:
        """Return the subgradient of least length (Andrew and Gao, equation 4)."""
        if self.l1 is None:
            return self.gradients
        right, left = self.gradients + self.l1, self.gradients - self.l1
        at_zero = np.where(left > 0, left, np.where(right < 0, right, 0))
        return np.where(self.points > 0, right, np.where(self.points < 0, left, at_zero)).astype(self.points.dtype)

    def _direction(self, slope: Points) -> Points:
        """Return -H slope by the two loops of L-BFGS; a pair with rho 0 leaves everything as it is."""
        direction = -slope
        shares = []
        for step, change, rho in reversed(self.pairs):
            shares.append(rho * np.einsum("pd,pd->p", step, direction))
            direction -= shares[-1][:, None] * change
        direction *= self.scale[:, None]
        for (step, change, rho), share in zip(self.pairs, reversed(shares), strict=True):
            direction += (share - rho * np.einsum("pd,pd->p", change, direction))[:, None] * step
        if self.l1 is not None:  # an entry must not move against its own slope
            direction[(self.l1 > 0) & (direction * slope >= 0)] = 0.0
        return direction


def _products(left: Points, right: Points) -> Floats:
    """Return the scalar product of each pair of rows, (p,), summed in float64."""
    return np.asarray(np.einsum("pd,pd->p", left, right, dtype=np.float64))
