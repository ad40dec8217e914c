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

from pipeline.types import Floats

Smooth = Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats]]

HISTORY: Final = 10  # pairs of steps and changes of the gradient that describe the curvature
HALVINGS: Final = 40
ARMIJO: Final = 1e-4


class Found(NamedTuple):
    """Where the problems ended: `points` (P, D), and for each whether it `converged` (P,) and its `iterations` (P,)."""

    points: Floats
    converged: NDArray[np.bool_]
    iterations: NDArray[np.int64]


def minimise(
    smooth: Smooth, start: Floats, l1: Floats, *, tolerance: float, max_iter: int, unit_curvature: bool = False
) -> Found:
    """Minimise smooth(x) + sum(l1 * |x|) for each of P problems.

    Parameters
    ----------
    smooth : callable
        From points (p, D) and the numbers (p,) of their problems to the values (p,) of the smooth parts and their
        gradients (p, D). Must be convex, and above 0.
    start : ndarray of shape (P, D), float64
    l1 : ndarray of shape (P, D), float64
        Weights of the absolute values, at least 0.
    tolerance : float
        A problem has converged when no entry of its (pseudo-)gradient exceeds this fraction of its value, or this
        number where the value is above 1. The value falls towards 0 where classes can be separated, and the curvature
        with it: an absolute bound would stop far from the optimum there.
    max_iter : int
        Steps at most.
    unit_curvature : bool
        Whether the second derivatives are about one, so that the first step should be the gradient's. Otherwise it has
        length 1.
    """
    found = Found(start.copy(), np.zeros(len(start), bool), np.zeros(len(start), np.int64))
    run = _Run(smooth, start, l1, unit_curvature=unit_curvature)
    for _ in range(max_iter):
        run.retire(run.steepness() <= tolerance, found, converged=True)
        if not len(run.problems):
            return found
        found.iterations[run.problems] += 1
        exhausted = ~run.step()
        # Where rounding lets no step lower the value, the gradient tells whether that is the optimum.
        run.retire(exhausted & (run.steepness() <= 1000 * tolerance), found, converged=True)
        run.retire(run.stalls > 1, found, converged=False)
        if not len(run.problems):
            return found
    run.retire(run.steepness() <= tolerance, found, converged=True)
    run.retire(np.ones(len(run.problems), bool), found, converged=False)
    return found


class _Run:
    """The problems that have not ended: points, values, gradients and what is known of their curvature."""

    def __init__(self, smooth: Smooth, start: Floats, l1: Floats, *, unit_curvature: bool) -> None:
        self.unit_curvature = unit_curvature
        self.smooth, self.l1, self.points = smooth, l1, start.copy()
        self.problems = np.arange(len(start))
        self.values, self.gradients = self._evaluate(self.points, self.problems)
        self.steps = np.zeros((0, *start.shape))
        self.changes = np.zeros((0, *start.shape))
        self.stalls = np.zeros(len(start), np.int64)

    def _evaluate(self, points: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
        values, gradients = self.smooth(points, self.problems[which])
        return values + (self.l1[which] * np.abs(points)).sum(axis=1), gradients

    def steepness(self) -> Floats:
        """Return the largest entry of each pseudo-gradient, relative to its value where that is below 1."""
        return np.asarray(np.abs(self._pseudo_gradient()).max(axis=1) / np.clip(self.values, 1e-300, 1.0))

    def retire(self, ended: NDArray[np.bool_], found: Found, *, converged: bool) -> None:
        """Write the problems that ended into `found`, and go on without them."""
        if not ended.any():
            return
        found.points[self.problems[ended]] = self.points[ended]
        found.converged[self.problems[ended]] = converged
        kept = ~ended
        for name in ("problems", "points", "values", "gradients", "l1", "stalls"):
            setattr(self, name, getattr(self, name)[kept])
        self.steps, self.changes = self.steps[:, kept], self.changes[:, kept]

    def step(self) -> NDArray[np.bool_]:
        """Move each problem along its direction; return which of them moved to a lower value."""
        slope = self._pseudo_gradient()
        direction = self._direction(slope)
        orthant = np.where(self.points != 0, np.sign(self.points), -np.sign(slope))
        points, values, gradients = self.points.copy(), self.values.copy(), self.gradients.copy()
        length = np.ones(len(points))
        open_ = np.arange(len(points))
        for _ in range(HALVINGS):
            trial = self.points[open_] + length[open_, None] * direction[open_]
            crossed = (self.l1[open_] > 0) & (trial * orthant[open_] <= 0)
            trial[crossed] = 0.0
            value, gradient = self._evaluate(trial, open_)
            expected = ARMIJO * np.einsum("pd,pd->p", slope[open_], trial - self.points[open_])
            accepted = value <= self.values[open_] + expected
            done = open_[accepted]
            points[done], values[done], gradients[done] = trial[accepted], value[accepted], gradient[accepted]
            open_ = open_[~accepted]
            if not len(open_):
                break
            length[open_] /= 2
        moved = values < self.values
        self._remember(points - self.points, gradients - self.gradients)
        self.stalls = np.where(moved, 0, self.stalls + 1)
        self.points, self.values, self.gradients = points, values, gradients
        return np.asarray(moved)

    def _remember(self, step: Floats, change: Floats) -> None:
        """Keep the pair; a problem that did not move forgets all of its pairs, and starts again along the gradient."""
        self.steps = np.concatenate([self.steps[-HISTORY + 1 :], step[None]])
        self.changes = np.concatenate([self.changes[-HISTORY + 1 :], change[None]])
        still = np.einsum("pd,pd->p", step, change) <= 0
        self.steps[:, still] = self.changes[:, still] = 0.0

    def _pseudo_gradient(self) -> Floats:
        """Return the subgradient of least length (Andrew and Gao, equation 4)."""
        if not self.l1.any():
            return self.gradients
        right, left = self.gradients + self.l1, self.gradients - self.l1
        at_zero = np.where(left > 0, left, np.where(right < 0, right, 0.0))
        return np.where(self.points > 0, right, np.where(self.points < 0, left, at_zero))

    def _direction(self, slope: Floats) -> Floats:
        """Return -H slope by the two loops of L-BFGS; a pair of zeros leaves everything as it is."""
        direction = -slope
        curvatures = np.einsum("hpd,hpd->hp", self.steps, self.changes)
        known = curvatures > 0
        rho = np.where(known, 1 / np.where(known, curvatures, 1.0), 0.0)
        shares = np.zeros_like(rho)
        for i in reversed(range(len(rho))):
            shares[i] = rho[i] * np.einsum("pd,pd->p", self.steps[i], direction)
            direction -= shares[i][:, None] * self.changes[i]
        direction *= self._scale(slope, curvatures)[:, None]
        for i in range(len(rho)):
            correction = shares[i] - rho[i] * np.einsum("pd,pd->p", self.changes[i], direction)
            direction += correction[:, None] * self.steps[i]
        # Where there is an L1 penalty, an entry must not move against its own slope.
        direction[(self.l1 > 0) & (direction * slope >= 0)] = 0.0
        return np.asarray(direction)

    def _scale(self, slope: Floats, curvatures: Floats) -> Floats:
        """Return by what the gradient becomes a step: the last curvature, or where there is none what was foreseen."""
        first = np.ones(len(slope)) if self.unit_curvature else 1 / np.maximum(np.linalg.norm(slope, axis=1), 1e-300)
        if not len(curvatures):
            return np.asarray(first)
        squares = np.einsum("pd,pd->p", self.changes[-1], self.changes[-1])
        return np.asarray(np.where(squares > 0, curvatures[-1] / np.where(squares > 0, squares, 1.0), first))
