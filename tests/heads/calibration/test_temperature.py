"""One factor turns scores into probabilities, also where the scores say nothing."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from pipeline.heads.calibration.temperature import CENTRE, DEVIATION, LARGEST, fit_factor, fit_temperature
from pipeline.heads.centroid import CentroidHead

pytestmark = pytest.mark.filterwarnings("error")


def factor(scores: np.ndarray, weights: np.ndarray) -> float:
    y = np.array([0, 0, 1, 1])
    return fit_factor(scores, y, weights, np.zeros(2))


@pytest.mark.parametrize("unit", [1e-60, 1e-6, 1.0, 1e60])
def test_the_factor_follows_the_unit_of_the_scores(unit: float) -> None:
    """Of four rows, all right, each counts 5 to 1: the factor makes a distance of 2 units log 5."""
    scores = unit * np.array([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, 1.0]])
    assert factor(scores, np.ones(4)) * unit == pytest.approx(np.log(5) / 2, rel=1e-6)


@pytest.mark.parametrize("scores", [np.zeros((4, 2)), np.full((4, 2), -7.0), np.full((4, 2), 1e-320)])
def test_scores_that_tell_no_class_from_another_keep_their_unit(scores: np.ndarray) -> None:
    assert factor(scores, np.ones(4)) == 1.0


def test_rows_that_do_not_count_do_not_show_in_the_unit() -> None:
    scores = np.array([[0.0, 0.0], [0.0, 0.0], [1e9, 0.0], [0.0, 1e9]])
    assert factor(scores, np.array([1.0, 1.0, 0.0, 0.0])) == 1.0


def test_a_centroid_head_of_features_that_are_all_alike_says_how_frequent_a_class_is() -> None:
    rows, y = np.ones((4, 3), np.float32), np.array([0, 0, 0, 1])
    head = CentroidHead(class_weight=None).fit(rows, y, None)
    np.testing.assert_allclose(head.predict_proba(rows), np.tile([0.75, 0.25], (4, 1)), atol=1e-6)


@pytest.mark.parametrize("images", [1, 3, 200])
@pytest.mark.parametrize("unit", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("right", [-1.0, 0.5, 4.0])
def test_the_temperature_is_the_most_likely_one(images: int, unit: float, right: float) -> None:
    draw = np.random.default_rng(images)
    logits, y = draw.normal(size=(images, 4)), draw.integers(0, 4, images)
    logits[np.arange(images), y] += right
    logits *= unit

    def loss(logarithm: float) -> float:
        cooled = logits / np.exp(logarithm)
        prior = (logarithm - CENTRE) ** 2 / (2 * DEVIATION**2)
        return float(np.sum(logsumexp(cooled, axis=1) - cooled[np.arange(images), y]) + prior)

    ends = np.linspace(-np.log(LARGEST), np.log(LARGEST), 40)
    least = [minimize_scalar(loss, bounds=pair, method="bounded") for pair in itertools.pairwise(ends)]
    best = min(least, key=lambda one: one.fun)
    assert np.log(fit_temperature(logits, y)) == pytest.approx(best.x, abs=1e-4)
