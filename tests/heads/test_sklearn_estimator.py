"""scikit-learn's own checks of estimators, on every head."""

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from pipeline.heads.registry import HEADS
from pipeline.heads.sklearn_estimator import HeadClassifier
from tests.heads.test_heads import blobs, make


def estimators():
    return [HeadClassifier(make(name)) for name in HEADS if name != "dense"]


@parametrize_with_checks(estimators())
def test_scikit_learn_s_checks_pass(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", HEADS)
def test_labels_of_any_kind_and_cross_validation(name):
    X, y = blobs(3)
    names = np.array(["ape", "bee", "cow"])[y]
    assert cross_val_score(HeadClassifier(make(name)), X, names, cv=2).mean() > 0.9
    estimator = HeadClassifier(make(name)).fit(X, names)
    assert estimator.classes_.tolist() == ["ape", "bee", "cow"]
    assert not hasattr(estimator.head, "arrays_")
