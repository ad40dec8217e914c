"""Logistic regression on standardised features: the head to try first, fitted to its optimum in a second."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.linear import AffineHead
from pipeline.heads.parameter_checks import require_choice, require_number, require_whole
from pipeline.heads.selection.cross_validation import Fold
from pipeline.heads.settings import ClassWeight
from pipeline.heads.solvers.logistic_objective import Objective
from pipeline.heads.standardise import (
    Candidates,
    Table,
    check_labelled,
    class_weights,
    count_classes,
    learn_scale,
    outputs,
    take,
)
from pipeline.types import Codes, Floats, Progress

# The objective is a mean of nats. Coefficients of candidates are then within 1e-3 of the optimum, relative, at any
# strength, and those of a head that is kept within 1e-5.
COMPARED: Final = 1e-5
KEPT: Final = 1e-7
# Strengths that are solved side by side; each such stride of the path starts where the last one ended.
STRIDE: Final = 5
SIDE_BY_SIDE: Final = 2**22  # numbers in the points of all problems at once, 32 MB; the solver keeps some 25 times that
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
        everything = Fold(np.arange(len(X)), (X, y))
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
        folds: Sequence[Fold],
        candidates: Candidates,
        *,
        jobs: int,
        progress: Progress | None,
    ) -> list[list[Self]]:
        """Fit each candidate on the rows of each fold: a path over C for each l1_ratio, all folds side by side.

        Parameters
        ----------
        X, y
            As for `fit`.
        folds : sequence of Fold
        candidates : sequence of dict
            Parameters to replace: C, l1_ratio or none.
        jobs
            Not used: the folds share each pass over the rows, and its matrix products share the processor.
        progress : callable or None
            Called with (fits done, fits).

        Returns
        -------
        list (a fold) of list (a candidate) of LogisticHead
        """
        return self._fit_side_by_side(X, y, folds, candidates, COMPARED, progress)

    def _fit_side_by_side(
        self,
        X: Table,
        y: Codes,
        folds: Sequence[Fold],
        candidates: Candidates,
        tolerance: float,
        progress: Progress | None,
    ) -> list[list[Self]]:
        heads = [replace(self, **candidate) for candidate in candidates]
        for head in heads:
            head.check()
        n_classes = count_classes(y)
        check_labelled(X, y, X.shape[1], n_classes)
        scales = [learn_scale(take(X, fold.rows)) for fold in folds]
        weights = [_row_weights(y, fold.rows, n_classes, self.class_weight) for fold in folds]
        objective = Objective(X, y, outputs(n_classes), scales, np.array(weights))
        fitted: list[list[Self]] = [[] for _ in folds]
        by_path = sorted(range(len(heads)), key=lambda place: (heads[place].l1_ratio, heads[place].C))
        size = objective.size * len(folds)
        stride = max(1, min(STRIDE, SIDE_BY_SIDE // size))
        start, path = np.zeros((len(folds), objective.size)), None
        for first in range(0, len(by_path), stride):
            chosen = [heads[place] for place in by_path[first : first + stride]]
            if chosen[0].l1_ratio != path:
                start, path = np.zeros_like(start), chosen[0].l1_ratio
            found = objective.minimise(
                np.array([1 / head.C for head in chosen]),
                np.array([head.l1_ratio for head in chosen]),
                start,
                tolerance=tolerance,
                max_iter=self.max_iter,
            )
            points = found.points.reshape(len(folds), len(chosen), objective.size)
            converged = found.converged.reshape(len(folds), len(chosen))
            start = points[:, [head.l1_ratio for head in chosen].count(path) - 1]
            for fold, kept in enumerate(fitted):
                for head, point, reached in zip(chosen, points[fold], converged[fold], strict=True):
                    one = replace(head)
                    one._keep(*objective.split(point), *scales[fold])
                    one.history_, one.warnings_ = [], [] if reached else [_not_converged(self.max_iter)]
                    kept.append(one)
            if progress is not None:
                progress(len(folds) * len(fitted[0]), len(folds) * len(heads))
        back = np.argsort(by_path)
        return [[kept[place] for place in back] for kept in fitted]


def _row_weights(y: Codes, rows: NDArray[np.intp], n_classes: int, choice: ClassWeight | None) -> Floats:
    """Return the weight of each row in the mean loss of a fold, (n,); 0 for rows outside of it."""
    weights = np.zeros(len(y))
    weights[rows] = class_weights(y[rows], choice)[y[rows]] / len(rows)
    return weights


def _not_converged(max_iter: int) -> str:
    return (
        f"logistic: expected the solver to converge within `max_iter={max_iter}`, received its last step; "
        "the coefficients are not at the optimum: raise `max_iter` or lower `C`"
    )
