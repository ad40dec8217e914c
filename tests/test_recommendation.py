"""The cheapest that does as well as the best, on the same images; never one that costs more in anything."""

import numpy as np
import pytest

from pipeline.recommendation import Candidate, Judged, recommend, standard_errors

N = 100


def candidate(cut: str, multiply_adds: int, features: int, pooling: str = "avg") -> Candidate:
    return Candidate(cut, f"layer of {cut}", 1, pooling, features, multiply_adds)


def judged(cut: str, multiply_adds: int, features: int, wrong: set[int]) -> Judged:
    return Judged(candidate(cut, multiply_adds, features), np.array([row not in wrong for row in range(N)]))


def test_only_images_on_which_two_heads_disagree_tell_them_apart() -> None:
    better = np.array([True] * 9 + [False] * 1 + [True] * 50 + [False] * 40)
    worse = np.array([False] * 9 + [True] * 1 + [True] * 50 + [False] * 40)
    assert standard_errors(better, worse) == pytest.approx((9 - 1) / 10**0.5)
    assert standard_errors(worse, better) == -standard_errors(better, worse)
    assert standard_errors(better, better) == 0


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
        "low (layer of low) with avg has 0.960 (0.902 to 0.984) of 100 images right; the best, high with avg, has "
        "0.970, no clear difference for 89% fewer multiply-adds and 8 instead of 16 bytes an image"
    )
    assert found.figures["images"] == N
    assert (found.figures["chosen"]["bytes"], found.figures["best"]["multiply_adds"]) == (8, 90)


def test_the_best_is_kept_if_the_cheaper_differs_from_it() -> None:
    high, low = judged("high", 90, 8, {1}), judged("low", 10, 4, {1, 2, 3})
    found = recommend([low, high])
    assert found.chosen is high
    assert found.why.endswith("of 100 images right, and nothing cheaper does as well")


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
