"""Metrics equal scikit-learn's; their intervals equal the literature's, and hold near 0 and 1."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from pipeline.stats import intervals, metrics


def predictions(n, k, separation=2.0, seed=0):
    """Return codes (n,) and probabilities (n, k) of a head that errs now and then."""
    rng = np.random.default_rng(seed)
    actual = rng.permutation(np.arange(n) % k)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), actual] += separation
    odds = np.exp(logits)
    return actual, odds / odds.sum(axis=1, keepdims=True)


def given(predicted, k, confidence=0.9):
    """Return probabilities (n, k) whose most probable classes are those predicted."""
    rest = (1 - confidence) / (k - 1)
    return np.where(np.eye(k, dtype=bool)[predicted], confidence, rest)


def measure(actual, probabilities, *, seed=0, resamples=500):
    labels = [f"class {code}" for code in range(probabilities.shape[1])]
    return metrics.measure(np.asarray(actual), probabilities, labels, seed=seed, resamples=resamples)


def interval(estimate):
    return estimate["low"], estimate["high"]


def every_estimate(measured):
    overall = [measured[name] for name in metrics.OVERALL]
    return overall + [one[name] for one in measured["classes"].values() for name in metrics.PER_CLASS]


def test_bca_of_log_loss_is_near_scipys_with_its_own_resamples():
    actual, probabilities = predictions(200, 3)
    losses = -np.log(probabilities[np.arange(200), actual])
    theirs = stats.bootstrap((losses,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(1))
    ours = interval(measure(actual, probabilities, resamples=20_000)["log_loss"])
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=0.01)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_values_equal_scikit_learns(k):
    actual, probabilities = predictions(300, k)
    predicted = probabilities.argmax(axis=1)
    measured = measure(actual, probabilities)
    areas = (
        reference.roc_auc_score(actual, probabilities[:, 1])
        if k == 2
        else reference.roc_auc_score(actual, probabilities, multi_class="ovr")
    )
    expected = {
        "accuracy": reference.accuracy_score(actual, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(actual, predicted),
        "macro_f1": reference.f1_score(actual, predicted, average="macro"),
        "log_loss": reference.log_loss(actual, probabilities),
        "roc_auc": areas,
    }
    assert {name: measured[name]["value"] for name in expected} == pytest.approx(expected, rel=1e-12)
    each = reference.precision_recall_fscore_support(actual, predicted)
    for code, one in enumerate(measured["classes"].values()):
        found = [one[name]["value"] for name in metrics.PER_CLASS] + [one["n"]]
        assert found == pytest.approx([column[code] for column in each], rel=1e-12)


def test_auc_counts_equal_scores_one_half():
    actual = np.array([0, 0, 1, 1])
    scores = np.array([0.2, 0.5, 0.5, 0.9])
    measured = measure(actual, np.stack([1 - scores, scores], axis=1))
    assert measured["roc_auc"]["value"] == 0.875 == reference.roc_auc_score(actual, scores)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_every_interval_holds_its_value_and_is_neither_empty_nor_outside_its_range(k):
    measured = measure(*predictions(120, k))
    for estimate in every_estimate(measured):
        assert 0 <= estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["low"] < estimate["high"]
    fractions = [measured[name]["high"] for name in metrics.OVERALL if name != "log_loss"]
    assert max(fractions) <= 1


def test_accuracy_precision_and_recall_have_the_interval_of_a_proportion():
    actual = np.repeat([0, 1], [20, 30])
    predicted = np.repeat([0, 1, 0, 1], [18, 2, 3, 27])
    measured = measure(actual, given(predicted, 2))
    cat = measured["classes"]["class 0"]
    assert interval(measured["accuracy"]) == intervals.proportion(45, 50)
    assert interval(cat["recall"]) == intervals.proportion(18, 20)
    assert interval(cat["precision"]) == intervals.proportion(18, 21)


@pytest.mark.parametrize("k", [2, 10])
def test_without_a_mistake_no_interval_is_a_point(k):
    actual = np.arange(400) % k
    measured = measure(actual, given(actual, k, 0.99))
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert measured[name]["value"] == measured[name]["high"] == 1.0
        assert measured[name]["low"] == pytest.approx(400 / (400 + 1.959964**2), abs=1e-6)
    assert measured["roc_auc"]["value"] == measured["roc_auc"]["high"] == 1.0
    assert 0.98 < measured["roc_auc"]["low"] < 0.999
    assert measured["log_loss"]["value"] == pytest.approx(-np.log(0.99))
    assert measured["log_loss"]["high"] > 2 * measured["log_loss"]["value"]
    images = 400 // k
    jaccard = images / (images + 1.959964**2)
    assert measured["classes"]["class 0"]["f1"]["low"] == pytest.approx(2 * jaccard / (1 + jaccard), abs=1e-6)


def test_with_nothing_but_mistakes_no_interval_is_a_point():
    actual = np.arange(60) % 3
    measured = measure(actual, given((actual + 1) % 3, 3))
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert measured[name]["value"] == measured[name]["low"] == 0.0
        assert 0.02 < measured[name]["high"] < 0.1
    assert measured["log_loss"]["value"] == pytest.approx(-np.log(0.05))


def test_an_impossible_truth_costs_a_finite_log_loss_as_in_scikit_learn():
    actual, probabilities = np.array([0, 1, 0, 1]), np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    measured = measure(actual, probabilities)
    assert measured["log_loss"]["value"] == pytest.approx(reference.log_loss(actual, probabilities))
    assert np.isfinite(measured["log_loss"]["high"])


def test_a_class_without_test_images_has_no_recall_and_leaves_auc_undefined():
    actual = np.array([0, 0, 0, 1, 1, 1])
    measured = measure(actual, given(np.array([0, 0, 2, 1, 1, 1]), 3))
    absent = measured["classes"]["class 2"]
    assert absent["n"] == 0
    assert absent["recall"] == {"value": None, "low": None, "high": None, "reason": "no test image of this class"}
    assert absent["precision"]["value"] == absent["f1"]["value"] == 0.0
    assert measured["roc_auc"]["value"] is None
    assert measured["roc_auc"]["reason"] == "no test image of class 2"
    assert measured["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 1) / 2)
    assert measured["macro_f1"]["value"] == pytest.approx((0.8 + 1 + 0) / 3)


def test_a_class_that_is_nowhere_does_not_count():
    actual = np.array([0, 0, 1, 1])
    measured = measure(actual, given(np.array([0, 1, 1, 1]), 3))
    assert measured["classes"]["class 2"]["f1"]["value"] is None
    assert measured["macro_f1"]["value"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_a_class_that_is_never_predicted_has_no_precision_and_an_f1_of_0():
    actual = np.array([0, 0, 1, 1])
    one = measure(actual, given(np.zeros(4, int), 2))["classes"]["class 1"]
    assert one["precision"]["value"] is None
    assert one["recall"]["value"] == one["f1"]["value"] == 0.0


def test_one_test_image_can_be_measured():
    measured = measure(np.array([1]), given(np.array([1]), 2))
    assert measured["accuracy"]["value"] == measured["macro_f1"]["value"] == 1.0
    assert measured["balanced_accuracy"]["low"] < 0.5


def test_result_is_json_without_nan():
    measured = measure(np.array([0, 0, 1]), given(np.array([0, 0, 0]), 3))
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_the_seed_decides_the_intervals():
    actual, probabilities = predictions(100, 3)
    assert measure(actual, probabilities, seed=1) == measure(actual, probabilities, seed=1)
    assert measure(actual, probabilities, seed=1)["log_loss"] != measure(actual, probabilities, seed=2)["log_loss"]


def test_resamples_taken_in_blocks_are_the_same(monkeypatch):
    actual, probabilities = predictions(100, 3)
    whole = measure(actual, probabilities)
    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 700)
    in_blocks = measure(actual, probabilities)
    for name in metrics.OVERALL:
        assert interval(in_blocks[name]) == pytest.approx(interval(whole[name]), rel=1e-12)


def test_intervals_hold_the_truth_near_1_where_the_bootstrap_alone_does_not():
    # 36 images at accuracy 0.97: one split in three has no mistake; the bootstrap alone holds the truth in 0.65 of all.
    rng = np.random.default_rng(0)
    held = {"accuracy": 0, "balanced_accuracy": 0, "macro_f1": 0}
    for seed in range(400):
        actual = rng.integers(0, 2, 36)
        predicted = np.where(rng.random(36) < 0.97, actual, 1 - actual)
        measured = measure(actual, given(predicted, 2), seed=seed, resamples=200)
        for name in held:
            held[name] += measured[name]["low"] <= 0.97 <= measured[name]["high"]
    assert min(held.values()) >= 0.95 * 400


def test_intervals_hold_the_truth_as_often_as_they_promise():
    # 300 images at 0.95, probabilities calibrated; the full simulation is benchmarks/coverage.py.
    rng = np.random.default_rng(0)
    distance = 2 * stats.norm.ppf(0.95)

    def draw(n):
        actual = rng.integers(0, 2, n)
        odds = np.exp(distance * rng.normal((2 * actual - 1) * distance / 2))
        return actual, np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)

    actual, probabilities = draw(1_000_000)
    truth = {"accuracy": 0.95, "balanced_accuracy": 0.95, "macro_f1": 0.95}
    truth["log_loss"] = -np.log(probabilities[np.arange(len(actual)), actual]).mean()
    held = dict.fromkeys(truth, 0)
    for seed in range(300):
        measured = measure(*draw(300), seed=seed, resamples=200)
        for name in truth:
            held[name] += measured[name]["low"] <= truth[name] <= measured[name]["high"]
    assert all(0.92 * 300 <= count <= 0.985 * 300 for count in held.values()), held


def test_the_interval_of_auc_is_delongs_on_the_scale_of_log_odds():
    actual, probabilities = predictions(80, 2, separation=1.0)
    scores = [probabilities[actual == code, 1] for code in (1, 0)]
    wins = (scores[0][:, None] > scores[1]) + (scores[0][:, None] == scores[1]) / 2
    area, pairs = wins.mean(), wins.size
    variance = wins.mean(axis=1).var() / len(scores[0]) + wins.mean(axis=0).var() / len(scores[1])
    drawn = (area * pairs + 0.5) / (pairs + 1)
    half = intervals.Z * np.sqrt(variance * 80 / 79) / (drawn * (1 - drawn))
    ends = [1 / (1 + np.exp(-(np.log(drawn / (1 - drawn)) + side * half))) for side in (-1, 1)]
    assert interval(measure(actual, probabilities)["roc_auc"]) == pytest.approx(ends)


@pytest.mark.parametrize(
    ("n", "separation", "rare"), [(100, 1.3, 0.5), (100, 2.2, 0.5), (400, 2.6, 0.5), (200, 2.0, 0.1), (100, 1.3, 0.1)]
)
def test_the_interval_of_auc_holds_the_truth_and_is_no_longer_than_that_takes(n, separation, rare):
    """Normal scores; with a rare class DeLong's own holds it in 0.89 only, and the interval is Newcombe's."""
    rng = np.random.default_rng(0)
    truth, held, sets = stats.norm.cdf(separation), 0, 400
    for _ in range(sets):
        actual = (np.arange(n) < rare * n).astype(np.int64)
        scores = rng.normal(size=n) + actual * separation * np.sqrt(2)
        probabilities = np.stack([-scores, scores], axis=1)
        low, high = interval(metrics.roc_auc(actual, probabilities))
        held += low <= truth <= high
    assert held >= 0.9 * sets
    assert held <= (0.98 if rare == 0.5 else 1) * sets
