"""The cheapest that does as well as the best, on the same images; never one that costs more in anything."""

import numpy as np
import pytest

from pipeline.features.probe.recommendation import Candidate, Judged, recommend, standard_errors

N = 100


def candidate(cut: str, multiply_adds: int, features: int, pooling: str = "avg") -> Candidate:
    return Candidate(cut, f"layer of {cut}", 1, pooling, features, multiply_adds)


def judged(cut: str, multiply_adds: int, features: int, wrong: set[int]) -> Judged:
    """An image that is wrong has the error 1, any other 0."""
    right = np.array([row not in wrong for row in range(N)])
    return Judged(candidate(cut, multiply_adds, features), right, 1.0 - right)


def test_the_difference_of_two_heads_is_paired_and_in_its_own_standard_errors() -> None:
    one, other = np.array([3.0, 2.0, 5.0, 1.0]), np.array([1.0, 1.0, 3.0, 2.0])
    assert standard_errors(one, other) == pytest.approx(1.0 / (1.5**0.5 / 4**0.5))  # of 2, 1, 2 and -1
    assert standard_errors(other, one) == -standard_errors(one, other)


def test_heads_that_never_differ_are_alike_and_those_that_always_do_are_not() -> None:
    one = np.array([0.5, 0.25])
    assert standard_errors(one, one) == 0
    assert standard_errors(one + 1, one) == float("inf")


@pytest.mark.parametrize(
    ("ours", "theirs", "cheaper"),
    [((5, 8), (9, 8), True), ((9, 4), (9, 8), True), ((9, 8), (9, 8), False), ((5, 16), (9, 8), False)],
)
def test_cheaper_is_less_of_one_cost_and_not_more_of_the_other(
    ours: tuple[int, int], theirs: tuple[int, int], cheaper: bool
) -> None:
    assert candidate("a", *ours).cheaper_than(candidate("b", *theirs)) is cheaper


def test_of_two_that_are_equally_good_the_cheaper_is_taken() -> None:
    found = recommend([judged("low", 10, 8, {1, 2}), judged("high", 90, 8, {1, 2})])
    assert found.chosen is found.best
    assert found.chosen.candidate.cut == "low"


def test_the_cheaper_is_taken_if_it_does_not_differ_from_the_best() -> None:
    high, low = judged("high", 90, 8, {1, 2, 3}), judged("low", 10, 4, {1, 2, 4, 5})
    found = recommend([low, high])
    assert (found.best, found.chosen) == (high, low)
    assert found.why == (
        "low (layer of low) with avg: 0.960 (0.902 to 0.984) of 100 images right, squared error 0.0400; no clear "
        "difference from the best, high with avg (0.970, 0.0300), for 89% fewer multiply-adds and 8 instead of 16 "
        "bytes an image"
    )
    assert found.figures["images"] == N
    assert (found.figures["chosen"]["bytes"], found.figures["best"]["multiply_adds"]) == (8, 90)


def test_the_best_is_kept_if_the_cheaper_differs_from_it() -> None:
    high, low = judged("high", 90, 8, {1}), judged("low", 10, 4, {1, 2, 3, 4, 5})  # 4 more: 2.04 standard errors
    found = recommend([low, high])
    assert found.chosen is high
    assert found.why.endswith("squared error 0.0100; nothing cheaper does as well")
    nearer = judged("nearer", 10, 4, {1, 2, 3, 4})  # 3 more: 1.76 of them
    assert recommend([nearer, high]).chosen is nearer


def test_equal_accuracies_are_told_apart_by_how_sure_the_heads_were() -> None:
    right = np.ones(N, bool)
    sure = Judged(candidate("high", 90, 8), right, np.linspace(0.0, 0.1, N))
    unsure = Judged(candidate("low", 10, 4), right, np.linspace(0.1, 0.3, N))
    assert recommend([unsure, sure]).chosen is sure


def test_one_that_costs_more_bytes_does_not_replace_the_best() -> None:
    high, wide = judged("high", 90, 8, {1}), judged("wide", 10, 9, {2})
    assert recommend([wide, high]).chosen.candidate.cut == "wide"  # equally good: the fewer multiply-adds lead
    better = judged("high", 90, 8, set())
    assert recommend([wide, better]).chosen is better


def test_of_several_that_would_do_the_one_with_the_fewest_multiply_adds_is_taken() -> None:
    low, middle, high = (
        judged(name, cost, 8, {place}) for place, (name, cost) in enumerate(zip("lmh", (1, 2, 3), strict=True))
    )
    best = judged("best", 4, 8, set())
    assert recommend([high, low, middle, best]).chosen is low


def test_the_order_of_the_candidates_does_not_matter() -> None:
    every = [judged("low", 10, 4, {1, 2, 3}), judged("middle", 50, 6, {4}), judged("high", 90, 8, {5})]
    assert recommend(every).chosen is recommend(every[::-1]).chosen
