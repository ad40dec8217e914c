"""The calibration error is that of how often the probabilities are right, without what chance adds to it."""

import numpy as np
import pytest

from pipeline.stats import calibration_error
from pipeline.stats.intervals import proportion

HOW = {"seed": 0, "resamples": 400}


def said(confidences: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes and probabilities of two classes: the second is always the more probable one, and right where it hits."""
    return hits.astype(np.int64), np.stack([1 - confidences, confidences], axis=1)


def simulated(n: int, true: float, sure: float) -> tuple[np.ndarray, np.ndarray]:
    """Images that are right in a share `true` and of which the probabilities are surer by `sure`."""
    draw = np.random.default_rng(0)
    confidences = draw.uniform(true - 0.1, true + 0.1, n)
    return said(confidences + sure, draw.random(n) < confidences)


def test_probabilities_that_hold_have_an_error_near_zero_and_an_interval_from_zero() -> None:
    found = calibration_error.calibration_error(*simulated(4_000, 0.8, 0.0), **HOW)
    assert found["low"] == 0.0
    assert found["value"] < 0.02
    assert found["high"] < 0.04


def test_probabilities_that_are_too_sure_have_the_difference_as_their_error() -> None:
    found = calibration_error.calibration_error(*simulated(4_000, 0.8, 0.1), **HOW)
    assert found["value"] == pytest.approx(0.1, abs=0.015)
    assert found["low"] < 0.1 < found["high"]
    assert found["low"] > 0.05


def test_chance_is_not_taken_for_error() -> None:
    actual, probabilities = simulated(400, 0.8, 0.0)
    bins = calibration_error.bins(actual, probabilities)
    plain = sum(one.images * abs(one.accuracy - one.confidence) for one in bins) / 400
    assert calibration_error.calibration_error(actual, probabilities, **HOW)["value"] < 0.75 * plain


def test_without_any_mistake_the_interval_allows_for_some() -> None:
    found = calibration_error.calibration_error(*said(np.full(100, 0.999), np.ones(100)), **HOW)
    assert found["value"] == pytest.approx(0.001)
    assert found["high"] == pytest.approx(0.999 - proportion(100, 100)[0])


def test_bins_hold_equal_numbers_and_say_how_often_they_are_right() -> None:
    confidences = np.arange(1, 201) / 1000 + 0.7
    hits = np.arange(200) % 20 < 13  # of each twenty in a row the first thirteen
    bins = calibration_error.bins(*said(confidences, hits))
    assert [one.images for one in bins] == [20] * 10
    assert {one.accuracy for one in bins} == {0.65}
    assert {(one.low, one.high) for one in bins} == {proportion(13, 20)}
    assert (bins[0].least, bins[0].most, bins[-1].most) == pytest.approx((0.701, 0.72, 0.9))
    assert bins[0].confidence == pytest.approx(0.7105)


def test_few_images_make_few_bins() -> None:
    assert [one.images for one in calibration_error.bins(*said(np.linspace(0.6, 0.9, 45), np.ones(45)))] == [22, 23]
    assert [one.images for one in calibration_error.bins(*said(np.array([0.9]), np.ones(1)))] == [1]


def test_equal_confidences_share_a_bin_whatever_their_order() -> None:
    confidences = np.repeat([0.6, 0.8, 0.95], [30, 100, 70])
    actual, probabilities = said(confidences, np.arange(200) % 3 > 0)
    order = np.random.default_rng(0).permutation(200)
    bins = calibration_error.bins(actual, probabilities)
    assert [one.images for one in bins] == [30, 100, 70]
    again = calibration_error.bins(actual[order], probabilities[order])
    for one, other in zip(bins, again, strict=True):
        assert (one.images, one.accuracy) == (other.images, other.accuracy)
        assert one.confidence == pytest.approx(other.confidence)


def test_the_same_seed_gives_the_same_interval() -> None:
    given = simulated(200, 0.8, 0.05)
    assert calibration_error.calibration_error(*given, **HOW) == calibration_error.calibration_error(*given, **HOW)
