"""Paired differences: the literature's numbers, intervals that hold the truth, no more false alarms than promised."""

import numpy as np
import pytest
from scipy import stats

from pipeline.stats import intervals, paired_tests


def test_tangos_interval_is_where_the_score_test_turns():
    # The likelihood's maximum under a given difference, found by brute force, gives the variance of the score test.
    b, c, n = 12, 5, 150
    _, low, high = paired_tests.accuracy_difference(b, c, n)
    for difference in (low, high):
        shares = np.linspace(max(0.0, -difference) + 1e-9, (1 - difference) / 2 - 1e-9, 400_001)
        likelihood = b * np.log(shares + difference) + c * np.log(shares)
        likelihood += (n - b - c) * np.log(1 - 2 * shares - difference)
        share = shares[likelihood.argmax()]
        score = (b - c - n * difference) / np.sqrt(n * (2 * share + difference - difference**2))
        assert abs(score) == pytest.approx(intervals.Z, abs=1e-3)


def test_swapping_the_models_mirrors_the_interval():
    value, low, high = paired_tests.accuracy_difference(9, 2, 200)
    assert paired_tests.accuracy_difference(2, 9, 200) == pytest.approx((-value, -high, -low))


def test_without_disagreement_the_interval_is_wilsons_of_none_on_both_sides():
    _, most = intervals.wilson(0.0, 353)
    assert paired_tests.accuracy_difference(0, 0, 353) == pytest.approx((0.0, -most, most))


def test_the_interval_stays_within_its_range():
    value, low, high = paired_tests.accuracy_difference(20, 0, 20)
    assert (value, high) == (1.0, 1.0)
    assert low == pytest.approx((20 - intervals.Z**2) / (20 + intervals.Z**2))


def test_tangos_interval_holds_the_truth_over_all_outcomes_also_where_disagreement_is_rare():
    for n, shares in ((353, (0.01, 0.002)), (400, (0.03, 0.01))):
        most = [int(stats.binom.ppf(1 - 1e-5, n, share)) for share in shares]
        counts = np.array([(b, c) for b in range(most[0] + 1) for c in range(most[1] + 1)])
        chance = stats.multinomial.pmf(np.column_stack([counts, n - counts.sum(axis=1)]), n, [*shares, 1 - sum(shares)])
        likely = chance > 1e-6
        ends = np.array([paired_tests.accuracy_difference(int(b), int(c), n)[1:] for b, c in counts[likely]])
        truth = shares[0] - shares[1]
        held = chance[likely][(ends[:, 0] <= truth) & (truth <= ends[:, 1])].sum()
        assert 0.94 < held < 0.97


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (9, 2), (2, 9), (30, 30), (400, 350)])
def test_mcnemars_p_is_that_of_the_binomial_test(b, c):
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert paired_tests.mcnemar(b, c) == pytest.approx(expected)


def test_holm_multiplies_the_smallest_by_their_number_the_next_by_one_less_and_never_falls():
    assert paired_tests.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired_tests.holm([0.9, 0.6]) == [1.0, 1.0]
    assert paired_tests.holm([]) == []


def test_differences_that_are_shown_among_equal_models_are_rare():
    # Five models of the same accuracy, ten pairs each time: without Holm's correction every fifth family has an alarm.
    rng = np.random.default_rng(0)
    alarms = uncorrected = 0
    families = 1000
    for _ in range(families):
        hard = rng.random(300) < 0.3
        correct = rng.random((5, 300)) < np.where(hard, 0.6, 0.98)
        pairs = [(i, j) for i in range(5) for j in range(i)]
        alone = [(int((correct[i] & ~correct[j]).sum()), int((correct[j] & ~correct[i]).sum())) for i, j in pairs]
        p_values = [paired_tests.mcnemar(*counts) for counts in alone]
        uncorrected += min(p_values) <= 0.05
        alarms += min(paired_tests.holm(p_values)) <= 0.05
    assert alarms <= 0.05 * families < 0.1 * families < uncorrected


def test_differences_of_loss_equal_scipys_bca_on_the_same_resamples():
    losses = np.random.default_rng(2).exponential(size=(50, 3))
    ((value, low, high),) = paired_tests.loss_differences(losses, [(2, 0)], seed=4, resamples=999)
    apart = losses[:, 2] - losses[:, 0]
    drawn = np.concatenate(list(intervals.weights(50, seed=4, resamples=999))) @ apart / 50
    jackknife = np.array([np.delete(apart, i).mean() for i in range(50)])
    assert value == pytest.approx(apart.mean())
    assert (low, high) == pytest.approx(intervals.bca(float(apart.mean()), drawn, jackknife))


def test_the_interval_of_a_difference_of_loss_holds_the_truth():
    # Two noisy readings of the same logits: the losses are skewed and correlated, as those of real heads are.
    rng = np.random.default_rng(1)
    held, sets, n = 0, 400, 300

    def draw(n):
        logits = 3 + 2 * rng.normal(size=(n, 1)) + [1.0, 1.5] * rng.normal(size=(n, 2))
        return np.logaddexp(0, -logits)

    truth = float(np.diff(draw(1_000_000).mean(axis=0))[0])
    for seed in range(sets):
        ((_, low, high),) = paired_tests.loss_differences(draw(n), [(1, 0)], seed=seed, resamples=400)
        held += low <= truth <= high
    assert 0.92 * sets <= held <= 0.98 * sets


def test_two_models_that_say_the_same_differ_by_nothing():
    losses = np.random.default_rng(0).random((20, 1)).repeat(2, axis=1)
    assert paired_tests.loss_differences(losses, [(0, 1)], seed=0, resamples=200) == [(0.0, 0.0, 0.0)]
