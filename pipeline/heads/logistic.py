"""Logistic regression on standardised features: the head to try first, fitted to its optimum in a second."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads import lockstep
from pipeline.heads.affine import AffineHead
from pipeline.heads.parameters import require_choice, require_number, require_whole
from pipeline.heads.rows import (
    Candidates,
    ClassWeight,
    Codes,
    Floats,
    Part,
    Progress,
    Standardised,
    Table,
    check_labelled,
    class_weights,
    count_classes,
    learn_scale,
    outputs,
    probabilities,
    take,
)

# The objective is a mean of nats. Coefficients of candidates are then within 1e-3 of the optimum, relative, at any
# strength, and those of a head that is kept within 1e-5.
COMPARED: Final = 1e-5
KEPT: Final = 1e-7
# In coordinates in which the curvature is about one, a gradient is as far from zero as the point is from the optimum.
CURVED: Final = 3e-6
# Strengths that are solved side by side; each such stride of the path starts where the last one ended.
STRIDE: Final = 5
SIDE_BY_SIDE: Final = 2**22  # numbers in the points of all problems at once, 32 MB; the solver keeps some 25 times that
# Of rows on disk so many numbers are fitted in memory first, and the curvature is learned of at most so many columns.
SAMPLED_VALUES: Final = 2**25
LARGEST_CURVATURE: Final = 4096
SEARCHED_C: Final = tuple(float(f"{C:.3g}") for C in np.logspace(-5, 2, 22))


@dataclass(kw_only=True, eq=False)
class LogisticHead(AffineHead):
    """Logistic regression over standardised columns, kept as four arrays.

    The objective is scikit-learn's: C times the sum of the weighted losses, plus l1_ratio · ‖w‖₁ and
    (1 - l1_ratio) / 2 · ‖w‖²; intercepts are free. Three classes or more are one softmax. It is summed over blocks of
    rows, so that rows which do not fit in memory give the same optimum.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, above 0.
    l1_ratio : float
        Share of the L1 penalty, from 0 (ridge) to 1 (lasso).
    class_weight : "balanced" or None
        Whether rare classes weigh more.
    max_iter : int
        Where the solver gives up; that it did is said in `warnings_`.
    seed : int
        Without effect: the optimum is one, and the way to it has no randomness.

    Attributes
    ----------
    arrays_ : dict
        As in `AffineHead`.
    history_ : list
        Empty: there are no epochs.
    warnings_ : list of str
    """

    C: float
    l1_ratio: float
    class_weight: ClassWeight | None
    max_iter: int
    seed: int
    arrays_: dict[str, NDArray[Any]] = field(init=False, repr=False)
    history_: list[dict[str, float]] = field(init=False, repr=False)
    warnings_: list[str] = field(init=False, repr=False)

    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""
        require_number("C", self.C, least=0.0, open_ended=True)
        require_number("l1_ratio", self.l1_ratio, least=0.0, most=1.0)
        require_choice("class_weight", self.class_weight, (None, "balanced"))
        require_whole("max_iter", self.max_iter, least=1)
        require_whole("seed", self.seed, least=0)

    def fit(self, X: Table, y: Codes, validation: tuple[Table, Codes] | None, progress: Progress | None = None) -> Self:
        """Learn means, scales, coefficients and intercepts.

        Parameters
        ----------
        X : Table of shape (n, d), floating
        y : ndarray of shape (n,), codes from 0 to K - 1
        validation, progress
            Not used: the problem is convex and the solver runs to its optimum.

        Raises
        ------
        InputError
            A parameter, the rows or the codes are not as expected.
        """
        everything = Part(np.arange(len(X)), (X, y))
        ((learned,),) = self._fit_side_by_side(X, y, [everything], [{}], KEPT, progress=None)
        self.arrays_, self.history_, self.warnings_ = learned.arrays_, learned.history_, learned.warnings_
        return self

    @staticmethod
    def grid() -> dict[str, tuple[Any, ...]]:
        """Return the values that a search tries, the simplest first; C more than l1_ratio makes a fit simple."""
        return {"C": SEARCHED_C, "l1_ratio": (1.0, 0.5, 0.0)}

    def fit_grid(
        self,
        X: Table,
        y: Codes,
        parts: Sequence[Part],
        candidates: Candidates,
        *,
        jobs: int,
        progress: Progress | None,
    ) -> list[list[Self]]:
        """Fit each candidate on the rows of each part: a path over C for each l1_ratio, all parts side by side.

        Parameters
        ----------
        X, y
            As for `fit`.
        parts : sequence of Part
        candidates : sequence of dict
            Parameters to replace: C, l1_ratio or none.
        jobs
            Not used: the parts share each pass over the rows, and its matrix products share the processor.
        progress : callable or None
            Called with (fits done, fits).

        Returns
        -------
        list (a part) of list (a candidate) of LogisticHead
        """
        return self._fit_side_by_side(X, y, parts, candidates, COMPARED, progress)

    def _fit_side_by_side(
        self,
        X: Table,
        y: Codes,
        parts: Sequence[Part],
        candidates: Candidates,
        tolerance: float,
        progress: Progress | None,
    ) -> list[list[Self]]:
        heads = [replace(self, **candidate) for candidate in candidates]
        for head in heads:
            head.check()
        n_classes = count_classes(y)
        check_labelled(X, y, X.shape[1], n_classes)
        scales = [learn_scale(take(X, part.rows)) for part in parts]
        weights = [_row_weights(y, part.rows, n_classes, self.class_weight) for part in parts]
        objective = _Objective(X, y, outputs(n_classes), scales, np.array(weights))
        fitted: list[list[Self]] = [[] for _ in parts]
        by_path = sorted(range(len(heads)), key=lambda place: (heads[place].l1_ratio, heads[place].C))
        size = objective.size * len(parts)
        stride = max(1, min(STRIDE, SIDE_BY_SIDE // size))
        start, path = np.zeros((len(parts), objective.size)), None
        for first in range(0, len(by_path), stride):
            chosen = [heads[place] for place in by_path[first : first + stride]]
            if chosen[0].l1_ratio != path:
                start, path = np.zeros_like(start), chosen[0].l1_ratio
            points = objective.minimise(chosen, start, tolerance)
            start = points[:, [head.l1_ratio for head in chosen].count(path) - 1]
            for part, kept in enumerate(fitted):
                for head, point in zip(chosen, points[part], strict=True):
                    one = replace(head)
                    one._keep(*objective.split(point), *scales[part])
                    one.history_, one.warnings_ = [], head.warnings_
                    kept.append(one)
            if progress is not None:
                progress(len(parts) * len(fitted[0]), len(parts) * len(heads))
        back = np.argsort(by_path)
        return [[kept[place] for place in back] for kept in fitted]


def _row_weights(y: Codes, rows: NDArray[np.intp], n_classes: int, choice: ClassWeight | None) -> Floats:
    """Return the weight of each row in the mean loss of a part, (n,); 0 for rows outside of it."""
    weights = np.zeros(len(y))
    weights[rows] = class_weights(y[rows], choice)[y[rows]] / len(rows)
    return weights


class _Objective:
    """The penalised mean loss of several fits, as a function of points: coefficients (1 or K, d), then intercepts.

    scikit-learn's objective is divided by C n, with n the number of rows of the part: its optimum is the same, and its
    gradient is of one size whatever n.

    Parameters
    ----------
    X : Table of shape (n, d)
    y : ndarray of shape (n,)
    n_outputs : int
        1 for two classes, else K.
    scales : list of (mean, scale)
        Of each part: its coefficients are those of columns that are standardised on its rows.
    weights : ndarray of shape (parts, n)
        Of the rows; those of a part sum to about 1.
    """

    def __init__(
        self, X: Table, y: Codes, n_outputs: int, scales: Sequence[tuple[Floats, Floats]], weights: Floats
    ) -> None:
        # The rows are standardised once, by the first part's numbers. What differs in another is left to its weights.
        mean, scale = scales[0]
        self.rows, self.y, self.weights, self.n_outputs = Standardised(X, mean, scale), y, weights, n_outputs
        self.n_classes = n_outputs if n_outputs > 1 else 2
        self.stretch = np.array([scale / own for _, own in scales])
        self.shift = np.array([(own_mean - mean) / own for own_mean, own in scales])
        self.counts = np.count_nonzero(weights, axis=1)
        self.size = n_outputs * (X.shape[1] + 1)

    def split(self, point: Floats) -> tuple[Floats, Floats]:
        """Return coefficients (1 or K, d) and intercepts (1 or K,)."""
        return point[: -self.n_outputs].reshape(self.n_outputs, -1), point[-self.n_outputs :]

    def minimise(self, heads: Sequence[LogisticHead], start: Floats, tolerance: float) -> Floats:
        """Return the optimum of each head on each part, (parts, heads, size), and leave a warning where there is none.

        Parameters
        ----------
        heads : sequence of LogisticHead
            Their C, l1_ratio and max_iter.
        start : ndarray of shape (parts, size)
        tolerance : float
            As for `lockstep.minimise`.
        """
        parts = np.repeat(np.arange(len(start)), len(heads))
        C, ratio = (np.tile([getattr(head, name) for head in heads], len(start)) for name in ("C", "l1_ratio"))
        strength = 1 / (C * self.counts[parts])
        l1 = np.zeros((len(parts), self.size))
        l1[:, : -self.n_outputs] = (strength * ratio)[:, None]
        l2 = strength * (1 - ratio)

        def smooth(points: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
            return self._evaluate(points, parts[which], l2[which])

        found = self._solve(smooth, start[parts], l1, l2, tolerance, heads[0].max_iter)
        for place, head in enumerate(heads):
            missed = not found.converged[place :: len(heads)].all()
            head.warnings_ = [_not_converged(head.max_iter)] if missed else []
        return found.points.reshape(len(start), len(heads), self.size)

    def _solve(
        self,
        smooth: lockstep.Smooth,
        start: Floats,
        l1: Floats,
        l2: Floats,
        tolerance: float,
        max_iter: int,
    ) -> lockstep.Found:
        """Minimise; a single fit on rows of a file is first made on a sample that fits in memory.

        A pass over a file is dear. The optimum of the sample is near the one of all rows, and in the coordinates in
        which the sample's curvature is one, that of all rows is nearly so, too: a few passes are left to make, and the
        objective that they minimise is that of all rows.
        """
        n_sampled = min(len(self.y), SAMPLED_VALUES // self.rows.shape[1])
        if len(start) > 1 or self.rows.in_memory or len(np.unique(self.y[:n_sampled])) < self.n_classes:
            return lockstep.minimise(smooth, start, l1, tolerance=tolerance, max_iter=max_iter)
        sample = self._first(n_sampled)
        near = lockstep.minimise(
            lambda points, which: sample._evaluate(points, which, l2[which]),
            start,
            l1,
            tolerance=1e-3,
            max_iter=max_iter,
        ).points
        if l1.any() or self.rows.shape[1] > LARGEST_CURVATURE:  # an L1 penalty is one in these coordinates only
            return lockstep.minimise(smooth, near, l1, tolerance=tolerance, max_iter=max_iter)
        curvature = _Curvature(sample._hessians(near[0], float(l2[0])), self)

        def curved(points: Floats, which: NDArray[np.intp]) -> tuple[Floats, Floats]:
            values, gradients = smooth(curvature.point(points), which)
            return values, curvature.slope(gradients)

        found = lockstep.minimise(
            curved, curvature.coordinates(near), l1, tolerance=CURVED, max_iter=max_iter, unit_curvature=True
        )
        return found._replace(points=curvature.point(found.points))

    def _first(self, count: int) -> "_Objective":
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

    def _evaluate(self, points: Floats, parts: NDArray[np.intp], l2: Floats) -> tuple[Floats, Floats]:
        """Return values (p,) and gradients (p, size) of the smooth part, in one pass over the rows."""
        p, k = len(points), self.n_outputs
        coef = points[:, :-k].reshape(p, k, -1)
        stretch, shift = self.stretch[parts][:, None, :], self.shift[parts][:, None, :]
        kernel = (coef * stretch).reshape(p * k, -1)
        bias = points[:, -k:] - (coef * shift).sum(axis=2)
        values, by_kernel, by_bias = np.zeros(p), np.zeros_like(kernel), np.zeros((p, k))
        for rows, block in self.rows.blocks():
            logits = (block @ kernel.T).reshape(-1, p, k) + bias
            weights = self.weights[parts, rows].T
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

    def __init__(self, hessians: Floats, objective: _Objective) -> None:
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


def _not_converged(max_iter: int) -> str:
    return (
        f"logistic: expected the solver to converge within max_iter={max_iter}, received its last step; "
        "the coefficients are not at the optimum: raise max_iter or lower C"
    )
