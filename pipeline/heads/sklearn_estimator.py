"""Any head as a scikit-learn classifier, for whoever wants its tools around it: pipelines, cross-validation, scores."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.heads.head import Head
from pipeline.types import Floats


class HeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A head that takes labels of any kind and follows scikit-learn's rules for estimators.

    Parameters
    ----------
    head : Head
        With its parameters, not fitted; it stays so, and a copy learns.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
    head_ : Head
        Fitted.
    n_features_in_ : int
    """

    def __init__(self, head: Head) -> None:
        self.head = head

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows (n, d) and labels (n,).

        ValueError if they are not what scikit-learn's classifiers take, InputError if they are not what the head takes.
        """
        X, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"expected labels of two classes or more, received one class: {self.classes_[0]!r}")
        self.head_ = replace(self.head).fit(X, codes.astype(np.int64), None)
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each class, (n, K), in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self.head_.predict_proba(X)

    def predict(self, X: Any) -> Any:
        """Return the most probable label of each row, (n,)."""
        codes = self.predict_proba(X).argmax(axis=1)
        return self.classes_[codes]
