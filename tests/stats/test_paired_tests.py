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
def test_mcnemars_p_is_that_of_the_binomial_test_with_half_of_the_outcome_itself(b, c):
    itself = stats.binom.pmf(b, b + c, 0.5)
    expected = stats.binomtest(b, b + c, 0.5).pvalue - itself if b != c else 1.0
    assert paired_tests.mcnemar(b, c) == pytest.approx(expected)


def test_mcnemars_test_rejects_equal_models_no_more_often_than_it_says_and_better_ones_more_often_than_the_exact():
    def rejected(first, second, p_value):
        """Over all outcomes of 100 images, of which the first, and the second alone gets this share right."""
        counts = np.array([(b, c) for b in range(41) for c in range(41)])
        chance = stats.multinomial.pmf(
            np.column_stack([counts, 100 - counts.sum(axis=1)]), 100, [first, second, 1 - first - second]
        )
        return sum(chance[k] for k, (b, c) in enumerate(counts) if chance[k] > 1e-9 and p_value(b, c) <= 0.05)

    def exact(b, c):
        return stats.binomtest(int(b), int(b + c), 0.5).pvalue if b + c else 1.0

    assert max(rejected(share, share, paired_tests.mcnemar) for share in (0.01, 0.03, 0.08)) <= 0.05
    assert rejected(0.05, 0.02, paired_tests.mcnemar) > 1.5 * rejected(0.05, 0.02, exact)


@pytest.mark.parametrize("times", [1, 10])
def test_the_test_and_the_interval_beside_it_say_the_same(times):
    """So they do for all outcomes of 100 images; the exact test called five to none no difference, at [0.002, 0.11]."""
    apart = [
        (b, c)
        for b in range(30)
        for c in range(b + 1)
        if (paired_tests.accuracy_difference(b, c, 100, z=paired_tests.quantile(times))[1] > 0)
        != (times * paired_tests.mcnemar(b, c) <= 0.05)
    ]
    assert len(apart) <= 10
    assert (5, 0) not in apart


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


def test_an_interval_leaves_out_0_where_holm_says_that_there_is_a_difference():
    assert paired_tests.multiplicities([0.01, 0.04, 0.03, 0.005]) == [3, 2, 2, 4]
    assert paired_tests.multiplicities([0.9, 0.6]) == [2, 2]
    assert paired_tests.multiplicities([]) == []


def test_differences_of_loss_have_students_interval_one_pair_alone():
    losses = np.random.default_rng(2).exponential(size=(50, 3))
    ((value, low, high),) = paired_tests.loss_differences(losses, [(2, 0)])
    apart = losses[:, 2] - losses[:, 0]
    assert value == pytest.approx(apart.mean())
    assert (low, high) == pytest.approx(tuple(stats.ttest_1samp(apart, 0).confidence_interval()))


def equal_models(rng, n, models):
    """Losses of models that are each as good as the others: noisy readings of the same logits."""
    logits = 4 + 2 * rng.normal(size=(n, 1)) + 1.5 * rng.normal(size=(n, models))
    return np.logaddexp(0, -logits)


@pytest.mark.parametrize(("n", "models"), [(30, 2), (100, 2), (100, 5)])
def test_no_interval_of_equal_models_leaves_out_0_in_more_than_a_twentieth_of_all_families(n, models):
    """Of five models, ten pairs, the bootstrap's intervals did so in half; the intervals of two, in 0.1 to 0.15."""
    rng, pairs = np.random.default_rng(3), [(i, j) for i in range(models) for j in range(i)]
    families = 600
    alarms = 0
    for _ in range(families):
        found = paired_tests.loss_differences(equal_models(rng, n, models), pairs)
        alarms += any(not low <= 0 <= high for _, low, high in found)
    assert alarms <= 0.065 * families


def test_one_image_tells_no_models_apart():
    (found,) = paired_tests.loss_differences(np.array([[0.1, 0.2]]), [(0, 1)])
    assert found == pytest.approx((-0.1, -paired_tests.LARGEST_LOSS, paired_tests.LARGEST_LOSS))


def test_the_interval_of_a_difference_of_loss_holds_the_truth():
    # Two noisy readings of the same logits: the losses are skewed and correlated, as those of real heads are.
    rng = np.random.default_rng(1)
    held, sets, n = 0, 400, 300

    def draw(n):
        logits = 3 + 2 * rng.normal(size=(n, 1)) + [1.0, 1.5] * rng.normal(size=(n, 2))
        return np.logaddexp(0, -logits)

    truth = float(np.diff(draw(1_000_000).mean(axis=0))[0])
    for _ in range(sets):
        ((_, low, high),) = paired_tests.loss_differences(draw(n), [(1, 0)])
        held += low <= truth <= high
    assert 0.92 * sets <= held <= 0.98 * sets


def test_two_models_that_say_the_same_differ_by_nothing():
    losses = np.random.default_rng(0).random((20, 1)).repeat(2, axis=1)
    assert paired_tests.loss_differences(losses, [(0, 1)]) == [(0.0, 0.0, 0.0)]
