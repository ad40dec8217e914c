"""Which images train, which validate, which test: decided by the content of each, so that nothing else can move it."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final

import numpy as np

from pipeline.storage.digests import fractions

SPLITS: Final = ("train", "val", "test")
FEWEST_VAL: Final = 50  # validation images that can choose; fewer are learned from, and folds choose


def assign(
    digests: Sequence[bytes],
    labels: Sequence[str],
    given: Sequence[str | None],
    *,
    val_fraction: float,
    test_fraction: float,
    stratify: bool,
) -> list[str]:
    """Choose a split for each image.

    Parameters
    ----------
    digests : sequence of bytes, N
        sha256 of each file. Images of the same digest get the same split.
    labels : sequence of str, N
        Looked at only if `stratify`.
    given : sequence of str or None, N
        The source's own splits: none at all; train and test, then validation is taken from train; or all three.
    val_fraction, test_fraction : float
        Shares of all images, from 0, together below 1. Where the test split is given, `val_fraction` is a share of
        train and `test_fraction` is without effect.
    stratify : bool
        False: a digest, read as a number from 0 to 1, is compared with the fractions, so an image stays where it is
        whatever is added. True: the shares hold in each class, at least one image for each split where there are
        enough; an added image may move others.

    Returns
    -------
    list of {"train", "val", "test"}
        One for each image.
    """
    found = set(given) - {None}
    if "val" in found:
        return [split or "train" for split in given]
    test_share = 0.0 if "test" in found else test_fraction
    open_ones = [index for index, split in enumerate(given) if split != "test"]
    chosen = ["test"] * len(given)
    if stratify:
        drawn = _per_class([digests[i] for i in open_ones], [labels[i] for i in open_ones], val_fraction, test_share)
        for index in open_ones:
            chosen[index] = drawn[digests[index]]
    else:
        places = fractions(np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32))
        for index in open_ones:
            chosen[index] = _at(places[index], val_fraction, test_share)
    return chosen


def filled(
    digests: Sequence[bytes],
    labels: Sequence[str],
    given: Sequence[str | None],
    chosen: Sequence[str],
    *,
    test_fraction: float,
) -> list[str]:
    """Return the splits that `assign` drew, mended where they leave nothing to learn from or nothing to test on.

    A class without a training image gets its image of the highest digest. If a test split was to be drawn and is empty,
    each class of two images or more gives it the one of the lowest digest. What the source gave stays.

    Parameters
    ----------
    digests, labels, given, test_fraction
        As for `assign`.
    chosen : sequence of {"train", "val", "test"}, N
        What it returned.

    Returns
    -------
    list of {"train", "val", "test"}
        `chosen` itself, but in the two cases above.
    """
    moved: dict[bytes, str] = {}
    movable: dict[str, set[bytes]] = defaultdict(set)
    for digest, label, split in zip(digests, labels, given, strict=True):
        if split in (None, "train"):
            movable[label].add(digest)
    trained = {label for label, split in zip(labels, chosen, strict=True) if split == "train"}
    for label in sorted(movable.keys() - trained):
        moved[max(movable[label])] = "train"
    if test_fraction > 0 and "test" not in chosen:
        for label in sorted(movable):
            if len(movable[label]) > 1:
                moved[min(movable[label])] = "test"
    return [
        moved.get(digest, before) if split in (None, "train") else before
        for digest, split, before in zip(digests, given, chosen, strict=True)
    ]


def conflicts(digests: Sequence[bytes], values: Sequence[Hashable]) -> list[list[int]]:
    """Return the groups of indices that share a digest and differ in their value, in order of first appearance."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        groups[digest].append(index)
    return [group for group in groups.values() if len({values[index] for index in group}) > 1]


def _at(place: float, val_fraction: float, test_fraction: float) -> str:
    if place < test_fraction:
        return "test"
    return "val" if place < test_fraction + val_fraction else "train"


def _per_class(
    digests: Sequence[bytes], labels: Sequence[str], val_fraction: float, test_fraction: float
) -> dict[bytes, str]:
    classes: dict[str, set[bytes]] = defaultdict(set)
    for digest, label in zip(digests, labels, strict=True):
        classes[label].add(digest)
    chosen = {}
    for members in classes.values():
        n_test, n_val = _counts(len(members), val_fraction, test_fraction)
        for place, digest in enumerate(sorted(members)):
            chosen[digest] = "test" if place < n_test else "val" if place < n_test + n_val else "train"
    return chosen


def _counts(n: int, val_fraction: float, test_fraction: float) -> tuple[int, int]:
    """Return how many of `n` images test and validate. One stays to train; test goes before validation."""
    kept_for_val = 1 if val_fraction > 0 and n >= 3 else 0
    n_test = min(max(1, round(n * test_fraction)), n - 1 - kept_for_val) if test_fraction > 0 else 0
    n_val = min(max(1, round(n * val_fraction)), n - 1 - n_test) if val_fraction > 0 else 0
    return n_test, n_val
