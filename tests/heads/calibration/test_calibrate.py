"""One temperature makes probabilities hold, and what is damaged is refused."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ArtefactError
from pipeline.heads.calibration import calibrate, temperature
from pipeline.heads.standardise import probabilities as softmax


def sampled(n: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the very probabilities that they say."""
    draw = np.random.default_rng(seed)
    logits = 2 * draw.normal(size=(n, k))
    cumulated = softmax(logits).cumsum(axis=1)
    return logits, (draw.random((n, 1)) > cumulated).sum(axis=1).clip(max=k - 1)


@pytest.mark.parametrize("k", [2, 5])
def test_logits_scaled_by_three_get_three_times_the_temperature(k: int) -> None:
    logits, y = sampled(500, k)
    once, thrice = (calibrate.fit(calibrate.apply(softmax(logits), 1 / scale), y) for scale in (1.0, 3.0))
    assert thrice == pytest.approx(3 * once, rel=0.05)  # but for the prior, which weighs less than a few images


@pytest.mark.parametrize("k", [2, 5])
def test_probabilities_that_hold_have_a_temperature_of_one(k: int) -> None:
    logits, y = sampled(30_000, k)
    assert calibrate.fit(softmax(logits), y) == pytest.approx(1.0, abs=0.02)


def test_no_other_temperature_makes_the_labels_more_likely() -> None:
    logits, y = sampled(3_000, 4)
    sure = softmax(5 * logits)
    best = calibrate.fit(sure, y)
    losses = [calibrate.log_loss(calibrate.apply(sure, best * factor), y) for factor in (0.98, 1.0, 1.02)]
    assert losses[1] == min(losses)


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_the_temperature_is_where_the_likelihood_and_the_prior_balance_though_every_image_is_right(n: int) -> None:
    y = np.arange(n) % 2
    right = np.where(y[:, None] == np.arange(2), 0.9, 0.1)
    found = np.log(calibrate.fit(right, y))
    steps = np.linspace(-4, 1, 500_001)
    losses = n * np.log1p(9 ** -np.exp(-steps)) + (steps - temperature.CENTRE) ** 2 / (2 * temperature.DEVIATION**2)
    assert found == pytest.approx(steps[losses.argmin()], abs=1e-4)


@pytest.mark.parametrize("scale", [8.0, 16.0])
@pytest.mark.parametrize("n", [20, 50])
def test_a_temperature_does_not_harm_a_head_that_was_right(n: int, scale: float) -> None:
    """Two classes of normal scores, right in 0.96 and 0.98 of all; less certain labels took the loss to 1.3 to 2.9."""
    draw, before, after = np.random.default_rng(n), [], []
    for _ in range(40):
        odds = scale * np.abs(2 * draw.normal(size=1500))
        y = (draw.random(1500) > 1 / (1 + np.exp(-odds))).astype(np.int64)
        said = softmax(np.stack([odds / 2, -odds / 2], axis=1))
        fitted = calibrate.fit(said[:n], y[:n])
        before.append(calibrate.log_loss(said[n:], y[n:]))
        after.append(calibrate.log_loss(calibrate.apply(said[n:], fitted), y[n:]))
    assert np.mean(after) <= 1.05 * np.mean(before)


def test_a_head_that_is_far_from_sure_is_made_as_sure_as_it_may_be() -> None:
    """Near a temperature of 1 the prior has a minimum of its own, which 2,000 images outweigh."""
    y = np.arange(2000) % 2
    timid = np.where(y[:, None] == np.arange(2), 0.501, 0.499)
    assert calibrate.fit(timid, y) < 0.02


def test_probabilities_that_say_nothing_stay_as_they_are() -> None:
    assert calibrate.fit(np.full((60, 3), 1 / 3), np.zeros(60, np.int64)) == 1.0


def test_probabilities_that_are_worse_than_chance_get_a_temperature_that_leaves_next_to_nothing_of_them() -> None:
    y = np.arange(100) % 2
    wrong = np.where(y[:, None] == np.arange(2), 0.001, 0.999)
    assert calibrate.fit(wrong, y) > 10


def test_a_temperature_is_the_softmax_of_logits_divided_by_it() -> None:
    logits, _ = sampled(50, 3)
    np.testing.assert_allclose(calibrate.apply(softmax(logits), 2.5), softmax(logits / 2.5), rtol=1e-12)


def test_a_temperature_of_one_gives_the_same_bits_and_its_inverse_undoes_another() -> None:
    given = softmax(sampled(50, 3)[0])
    assert calibrate.apply(given, 1.0) is given
    np.testing.assert_allclose(calibrate.apply(calibrate.apply(given, 3.0), 1 / 3.0), given, rtol=1e-12)


def test_no_row_changes_its_class_and_certainty_is_no_trouble() -> None:
    given = np.array([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]])
    found = calibrate.apply(np.stack([given, given]), 0.5)
    assert found.shape == (2, 2, 3)
    assert found.argmax(axis=-1).tolist() == [[0, 1], [0, 1]]
    np.testing.assert_allclose(found[0], [[1, 0, 0], np.array([4, 25, 9]) / 38], atol=1e-12)


@pytest.mark.parametrize("damaged", [0.0, -1.0, float("nan"), float("inf"), 1e6, "2.0", True, None, []])
def test_a_damaged_temperature_is_refused(damaged: object) -> None:
    with pytest.raises(ArtefactError, match=r"head: expected a calibration with a temperature from 0[.]01 to 100"):
        calibrate.of_record({"calibration": {"temperature": damaged}}, Path("head"))


def test_a_record_without_calibration_has_a_temperature_of_one() -> None:
    assert calibrate.of_record({}, Path("head")) == calibrate.of_record({"calibration": None}, Path("head")) == 1.0
    with pytest.raises(ArtefactError):
        calibrate.of_record({"calibration": 2.0}, Path("head"))
