"""Nearest class mean: nothing to tune, and hard to beat with a handful of photos a class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.calibration.temperature import fit_factor
from pipeline.heads.linear import AffineHead
from pipeline.heads.parameter_checks import require_choice
from pipeline.heads.settings import ClassWeight
from pipeline.heads.standardise import Standardised, Table, learn_scale
from pipeline.types import Codes, Floats


@dataclass(kw_only=True, eq=False)
class CentroidHead(AffineHead):
    """Softmax of negative squared distances from the class means of standardised columns.

    It is the nearest class mean classifier of Mensink et al., "Distance-based image classification: generalizing to
    new classes at near-zero cost" (2013), equation 4, and with one factor on the distances, which says how much a
    distance counts. The factor is fitted by maximum likelihood (`temperature.fit_factor`) on distances for which each
    row was left out of its own mean. As the squares of a row's own numbers cancel, the head is an affine map.

    Parameters
    ----------
    class_weight : "balanced" or None
        None: a class is as probable beforehand as its share of the rows. balanced: all are alike, and only the
        distances decide.
    """

    class_weight: ClassWeight | None

    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""
        require_choice("class_weight", self.class_weight, (None, "balanced"))

    def _learn(self, X: Table, y: Codes, n_classes: int) -> None:
        """Learn means, scales, the means of the classes and the factor."""
        mean, scale = learn_scale(X)
        rows, counts = Standardised(X, mean, scale), np.bincount(y)
        centres = np.zeros((n_classes, X.shape[1]))
        for place, block in rows.blocks():
            centres += (y[place] == np.arange(n_classes)[:, None]).astype(np.float64) @ block
        centres /= counts[:, None]
        prior = np.log(counts / len(y)) if self.class_weight is None else np.zeros(n_classes)
        factor = _factor(_scores_left_out(rows, y, centres, counts), y, counts, prior)
        coef, intercept = factor * centres, prior - factor * np.square(centres).sum(axis=1) / 2
        if n_classes == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self._keep(coef, intercept, mean, scale)


def _scores_left_out(rows: Standardised, y: Codes, centres: Floats, counts: NDArray[np.int64]) -> Floats:
    """Return minus half the squared distances from the class means, (n, K), each row left out of its own mean.

    Without one of n rows, their mean lies n / (n - 1) times as far from that row. A class of one row has no other mean.
    """
    scores = np.empty((rows.shape[0], len(centres)))
    farther = np.square(counts / np.maximum(counts - 1, 1))
    lengths = np.square(centres).sum(axis=1)
    for place, block in rows.blocks():
        squares = np.square(block).sum(axis=1, keepdims=True) - 2 * block @ centres.T + lengths
        own = np.arange(len(block)), y[place]
        squares[own] *= farther[y[place]]
        scores[place] = -np.maximum(squares, 0.0) / 2
    return scores


def _factor(scores: Floats, y: Codes, counts: NDArray[np.int64], prior: Floats) -> float:
    """Return the factor on the scores; where every class has but one row, the one of a unit distance a class."""
    weights = (counts[y] > 1).astype(np.float64)
    if not weights.any():
        return float(1 / max(-scores.mean(), np.finfo(np.float64).tiny))
    return fit_factor(scores, y, weights, prior)
