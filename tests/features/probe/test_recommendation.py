"""The top is left only for what is shown: a better candidate, or a cheaper one that loses no more than the margin."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.features.probe.comparison import Candidate, Judged, chance, compare, standard_errors
from pipeline.features.probe.recommendation import Recommendation, images_for_margin, recommend
from pipeline.features.settings import Proof
from pipeline.stats import loo_ridge

LABELS = ["a", "b"] * 500
LENIENT = Proof(margin=0.05, confidence=0.95)


def candidate(cut: str, multiply_adds: int, features: int, pooling: str = "avg") -> Candidate:
    return Candidate(cut, f"layer of {cut}", 1, pooling, features, multiply_adds)


def judged(cut: str, multiply_adds: int, features: int, wrong: set[int], n: int = 1000) -> Judged:
    """An image that is wrong has the error 1, any other 0."""
    right = np.array([row not in wrong for row in range(n)])
    return Judged(candidate(cut, multiply_adds, features), right, 1.0 - right)


def recommended(every: list[Judged], proof: Proof = LENIENT) -> Recommendation:
    """The last one is the top."""
    return recommend(every, LABELS[: len(every[0].right)], top=every[-1], proof=proof)


def test_the_difference_of_two_heads_is_paired_and_in_its_own_standard_errors() -> None:
    one, other = np.array([3.0, 2.0, 5.0, 1.0]), np.array([1.0, 1.0, 3.0, 2.0])
    variance = np.var([2.0, 1.0, 2.0, -1.0], ddof=1)
    assert standard_errors(one, other) == pytest.approx(1.0 / math.sqrt(variance * (1 / 4 + 1 / 4)))
    assert standard_errors(other, one) == -standard_errors(one, other)


def test_heads_that_never_differ_are_alike_and_those_that_always_do_are_not() -> None:
    one = np.array([0.5, 0.25])
    assert standard_errors(one, one) == 0
    assert standard_errors(one + 1, one) == math.inf
    assert standard_errors(one[:1] + 1, one[:1]) == 0


def test_chance_gives_every_image_the_frequencies_of_the_classes() -> None:
    assert chance(["a", "b"]).tolist() == [0.5, 0.5]
    assert chance(["a", "a", "a", "b"]) == pytest.approx([0.125] * 3 + [1.125])


@pytest.mark.parametrize(
    ("ours", "theirs", "cheaper"),
    [((5, 8), (9, 8), True), ((9, 4), (9, 8), True), ((9, 8), (9, 8), False), ((5, 16), (9, 8), False)],
)
def test_cheaper_is_less_of_one_cost_and_not_more_of_the_other(
    ours: tuple[int, int], theirs: tuple[int, int], cheaper: bool
) -> None:
    assert candidate("a", *ours).cheaper_than(candidate("b", *theirs)) is cheaper


def test_a_candidate_that_is_shown_to_be_better_takes_the_place_of_the_top() -> None:
    found = recommended([judged("low", 10, 16, {1}), judged("top", 90, 8, set(range(60)))])
    assert found.chosen.candidate.cut == "low"
    assert [one.shown for one in found.differences] == ["better", "not worse"]
    assert found.why == (
        "low (layer of low) with avg: 0.999 [0.994, 1.000] of 1,000 images right, squared error 0.0010; shown to be "
        "better than top (layer of top) with avg (0.940 [0.924, 0.953], squared error 0.0600) with 95 % confidence "
        "over 1 comparison; nothing cheaper is shown to be at most 0.05 less accurate"
    )


def test_a_cheaper_candidate_that_loses_no_more_than_the_margin_takes_the_place_of_the_top() -> None:
    low, top = judged("low", 10, 4, set(range(4))), judged("top", 90, 8, set(range(3, 6)))
    found = recommended([low, top])
    assert (found.chosen, found.top) == (low, top)
    assert found.why.endswith(
        "shown to be at most 0.05 less accurate than top (layer of top) with avg (0.997 [0.991, 0.999], squared error "
        "0.0030) with 95 % confidence over 1 comparison, for 89% fewer multiply-adds and 8 instead of 16 bytes an "
        "image"
    )
    assert (found.figures["images"], found.figures["margin"], found.figures["confidence"]) == (1000, 0.05, 0.95)
    assert (found.figures["chosen"]["bytes"], found.figures["top"]["multiply_adds"]) == (8, 90)


def test_no_difference_found_on_few_images_is_nothing_shown() -> None:
    low, top = judged("low", 10, 4, {1, 3}, n=40), judged("top", 90, 8, {1}, n=40)
    found = recommended([low, top])
    assert found.chosen is top
    assert found.differences[0].shown == "nothing"
    assert found.differences[0].accuracy_low < -LENIENT.margin
    assert "A cheaper one can be shown from 103 images on" in found.why


def test_the_images_that_the_margin_takes_are_the_fewest_that_show_it() -> None:
    least = images_for_margin(LENIENT, 3)
    for n, shown in ((least, "not worse"), (least - 1, "nothing")):
        same = judged("same", 10, 4, {0}, n=n)
        assert compare(same, judged("top", 90, 8, {0}, n=n), chance(LABELS[:n]), LENIENT, 3).shown == shown


def test_one_that_costs_more_is_taken_only_if_it_is_better() -> None:
    top = judged("top", 90, 8, {1, 2})
    assert recommended([judged("wide", 10, 9, {1}), top]).chosen is top


def test_equal_accuracies_are_told_apart_by_how_sure_the_heads_were() -> None:
    right = np.ones(100, bool)
    sure = Judged(candidate("wide", 90, 16), right, np.linspace(0.0, 0.1, 100))
    top = Judged(candidate("top", 100, 4), right, np.linspace(0.1, 0.3, 100))
    found = recommended([sure, top])
    assert found.chosen is sure
    assert found.differences[0].standard_errors > found.differences[0].needed


def test_the_more_candidates_the_more_must_be_shown() -> None:
    better, top = judged("wide", 90, 16, set(), n=100), judged("top", 90, 8, set(range(10)), n=100)
    assert compare(better, top, chance(LABELS[:100]), LENIENT, 1).shown == "better"
    assert compare(better, top, chance(LABELS[:100]), LENIENT, 1000).shown == "nothing"


def test_a_handful_of_images_shows_nothing() -> None:
    perfect, top = judged("wide", 90, 16, set(), n=6), judged("top", 90, 8, set(range(6)), n=6)
    found = recommended([perfect] * 9 + [top])
    assert found.chosen is top
    assert "but fewer than 40 images show nothing" in found.why


def test_one_that_is_better_than_the_top_but_not_than_chance_is_not_taken() -> None:
    right = np.arange(200) % 2 == 0
    guessing = Judged(candidate("guessing", 10, 4), right, np.full(200, 0.5))
    top = Judged(candidate("top", 90, 8), ~right, np.linspace(0.6, 0.7, 200))
    assert recommended([guessing, top]).chosen is top


def test_of_several_that_are_shown_to_be_no_worse_the_one_with_the_fewest_multiply_adds_is_taken() -> None:
    low, middle, high = (
        judged(name, cost, 8, {place}) for place, (name, cost) in enumerate(zip("lmh", (1, 2, 3), strict=True))
    )
    assert recommended([high, low, middle, judged("best", 4, 8, set())]).chosen is low


def test_the_cheaper_of_the_better_ones_is_held_against_the_best_of_them() -> None:
    best, top = judged("best", 50, 16, {1}), judged("top", 90, 8, set(range(300)))
    near, far = judged("near", 10, 16, {1, 2}), judged("far", 5, 16, set(range(100)))
    found = recommended([far, near, best, top])
    assert found.chosen is near  # far is better than the top, too, and cheaper, but loses a tenth beside the best
    assert ", and at most 0.05 less accurate than the best, best (layer of best) with avg" in found.why


def test_the_order_of_the_candidates_does_not_matter() -> None:
    every = [judged("low", 10, 4, {1, 2, 3}), judged("middle", 50, 6, {4}), judged("high", 90, 8, {5})]
    both = [recommend(some, LABELS, top=every[2], proof=LENIENT).chosen for some in (every, every[::-1])]
    assert both[0] is both[1]


CANDIDATES = 8


def simulated(seed: int, n: int, top_signal: float, other_signals: Callable[[int], float]) -> tuple[int, int]:
    """Judge planted features of `CANDIDATES` layers as `probe` does; the last is the top. Return chosen and images."""
    rng = np.random.default_rng([seed, n])
    y = np.arange(n) % 2
    direction = rng.normal(size=24) / math.sqrt(24)
    shared = rng.normal(size=(n, 24))
    every = []
    for place in range(CANDIDATES):
        signal = top_signal if place == CANDIDATES - 1 else other_signals(place)
        noise = 0.7 * shared + 0.7 * rng.normal(size=(n, 24))
        given, errors = loo_ridge.left_out(signal * np.outer(2 * y - 1, direction) + noise, y)
        every.append(Judged(candidate(str(place), 10 + place, 24), given == y, errors))
    found = recommend(every, [str(code) for code in y], top=every[-1], proof=Proof())
    return every.index(found.chosen), n


@pytest.mark.parametrize("n", [40, 60, 150])
def test_fewer_than_one_in_twenty_simulated_data_sets_leave_a_top_that_is_best(n: int) -> None:
    left = [simulated(seed, n, 1.5, lambda place: 1.2)[0] != CANDIDATES - 1 for seed in range(200)]
    assert np.mean(left) < 0.05


def test_a_layer_that_is_truly_better_is_chosen_once_there_are_enough_photos() -> None:
    def one_better(place: int) -> float:
        return 3.0 if place == 4 else 1.0

    assert [simulated(seed, 200, 1.0, one_better)[0] for seed in range(10)] == [4] * 10


def test_a_layer_that_only_looks_better_on_few_photos_is_not_chosen() -> None:
    looks_better = judged("lucky", 10, 16, {0}, n=50)
    top = judged("top", 90, 8, {0, 1, 2, 3}, n=50)
    assert looks_better.accuracy > top.accuracy
    assert recommended([looks_better] * 30 + [top], Proof()).chosen is top
