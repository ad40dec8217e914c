"""A threshold reaches what was wished on validation, with the most of the other metric, and is applied as kept."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ArtefactError, InputError
from pipeline.heads.calibration import thresholds
from pipeline.heads.calibration.thresholds import Wish
from pipeline.stats import intervals

CLASSES = ["cat", "dog"]
DOG = np.array([0.1, 0.2, 0.4, 0.6, 0.7, 0.9])
IS_DOG = np.array([0, 0, 1, 0, 1, 1])


def both(dog):
    return np.stack([1 - dog, dog], axis=1)


def choose(metric, at_least, positive=None, dog=DOG, actual=IS_DOG):
    return thresholds.choose(both(dog), actual, CLASSES, Wish(metric, at_least, positive))


def test_a_wish_for_precision_keeps_as_much_recall_as_it_can():
    found = choose("precision", 0.9)
    assert found == {
        "positive": "dog",
        "value": pytest.approx(0.65),
        "wish": {"precision": 0.9},
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "low": intervals.proportion(2, 2)[0],
    }


def test_a_wish_for_recall_keeps_as_much_precision_as_it_can():
    found = choose("recall", 0.9)
    assert (found["value"], found["recall"], found["precision"]) == (pytest.approx(0.3), 1.0, 0.75)


def test_what_few_images_reach_but_do_not_show_is_a_warning():
    found = choose("recall", 0.9)
    assert thresholds.unshown(found) == [
        "`recall_at_least=0.9`: reached on the images held out (1.000), but not shown: the 95 % interval begins at "
        "0.439. More images would narrow it"
    ]
    many = choose("recall", 0.9, dog=np.tile(DOG, 50), actual=np.tile(IS_DOG, 50))
    assert many["low"] > 0.9
    assert thresholds.unshown(many) == []


def test_either_class_may_be_the_positive_one():
    found = choose("recall", 1.0, "cat")
    assert (found["positive"], found["value"]) == ("cat", pytest.approx(0.35))


def test_equal_probabilities_are_on_one_side():
    dog = np.array([0.5, 0.5, 0.5, 0.8])
    found = choose("recall", 1.0, dog=dog, actual=np.array([0, 0, 1, 1]))
    assert (found["value"], found["precision"]) == (0.25, 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_decided_reaches_what_was_promised(seed):
    rng = np.random.default_rng(seed)
    actual = rng.integers(0, 2, 60)
    dog = np.clip(rng.normal(0.4 + 0.2 * actual, 0.2), 0, 1)
    found = choose("recall", 0.8, dog=dog, actual=actual)
    given = thresholds.decide(both(dog), CLASSES, found)
    hits = (given == 1) & (actual == 1)
    assert hits.sum() / actual.sum() == pytest.approx(found["recall"])
    assert hits.sum() / (given == 1).sum() == pytest.approx(found["precision"])
    assert found["recall"] >= 0.8


def test_without_a_threshold_the_most_probable_class_is_given():
    assert thresholds.decide(np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), ["a", "b", "c"], None).tolist() == [1, 0]


def test_a_wish_that_no_threshold_fulfils_says_what_can_be_reached():
    with pytest.raises(InputError, match=r"`precision_at_least`: .* received 0\.5000 at most"):
        choose("precision", 0.9, dog=np.array([0.5, 0.5]), actual=np.array([0, 1]))


@pytest.mark.parametrize(
    ("classes", "y", "positive", "message"),
    [
        (["a", "b", "c"], [0, 1], None, "expected two classes, received 3"),
        (["a", "b"], [0, 1], "c", "`positive`: expected a or b, received c"),
        (["a", "b"], [0, 0], None, "expected images of b held out, received none"),
    ],
)
def test_a_wish_that_makes_no_sense_is_an_error(classes, y, positive, message):
    with pytest.raises(InputError, match=message):
        thresholds.choose(both(np.array([0.1, 0.9])), np.array(y), classes, Wish("recall", 0.5, positive))


@pytest.mark.parametrize(
    "damaged",
    [[], "0.5", {"positive": "emu", "value": 0.5}, {"positive": "dog"}, {"positive": "dog", "value": 2.0}],
)
def test_a_damaged_threshold_is_refused(damaged):
    with pytest.raises(ArtefactError, match="head: expected a threshold"):
        thresholds.of_record({"classes": CLASSES, "threshold": damaged}, Path("head"))


def test_a_head_may_have_none():
    assert thresholds.of_record({"classes": CLASSES}, Path("head")) is None
