"""Logistic regression on standardised features: the head to try first, fitted to its optimum in a second."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.heads.linear import AffineHead
from pipeline.heads.parameter_checks import require_choice, require_number, require_whole
from pipeline.heads.selection.cross_validation import Fold
from pipeline.heads.settings import ClassWeight
from pipeline.heads.solvers.curvature import Points, Spectrum, spectrum
from pipeline.heads.solvers.logistic_objective import Objective, Penalty, optimum
from pipeline.heads.solvers.regularisation_path import Path, Tried, walk
from pipeline.heads.solvers.row_blocks import Workers, one_blas_thread
from pipeline.heads.standardise import (
    Candidates,
    Table,
    check_labelled,
    class_weights,
    count_classes,
    learn_scale,
    outputs,
    standardise,
)
from pipeline.types import Codes, Floats, Progress

SEARCHED_C: Final = tuple(float(f"{C:.3g}") for C in np.logspace(-5, 2, 22))
SPECTRUM_ROWS: Final = 4096
SPECTRUM_VALUES: Final = 2**24  # of these rows at most, 64 MB


class Near(NamedTuple):
    """Where a search ended, from which the last fit starts: the folds' mean (size,), and the spectrum of the rows."""

    point: Points
    spectrum: Spectrum


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
    near : Near or None
        From where to start. It changes how long a fit takes, and the head by no more than the solver's tolerance.
    """

    C: float
    l1_ratio: float
    class_weight: ClassWeight | None
    max_iter: int
    seed: int
    near: Near | None = field(init=False, repr=False, default=None)

    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""
        require_number("C", self.C, open_ended=True)
        require_number("l1_ratio", self.l1_ratio, most=1.0)
        require_choice("class_weight", self.class_weight, (None, "balanced"))
        require_whole("max_iter", self.max_iter, least=1)
        require_whole("seed", self.seed, least=0)

    def _learn(self, X: Table, y: Codes, n_classes: int) -> None:
        """Learn means, scales, coefficients and intercepts: the problem is convex."""
        scale = learn_scale(X)
        weights = class_weights(y, self.class_weight)[y] / len(y)
        k = outputs(n_classes)
        with one_blas_thread():
            near = self.near
            if near is None or near.point.shape != (k * (X.shape[1] + 1),):
                near = Near(_start(X, y, weights), _spectrum(X, scale))
            penalty = Penalty.of(np.array([self.C]), np.array([self.l1_ratio]), np.array([float(len(y))]))
            point, reached = optimum(X, y, k, scale, weights, penalty, near.point, near.spectrum, self.max_iter)
        self._keep(point[:-k].reshape(k, -1), point[-k:], *scale)
        self.warnings_ = [] if reached else [_not_converged(self.max_iter)]

    @staticmethod
    def grid() -> dict[str, tuple[Any, ...]]:
        """Return the values that a search tries, the simplest first; C more than l1_ratio makes a fit simple."""
        return {"C": SEARCHED_C, "l1_ratio": (1.0, 0.5, 0.0)}

    def search(
        self,
        X: Table,
        y: Codes,
        folds: Sequence[Fold],
        candidates: Candidates,
        weights: Floats,
        progress: Progress | None,
    ) -> tuple[list[Tried | None], Spectrum]:
        """Judge each candidate on what the folds hold out: a path over C for each l1_ratio, all folds side by side.

        All folds share one standardised copy of the rows, so that rows held out lend their mean and scale, and nothing
        of their labels. The mean loss moves by less than a tenth of its standard error.

        Parameters
        ----------
        X, y
            As for `fit`.
        folds : sequence of Fold
        candidates : sequence of dict
            Parameters to replace: C, l1_ratio or none.
        weights : ndarray of shape (K,)
            Of the classes, in the means.
        progress : callable or None
            Called with (fits done, fits).

        Returns
        -------
        tried : list of Tried or None
            None for a candidate that was not tried, since its path was losing.
        spectrum : Spectrum
            Of the rows, for a fit on all of them.
        """
        heads = [replace(self, **candidate) for candidate in candidates]
        for head in heads:
            head.check()
        n_classes = count_classes(y)
        check_labelled(X, y, X.shape[1], n_classes)
        scale = learn_scale(X)
        tables, codes, held = _with_held_out(X, y, folds, weights)
        inside = np.zeros((len(folds), len(codes)))
        for row, fold in zip(inside, folds, strict=True):
            row[fold.rows] = class_weights(y[fold.rows], self.class_weight)[y[fold.rows]] / len(fold.rows)
        tried: list[Tried | None] = [None] * len(heads)
        with one_blas_thread(), Workers() as workers:
            k, found = outputs(n_classes), _spectrum(X, scale)
            objective = Objective(tables, codes, k, *scale, inside, held=held, dtype=np.float32, workers=workers)
            counts = np.array([float(len(fold.rows)) for fold in folds])
            start = _start(X, y, inside[:, : len(y)].sum(axis=0))
            path = Path(objective, counts, held, start, found, k)
            done = 0
            for ratio in sorted({head.l1_ratio for head in heads}):
                chosen = sorted((head.C, place) for place, head in enumerate(heads) if head.l1_ratio == ratio)

                def told(walked: int, before: int = done) -> None:
                    if progress is not None:
                        progress(len(folds) * (before + walked), len(folds) * len(heads))

                walked = walk(path, [C for C, _ in chosen], ratio, max_iter=self.max_iter, progress=told)
                for (_, place), one in zip(chosen, walked, strict=True):
                    tried[place] = one
                done += len(chosen)
                told(0, done)
        return tried, found


def _with_held_out(X: Table, y: Codes, folds: Sequence[Fold], weights: Floats) -> tuple[list[Table], Codes, Floats]:
    """Return the rows, those held out that are not among them, the codes (n,) of all, and weights (F, n) held out."""
    tables, codes, places = [X], [y], []
    total = len(y)
    for fold in folds:
        if fold.places is None:
            tables.append(fold.held[0])
            codes.append(fold.held[1])
            places.append(np.arange(total, total + len(fold.held[1])))
            total += len(fold.held[1])
        else:
            places.append(fold.places)
    held = np.zeros((len(folds), total))
    for row, fold, place in zip(held, folds, places, strict=True):
        row[place] = weights[fold.held[1]]
    return tables, np.concatenate(codes), held


def _start(X: Table, y: Codes, weights: Floats) -> Points:
    """Return no coefficients and the intercepts of the classes' weights, (size,) float32."""
    share = np.log(np.bincount(y, weights=weights))
    intercept = share[1:] - share[:1] if len(share) == 2 else share - share.mean()
    return np.concatenate([np.zeros(len(intercept) * X.shape[1]), intercept]).astype(np.float32)


def _spectrum(X: Table, scale: tuple[Floats, Floats]) -> Spectrum:
    """Return the spectrum of some thousand rows: of those on disk the first, which by their digests are any."""
    count = max(1, min(len(X), SPECTRUM_ROWS, SPECTRUM_VALUES // X.shape[1]))
    every = len(X) // count if isinstance(X, np.ndarray) else 1
    return spectrum(standardise(X[: count * every : every], *scale).astype(np.float32))


def _not_converged(max_iter: int) -> str:
    return (
        f"logistic: expected the solver to converge within `max_iter={max_iter}`, received its last step; "
        "the coefficients are not at the optimum: raise `max_iter` or lower `C`"
    )
