"""Ridge regression on the classes: one eigendecomposition, after which every strength of the penalty is nearly free."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.heads.calibration.temperature import fit_factor
from pipeline.heads.linear import AffineHead
from pipeline.heads.parameter_checks import require_choice, require_number
from pipeline.heads.settings import ClassWeight
from pipeline.heads.standardise import (
    Candidates,
    Standardised,
    Table,
    check_labelled,
    class_weights,
    count_classes,
    learn_scale,
    outputs,
)
from pipeline.types import Codes, Floats

SEARCHED_ALPHA: Final = tuple(float(f"{alpha:.3g}") for alpha in np.logspace(6, -1, 22))
FACTOR_ROWS: Final = 2**16
LARGEST_GRAM: Final = 20_000  # columns, or rows if these are fewer: the matrix of their products takes 3.2 GB


@dataclass(kw_only=True, eq=False)
class RidgeHead(AffineHead):
    """Least squares on -1 and 1 with an L2 penalty, then a factor that turns scores into log odds.

    The objective is that of scikit-learn's RidgeClassifier on standardised columns: the sum of weighted squares plus
    alpha · ‖w‖²; intercepts are free. The class of the largest score is its class, too.

    The scores of least squares are no probabilities. Each row is left out in turn, which has a closed form (Hastie,
    Tibshirani, Friedman, "The Elements of Statistical Learning", 2nd ed., equation 7.64), and on the scores which it
    then gets one factor is fitted by maximum likelihood (`temperature.fit_factor`). Views of one image are rows of
    their own, so with them the factor comes out larger than on new images.

    Parameters
    ----------
    alpha : float
        Strength of the penalty, above 0.
    class_weight : "balanced" or None
        Whether rare classes weigh more.

    Attributes
    ----------
    arrays_ : dict
        As in `AffineHead`; the factor is part of ``coef_`` and ``intercept_``.
    """

    alpha: float
    class_weight: ClassWeight | None

    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""
        require_number("alpha", self.alpha, open_ended=True)
        require_choice("class_weight", self.class_weight, (None, "balanced"))

    def _learn(self, X: Table, y: Codes, n_classes: int) -> None:
        """Learn means, scales, coefficients and intercepts."""
        self._learn_each([self], X, y, n_classes)

    @staticmethod
    def grid() -> dict[str, tuple[Any, ...]]:
        """Return the values that a search tries, the simplest first."""
        return {"alpha": SEARCHED_ALPHA}

    def _fit_each(self, X: Table, y: Codes, candidates: Candidates) -> list[Self]:
        heads = [replace(self, **candidate) for candidate in candidates]
        for head in heads:
            head.check()
        n_classes = count_classes(y)
        check_labelled(X, y, X.shape[1], n_classes)
        for head in heads:
            head.history_, head.warnings_ = [], []
        self._learn_each(heads, X, y, n_classes)
        return heads

    def _learn_each(self, heads: Sequence["RidgeHead"], X: Table, y: Codes, n_classes: int) -> None:
        """Decompose the rows once, from which every strength of the penalty follows."""
        mean, scale = learn_scale(X)
        rows, weights = Standardised(X, mean, scale), class_weights(y, self.class_weight)[y]
        targets = np.where(y[:, None] == np.arange(n_classes), 1.0, -1.0)
        normal = _decompose(rows, targets[:, -outputs(n_classes) :], weights, dual=isinstance(X, np.ndarray))
        alphas = np.array([head.alpha for head in heads])
        judged, left_out = _left_out(rows, targets, weights, normal, alphas)
        for head, scores in zip(heads, left_out, strict=True):
            both = scores if n_classes > 2 else np.hstack([-scores, scores]) / 2
            factor = fit_factor(both, y[judged], weights[judged], np.zeros(n_classes))
            coef = factor * normal.coefficients(head.alpha).T
            head._keep(coef, factor * normal.target - coef @ normal.centre, mean, scale)


class _Normal(NamedTuple):
    """The normal equations of centred rows, in the directions where they fall apart.

    Attributes
    ----------
    centre, target : ndarrays of shape (d,) and (1 or K,)
        Weighted means of rows and targets.
    basis : ndarray of shape (d, r)
        Orthonormal directions.
    spread : ndarray of shape (r,)
        Sums of weighted squares along them.
    moments : ndarray of shape (r, 1 or K)
        Sums of weighted products with the targets along them.
    """

    centre: Floats
    target: Floats
    basis: Floats
    spread: Floats
    moments: Floats

    def coefficients(self, alpha: float) -> Floats:
        """Return the solution for one strength, (d, 1 or K)."""
        return np.asarray(self.basis @ (self.moments / (self.spread + alpha)[:, None]))


def _decompose(rows: Standardised, targets: Floats, weights: Floats, *, dual: bool) -> _Normal:
    """Return the normal equations, by the products of the columns, or by those of the rows if these are fewer.

    Regimes: columns, d ≤ n or rows on disk, O(n d² + d³) and d² numbers; rows, n < d, O(n² d + n³) and n² numbers.
    """
    n, d = rows.shape
    size = min(n, d) if dual else d
    if size > LARGEST_GRAM:
        raise InputError(
            f"ridge: expected at most {LARGEST_GRAM:,} rows or columns, since it holds the products of all pairs, "
            f"received {n:,} rows of {d:,} columns: extract with `pooling='avg'`, or train `head='logistic'`"
        )
    total = weights.sum()
    centre, target = np.zeros(d), weights @ targets / total
    for place, block in rows.blocks():
        centre += weights[place] @ block / total
    pull = weights[:, None] * (targets - target)
    if dual and n < d:
        matrix = np.vstack([np.sqrt(weights[place])[:, None] * (block - centre) for place, block in rows.blocks()])
        spread, vectors = np.linalg.eigh(matrix @ matrix.T)
        kept = spread > spread[-1] * n * np.finfo(np.float64).eps
        spread, vectors = spread[kept], vectors[:, kept]
        basis = matrix.T @ (vectors / np.sqrt(spread))
        return _Normal(centre, target, basis, spread, basis.T @ (matrix.T @ (pull / np.sqrt(weights)[:, None])))
    gram, products = np.zeros((d, d)), np.zeros((d, targets.shape[1]))
    for place, block in rows.blocks():
        centred = np.sqrt(weights[place])[:, None] * (block - centre)
        gram += centred.T @ centred
        products += centred.T @ (pull[place] / np.sqrt(weights[place])[:, None])
    spread, basis = np.linalg.eigh(gram)
    return _Normal(centre, target, basis, np.maximum(spread, 0.0), basis.T @ products)


def _left_out(
    rows: Standardised, targets: Floats, weights: Floats, normal: _Normal, alphas: Floats
) -> tuple[NDArray[np.intp], Floats]:
    """Return rows (m,), and for each strength the scores that each gets from a fit on all others, (alphas, m, 1 or K).

    Of many rows it is `FACTOR_ROWS` at least, in blocks that lie apart: they are there to fit one number.

    A row's leverage is its weight times its squared length in the metric of the fit, plus its share in the intercept;
    the residual without it is the residual with it, divided by one less the leverage.
    """
    k = normal.moments.shape[1]
    shrink = 1 / (normal.spread[:, None] + alphas)
    solved = (normal.moments[:, None, :] * shrink[:, :, None]).reshape(len(shrink), len(alphas) * k)
    judged, scores = [], []
    for place, block in rows.blocks(every=max(1, rows.shape[0] // FACTOR_ROWS)):
        along = (block - normal.centre) @ normal.basis
        fitted = (along @ solved).reshape(len(block), len(alphas), k).transpose(1, 0, 2) + normal.target
        leverage = weights[place] * ((along**2 @ shrink).T + 1 / weights.sum())
        aim = targets[place, -k:]
        rest = np.maximum(1 - leverage, np.sqrt(np.finfo(np.float64).eps))
        judged.append(np.arange(place.start, place.stop))
        scores.append(aim - (aim - fitted) / rest[:, :, None])
    return np.concatenate(judged), np.concatenate(scores, axis=1)
