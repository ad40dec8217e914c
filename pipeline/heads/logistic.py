"""Logistic regression on standardised features: the head to try first, fitted to its optimum in a second."""

import warnings
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.parameters import require_choice, require_number, require_whole
from pipeline.heads.rows import (
    ClassWeight,
    Codes,
    Floats,
    Progress,
    Rows,
    Slot,
    blocks,
    check_labelled,
    check_rows,
    count_classes,
    learn_scale,
    outputs,
    probabilities,
    standardise,
)
from pipeline.heads.stack import Stack


@dataclass(kw_only=True, eq=False)
class LogisticHead:
    """scikit-learn's LogisticRegression over standardised columns, kept as four arrays.

    Parameters
    ----------
    C : float
        Inverse strength of the penalty, above 0.
    l1_ratio : float
        Share of the L1 penalty, from 0 (ridge) to 1 (lasso). 0 is solved by L-BFGS, anything else by SAGA.
    class_weight : "balanced" or None
        Whether rare classes weigh more.
    max_iter : int
        Where the solver gives up; that it did is said in `warnings_`.
    seed : int
        Order in which SAGA visits the rows; L-BFGS has no randomness.

    Attributes
    ----------
    arrays_ : dict
        ``coef_`` (1 or K, d), ``intercept_`` (1 or K,), ``mean_`` and ``scale_`` (d,), all float64.
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

    def layout(self, n_features: int, n_classes: int) -> dict[str, Slot]:
        """Return name, shape and dtype of each array that a fit learns."""
        n_outputs = outputs(n_classes)
        return {
            "coef_": Slot((n_outputs, n_features), "float64", trainable=True),
            "intercept_": Slot((n_outputs,), "float64", trainable=True),
            "mean_": Slot((n_features,), "float64", trainable=False),
            "scale_": Slot((n_features,), "float64", trainable=False),
        }

    def fit(
        self,
        X: Rows,
        y: Codes,
        validation: tuple[Rows, Codes] | None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn means, scales, coefficients and intercepts.

        Parameters
        ----------
        X : ndarray of shape (n, d), floating
        y : ndarray of shape (n,), codes from 0 to K - 1
        validation, progress
            Not used: the problem is convex and the solver runs to its optimum.

        Raises
        ------
        InputError
            A parameter, the rows or the codes are not as expected.
        """
        self.check()
        check_labelled(X, y, X.shape[-1], count_classes(y))
        from sklearn.linear_model import LogisticRegression

        mean, scale = learn_scale(X)
        model = LogisticRegression(
            C=self.C,
            l1_ratio=self.l1_ratio,
            solver="lbfgs" if self.l1_ratio == 0 else "saga",
            class_weight=self.class_weight,
            max_iter=self.max_iter,
            random_state=self.seed,
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(standardise(X, mean, scale), y)
        self.warnings_ = [self._explained(warning) for warning in caught]
        self.history_ = []
        learned = {"coef_": model.coef_, "intercept_": model.intercept_, "mean_": mean, "scale_": scale}
        # One memory order whatever the solver left, so that a head gives the same bits before and after it is stored.
        self.arrays_ = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in learned.items()}
        return self

    def predict_proba(self, X: Rows) -> Floats:
        """Return the probability of each class, from the arrays alone.

        Parameters
        ----------
        X : ndarray of shape (n, d), floating

        Returns
        -------
        ndarray of shape (n, K), float64, rows sum to 1

        Raises
        ------
        InputError
            The rows are not finite, or not as wide as those of the fit.
        """
        coef, intercept = self.arrays_["coef_"], self.arrays_["intercept_"]
        mean, scale = self.arrays_["mean_"], self.arrays_["scale_"]
        check_rows(X, coef.shape[1])
        logits = np.empty((len(X), len(coef)))
        for rows in blocks(len(X)):
            logits[rows] = standardise(X[rows], mean, scale) @ coef.T + intercept
        return probabilities(logits)

    def stack(self) -> Stack:
        """Return the fitted head as one dense layer."""
        return Stack(
            mean=self.arrays_["mean_"],
            scale=self.arrays_["scale_"],
            kernels=[np.ascontiguousarray(self.arrays_["coef_"].T, dtype=np.float32)],
            biases=[self.arrays_["intercept_"].astype(np.float32)],
            activation="linear",
            dropout=0.0,
            l1=0.0,
            l2=0.0,
        )

    def _explained(self, warning: warnings.WarningMessage) -> str:
        from sklearn.exceptions import ConvergenceWarning

        if not issubclass(warning.category, ConvergenceWarning):
            return f"logistic: {warning.message}"
        return (
            f"logistic: expected the solver to converge within max_iter={self.max_iter}, received its last step; "
            "the coefficients are not at the optimum: raise max_iter or lower C"
        )
