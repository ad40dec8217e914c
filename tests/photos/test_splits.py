import hashlib

import pytest

from pipeline.photos.splits import assign, conflicts, filled


def at(place: float, tail: int = 0) -> bytes:
    """Return a digest whose first 8 bytes stand for a number from 0 to 1."""
    return int(place * 2**64).to_bytes(8, "big") + bytes([tail]) + bytes(23)


def drawn(digests, labels=None, given=None, *, val=0.1, test=0.2, stratify=False):
    labels = labels or ["a"] * len(digests)
    given = given or [None] * len(digests)
    return assign(digests, labels, given, val_fraction=val, test_fraction=test, stratify=stratify)


def test_a_threshold_on_the_digest_decides():
    digests = [at(0.0), at(0.1999), at(0.2), at(0.2999), at(0.3001), at(0.9999)]
    assert drawn(digests) == ["test", "test", "val", "val", "train", "train"]


def test_digests_of_files_fill_the_fractions():
    digests = [hashlib.sha256(str(i).encode()).digest() for i in range(10_000)]
    chosen = drawn(digests)
    assert [chosen.count(split) for split in ("train", "val", "test")] == [6939, 1009, 2052]


def test_adding_images_moves_none():
    digests = [hashlib.sha256(str(i).encode()).digest() for i in range(300)]
    assert drawn(digests)[:100] == drawn(digests[:100])


def test_fractions_of_zero_leave_a_split_empty():
    assert drawn([at(0.0), at(0.05)], val=0.0, test=0.0) == ["train", "train"]
    assert drawn([at(0.0), at(0.05)], val=0.1, test=0.0) == ["val", "val"]


def test_with_a_given_test_split_validation_is_drawn_from_train():
    digests = [at(0.05), at(0.15), at(0.05, 1), at(0.15, 1)]
    assert drawn(digests, given=["train", "train", "test", "test"]) == ["val", "train", "test", "test"]


def test_three_given_splits_are_kept():
    given = ["train", "val", "test"]
    assert drawn([at(0.0), at(0.99), at(0.25)], given=given) == given
    assert drawn([at(0.0), at(0.99), at(0.25)], given=given, stratify=True) == given


def test_stratify_holds_the_shares_in_each_class():
    digests = [at(place / 100) for place in range(50, 80)]
    labels = ["a"] * 10 + ["b"] * 20
    chosen = drawn(digests, labels, stratify=True)
    assert chosen[:10] == ["test"] * 2 + ["val"] + ["train"] * 7
    assert chosen[10:] == ["test"] * 4 + ["val"] * 2 + ["train"] * 14


def mended(digests, labels, chosen, given=None, test=0.2):
    return filled(digests, labels, given or [None] * len(digests), chosen, test_fraction=test)


def test_a_class_that_nothing_is_learned_from_gets_its_highest_digest_and_nothing_else_moves():
    digests, labels = [at(0.05), at(0.1), at(0.25), at(0.9), at(0.01)], ["a", "a", "a", "b", "b"]
    assert mended(digests, labels, drawn(digests)) == ["test", "test", "train", "train", "test"]
    assert mended([at(0.1), at(0.9)], ["a", "b"], ["test", "train"]) == ["train", "train"]


def test_an_empty_test_split_gets_the_lowest_digest_of_each_class_that_keeps_one_to_learn_from():
    digests, labels = [at(0.5), at(0.4), at(0.6), at(0.25)], ["a", "a", "b", "a"]
    assert mended(digests, labels, drawn(digests)) == ["train", "train", "train", "test"]
    assert mended(digests, labels, ["train"] * 4, test=0.0) == ["train"] * 4


def test_what_the_source_gave_is_not_moved():
    digests, labels = [at(0.5), at(0.1), at(0.2)], ["a", "b", "a"]
    given = ["train", "test", "train"]
    assert mended(digests, labels, given, given) == given


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["train"]),
        (2, ["test", "train"]),
        (3, ["test", "val", "train"]),
        (4, ["test", "val", "train", "train"]),
    ],
)
def test_stratify_gives_each_split_one_where_there_are_enough(count, expected):
    assert drawn([at(0.9, i) for i in range(count)], stratify=True) == expected


def test_stratify_counts_identical_files_once():
    digests = [at(0.9, i) for i in (0, 0, 1, 1, 2)]
    assert drawn(digests, stratify=True) == ["test", "test", "val", "val", "train"]


def test_stratify_with_a_given_test_split_draws_validation_only():
    digests = [at(0.9, i) for i in range(4)]
    assert drawn(digests, given=["train", "train", "train", "test"], stratify=True) == ["val", "train", "train", "test"]


def test_conflicts_are_digests_with_several_values():
    digests = [b"x", b"y", b"x", b"z", b"y"]
    assert conflicts(digests, ["a", "b", "c", "d", "b"]) == [[0, 2]]
    assert conflicts(digests, ["a", "b", "a", "d", "b"]) == []
