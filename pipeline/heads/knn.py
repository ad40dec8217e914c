"""The votes of the nearest training images: no training at all, and it keeps every row."""

from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import numpy as np

from pipeline.errors import InputError
from pipeline.heads.head import Head
from pipeline.heads.parameter_checks import require_choice, require_whole
from pipeline.heads.settings import ClassWeight
from pipeline.heads.standardise import (
    Rows,
    Slot,
    Table,
    blocks,
    check_rows,
    class_weights,
    learn_scale,
    standardise,
)
from pipeline.types import Codes, Floats

METRICS: Final = ("cosine", "euclidean")
SEARCHED_NEIGHBOURS: Final = (50, 20, 10, 5, 3, 1)


@dataclass(kw_only=True, eq=False)
class KnnHead(Head):
    """k nearest neighbours among the standardised training rows.

    A class gets the weights of its rows among the neighbours, and of one more neighbour that is shared as the classes
    are beforehand: the m-estimate, with m = 1, of Cestnik, "Estimating probabilities: a crucial task in machine
    learning" (1990). So no class is impossible because k rows lack it.

    Parameters
    ----------
    neighbors : int
        k; of fewer rows all vote.
    metric : "cosine" or "euclidean"
        Of the standardised rows. Of two rows that are equally near, the one that was given first counts as nearer.
    class_weight : "balanced" or None
        Whether a vote of a rare class weighs more, and all classes are alike beforehand.

    Attributes
    ----------
    arrays_ : dict
        ``mean_`` and ``scale_`` (d,) float64, ``rows_`` (n, d) float32 as they were given, ``codes_`` (n,) int64,
        ``votes_`` (K,) float64, the weight of a vote of each class.
    """

    neighbors: int
    metric: Literal["cosine", "euclidean"]
    class_weight: ClassWeight | None

    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""
        require_whole("neighbors", self.neighbors, least=1)
        require_choice("metric", self.metric, METRICS)
        require_choice("class_weight", self.class_weight, (None, "balanced"))

    def layout(self, n_features: int, n_classes: int) -> dict[str, Slot]:
        """Return name, shape and dtype of each array; None is the number of rows kept."""
        return {
            "mean_": Slot((n_features,), "float64", trainable=False),
            "scale_": Slot((n_features,), "float64", trainable=False),
            "rows_": Slot((None, n_features), "float32", trainable=False),
            "codes_": Slot((None,), "int64", trainable=False),
            "votes_": Slot((n_classes,), "float64", trainable=False),
        }

    def _learn(self, X: Table, y: Codes, n_classes: int) -> None:
        """Keep the rows, and learn means and scales. InputError also if the rows do not fit in memory."""
        if not isinstance(X, np.ndarray):
            raise InputError(
                f"knn: expected rows that fit in memory, since it keeps all of them, received {len(X):,} of "
                f"{X.shape[1]:,} columns: raise `memory`, or choose another `head`"
            )
        mean, scale = learn_scale(X)
        votes = class_weights(y, self.class_weight)
        learned = {"mean_": mean, "scale_": scale, "rows_": X.astype(np.float32), "codes_": y.astype(np.int64)}
        self.arrays_ = {name: np.ascontiguousarray(array) for name, array in (learned | {"votes_": votes}).items()}

    @staticmethod
    def grid() -> dict[str, tuple[Any, ...]]:
        """Return the values that a search tries, the simplest first."""
        return {"neighbors": SEARCHED_NEIGHBOURS, "metric": METRICS}

    def predict_proba(self, X: Rows) -> Floats:
        """Return the probability of each class."""
        check_rows(X, len(self.arrays_["mean_"]))
        codes, votes = self.arrays_["codes_"], self.arrays_["votes_"]
        k = min(self.neighbors, len(codes))
        counts = np.bincount(codes, minlength=len(votes)) * votes
        prior = counts / counts.sum()
        known, lengths = self._place(self.arrays_["rows_"])
        probability = np.empty((len(X), len(votes)))
        for rows in blocks(len(X)):
            block, _ = self._place(X[rows])
            # Squared distances, less what is the same for all neighbours of a row.
            nearest = np.argsort(lengths - 2 * block @ known.T, axis=1, kind="stable")[:, :k]
            ballots = (codes[nearest][:, :, None] == np.arange(len(votes))).sum(axis=1) * votes
            probability[rows] = (ballots + prior) / (ballots.sum(axis=1, keepdims=True) + 1)
        return probability

    def stack(self) -> NoReturn:
        """Refuse: a vote is no stack of layers."""
        raise InputError(
            "knn: expected a head that is a map of the features, which can be joined with a network, received one that "
            "compares them with its training rows: train another `head`"
        )

    def _place(self, X: Rows) -> tuple[Floats, Floats]:
        """Return rows where their distances are compared, and their squared lengths."""
        placed = standardise(X, self.arrays_["mean_"], self.arrays_["scale_"])
        if self.metric == "cosine":
            placed /= np.maximum(np.linalg.norm(placed, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return placed, np.square(placed).sum(axis=1)
