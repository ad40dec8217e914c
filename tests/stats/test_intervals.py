"""Intervals equal the literature's, and hold the truth as often as whole counts of mistakes allow."""

import numpy as np
import pytest
from scipy import stats

from pipeline.stats import intervals


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_limits_that_newcombe_tabulates(hits, n, low, high):
    # R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998) 857-872.
    assert intervals.wilson(hits / n, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_and_ends_at_1_when_all_are_hits():
    assert intervals.wilson(1.0, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)
    assert intervals.wilson(1.0, 20)[1] == 1.0
    assert intervals.wilson(0.0, 20)[0] == 0.0


@pytest.mark.parametrize("statistic", [np.mean, np.std])
def test_bca_equals_scipys_on_the_same_resamples(statistic):
    sample = np.random.default_rng(3).exponential(size=40)
    theirs = stats.bootstrap((sample,), statistic, method="BCa", n_resamples=999, rng=np.random.default_rng(5))
    jackknife = np.array([statistic(np.delete(sample, i)) for i in range(len(sample))])
    ours = intervals.bca(float(statistic(sample)), theirs.bootstrap_distribution, jackknife)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-9)


def test_bca_of_resamples_that_do_not_differ_is_that_value():
    assert intervals.bca(1.0, np.ones(50), np.ones(9)) == (1.0, 1.0)


def test_few_mistakes_end_where_a_poisson_number_of_them_would():
    for mistakes in (1, 2, 3):
        mean = 200 * (1 - intervals.proportion(200 - mistakes, 200)[1])
        assert stats.poisson.sf(mistakes - 1, mean) == pytest.approx(0.05)
        low, high = intervals.proportion(200 - mistakes, 200)
        assert intervals.proportion(mistakes, 200) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("hits", "n"), [(196, 200), (200, 200), (0, 200), (100, 200), (47, 50), (3, 50)])
def test_a_proportion_of_more_mistakes_or_none_has_wilsons_interval(hits, n):
    assert intervals.proportion(hits, n) == intervals.wilson(hits / n, n)


@pytest.mark.parametrize("n", [200, 400, 1000])
def test_the_interval_of_a_proportion_holds_it_in_no_less_than_093_and_on_average_in_095(n):
    ends = np.array([intervals.proportion(hits, n) for hits in range(n + 1)])
    shares = []
    for p in np.arange(0.5, 0.99501, 0.0025):
        holds = (ends[:, 0] <= p + 1e-12) & (p - 1e-12 <= ends[:, 1])
        shares.append(stats.binom.pmf(np.arange(n + 1), n, p) @ holds)
    assert min(shares) > 0.93
    assert np.mean(shares) == pytest.approx(0.95, abs=0.002)
    assert np.mean(np.array(shares) <= 0.97) > 0.95


def test_at_200_images_and_0995_the_interval_holds_the_truth_in_the_share_next_above_095_that_there_is():
    chance = stats.binom.pmf(np.arange(201), 200, 0.005)
    # An interval that widens with the mistakes allowed holds the truth for a run of counts of mistakes.
    possible = [chance[first:last].sum() for first in range(10) for last in range(first + 1, 12)]
    ends = [intervals.proportion(200 - mistakes, 200) for mistakes in range(201)]
    held = sum(share for share, (low, high) in zip(chance, ends, strict=True) if low <= 0.995 <= high)
    assert held == pytest.approx(min(share for share in possible if share > 0.95), abs=0.002)
