"""The one shape of all heads."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from numpy.typing import NDArray

from pipeline.heads.dense_layers import Stack
from pipeline.heads.selection.cross_validation import Fold, each_fold
from pipeline.heads.standardise import Candidates, Rows, Slot, Table, check_labelled, count_classes, take
from pipeline.types import Codes, Floats, Progress, Told


@dataclass(kw_only=True, eq=False)
class Head(ABC):
    """A classifier of feature rows. Fields are parameters; what a fit learns ends in ``_``.

    Attributes
    ----------
    arrays_ : dict
        All that `predict_proba` needs, by name.
    history_ : list of dict
        A row an epoch; empty for a head that has none.
    warnings_ : list of str
        What a user should know of the fit.
    """

    arrays_: dict[str, NDArray[Any]] = field(init=False, repr=False)
    history_: list[dict[str, float]] = field(init=False, repr=False)
    warnings_: list[str] = field(init=False, repr=False)

    @abstractmethod
    def check(self) -> None:
        """Raise InputError for a parameter that is out of its range."""

    @abstractmethod
    def layout(self, n_features: int, n_classes: int) -> dict[str, Slot]:
        """Return name, shape and dtype of each of `arrays_` after a fit, and whether it is trained."""

    def fit(
        self,
        X: Table,
        y: Codes,
        validation: tuple[Table, Codes] | None,
        progress: Progress | None = None,
        told: Told | None = None,
    ) -> Self:
        """Learn from labelled rows.

        Parameters
        ----------
        X : Table of shape (n, d), floating
        y : ndarray of shape (n,), codes from 0 to K - 1
        validation : (X, y) or None
            Rows that a head with epochs judges after each one and never trains on.
        progress : callable or None
            Called with (epochs done, epochs at most) by a head that has epochs.
        told : callable or None
            Called with each row of `history_`.

        Raises
        ------
        InputError
            A parameter, the rows or the codes are not as expected.
        """
        self.check()
        n_classes = count_classes(y)
        check_labelled(X, y, X.shape[1], n_classes)
        self.history_, self.warnings_ = [], []
        self._learn(X, y, n_classes)
        return self

    def _learn(self, X: Table, y: Codes, n_classes: int) -> None:
        """Learn from rows and codes that are as expected; a head with epochs has a `fit` of its own instead."""
        raise NotImplementedError

    @abstractmethod
    def predict_proba(self, X: Rows) -> Floats:
        """Return the probability of each class, (n, K) float64, whose rows sum to 1, from `arrays_` alone.

        InputError if the rows are not finite, or not as wide as those of the fit.
        """

    @abstractmethod
    def stack(self) -> Stack:
        """Return the fitted head as dense layers under a sigmoid or softmax; InputError for a head that is none."""

    @staticmethod
    def grid() -> dict[str, tuple[Any, ...]]:
        """Return parameters and the values that a search tries, the simplest first; the first parameter counts most."""
        return {}

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
        """Fit each candidate on the rows of each fold.

        Parameters
        ----------
        X, y
            As for `fit`.
        folds : sequence of Fold
            A head with epochs watches the rows held out.
        candidates : sequence of dict
            Parameters to replace.
        jobs : int
            Parts that are fitted at a time.
        progress : callable or None
            Called with (fits done, fits), or with epochs.

        Returns
        -------
        list (a fold) of list (a candidate) of fitted heads
        """
        return each_fold(
            lambda fold: self._fit_each(take(X, fold.rows), y[fold.rows], candidates),
            folds,
            candidates,
            jobs=jobs,
            progress=progress,
        )

    def _fit_each(self, X: Table, y: Codes, candidates: Candidates) -> list[Self]:
        """Fit each candidate on the same rows; a head whose candidates share work does it once for all."""
        return [replace(self, **candidate).fit(X, y, None) for candidate in candidates]
