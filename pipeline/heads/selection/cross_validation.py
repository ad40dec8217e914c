"""Which fold an image is in, and folds fitted side by side without more threads than there are processors."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.heads.standardise import Candidates, Table
from pipeline.types import Codes, Progress

Fitted = TypeVar("Fitted")
ALWAYS_LEARNED: Final = -1
RARE: Final = 3  # images of a class, up to which folds say little of it
LISTED: Final = 10  # names in a message


class Fold(NamedTuple):
    """One division of the training rows, on which candidates of a search are compared.

    Attributes
    ----------
    rows : ndarray of intp, ascending
        The rows to fit on.
    held : (Table, ndarray of int64)
        The rows to judge on, with their codes. Heads that stop early watch them.
    places : ndarray of intp, or None
        Which of the training rows these are; None if they are none of them.
    """

    rows: NDArray[np.intp]
    held: tuple[Table, Codes]
    places: NDArray[np.intp] | None = None


def assign(digests: NDArray[np.uint8], y: Codes, *, folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold that holds each image out, (n,), from 0 to folds - 1; in each class they are as equal as can be.

    Images are dealt out in the order of a hash of seed and digest, so neither names nor order play a part. An image has
    one digest, however many files and views it has: these are always in one fold. The only image of a class is in none,
    -1: without it nothing would be known of its class. So every class is left to learn from, whatever is held out.
    InputError if fewer images can be held out than there are folds.
    """
    drawn = [hashlib.sha256(f"{seed}:".encode() + digest.tobytes()).digest() for digest in digests]
    fold = np.full(len(y), ALWAYS_LEARNED)
    dealt = 0
    for code in range(int(y.max()) + 1):
        images = sorted(np.flatnonzero(y == code).tolist(), key=drawn.__getitem__)
        if len(images) > 1:
            fold[images] = (np.arange(len(images)) + dealt) % folds
            dealt += len(images)  # the next class goes on where this one ended, so that the folds are equal as a whole
    if dealt < folds:
        raise InputError(
            f"`folds`: expected at most {dealt:,}, the images of classes that have two or more, received {folds}"
        )
    return fold


def rare_classes(y: Codes, classes: Sequence[str]) -> list[str]:
    """Return a warning, or none, of the classes of up to `RARE` images: what folds can and cannot say of them."""
    counts = np.bincount(y, minlength=len(classes))
    rare = [f"{label} ({count})" for label, count in zip(classes, counts, strict=True) if 0 < count <= RARE]
    if not rare:
        return []
    more = f" and {len(rare) - LISTED:,} more" if len(rare) > LISTED else ""
    return [
        f"classes of {RARE} images or fewer: {', '.join(rare[:LISTED])}{more}; each image is judged by what the others "
        "of its class teach, and the only one of a class is learned from and never judged"
    ]


def assign_groups(codes: NDArray[np.int64], groups: NDArray[np.int64], *, folds: int, seed: int) -> NDArray[np.int64]:
    """Deal images out to folds: each class evenly, each group into one fold.

    Groups come one after the other, first those whose classes differ most in number, else in a random order. Each goes
    to the fold that leaves the folds' shares of the classes most alike, and of several such folds to the smallest. So
    StratifiedGroupKFold of scikit-learn deals them, too, which takes two seconds to load.

    Parameters
    ----------
    codes : ndarray of shape (N,), int
        Classes.
    groups : ndarray of shape (N,), int
        Images that share a number stay together.
    folds : int
        At least 2. No more are made than the largest class has images.
    seed : int
        Of the order in which they are dealt.

    Returns
    -------
    ndarray of shape (N,), int64
        From 0 to `folds` - 1.
    """
    if folds < 2 or len(np.unique(groups)) < folds:
        expected, images = "2 or more, and no more than there are different images", len(np.unique(groups))
        raise InputError.of("folds", expected, f"{folds} folds for {images:,} images")
    folds = min(folds, int(np.bincount(codes).max()))
    if folds < 2:
        raise InputError("expected a class of two images or more, received one image of each")
    _, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    _, of = np.unique(groups, return_inverse=True)
    holding = np.zeros((of.max() + 1, len(counts)))  # (groups, classes)
    np.add.at(holding, (of, places), 1)
    order = np.arange(len(holding))
    np.random.RandomState(seed).shuffle(order)
    order = order[np.argsort(-holding[order].std(axis=1), kind="stable")]
    dealt, fold = np.zeros((folds, len(counts))), np.empty(len(holding), np.int64)
    joined = np.eye(folds)[:, :, None]  # (fold that a group would join, folds, classes)
    for group in order:
        uneven = ((dealt + joined * holding[group]) / counts).std(axis=1).mean(axis=1)
        fold[group] = _smallest(uneven.tolist(), dealt.sum(axis=1).tolist())
        dealt[fold[group]] += holding[group]
    return fold[of]


def _smallest(values: Sequence[float], sizes: Sequence[float]) -> int:
    """Return the place of the least value; among those that differ by rounding, of the one with the least size."""
    best = 0
    for place in range(1, len(values)):
        apart = values[place] - values[best]
        equal = abs(apart) <= 1e-8 + 1e-5 * abs(values[best])
        if apart < 0 or (equal and sizes[place] < sizes[best]):
            best = place
    return best


def stratified(y: Codes, *, folds: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield for each fold the rows to fit on and those held out; each class is dealt out evenly, in a random order.

    The only row of a class is never held out. No more folds are made than the largest class has rows.
    """
    from sklearn.model_selection import StratifiedKFold

    alone = np.bincount(y)[y] == 1
    dealt = np.flatnonzero(~alone)
    folds = min(folds, int(np.bincount(y).max()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer rows than folds: some folds do without them
        for rows, held in StratifiedKFold(folds, shuffle=True, random_state=seed).split(dealt, y[dealt]):
            yield np.sort(np.concatenate([dealt[rows], np.flatnonzero(alone)])), dealt[held]


def each_fold(
    fit: Callable[[Fold], list[Fitted]],
    folds: Sequence[Fold],
    candidates: Candidates,
    *,
    jobs: int,
    progress: Progress | None,
) -> list[list[Fitted]]:
    """Call `fit` on each fold, which returns a fitted head for each candidate, and return them in order.

    `jobs` folds are fitted at a time, in threads: the work is done by matrix products, which let other threads run.
    Together they use as many threads of the linear algebra as there are processors. `progress` is called with (fits
    done, fits) as folds end.
    """
    from joblib import Parallel, delayed

    done: list[list[Fitted]] = []
    workers = min(jobs, len(folds))
    with _shared_processors(workers):
        for fitted in Parallel(n_jobs=workers, prefer="threads", return_as="generator")(
            delayed(fit)(fold) for fold in folds
        ):
            done.append(fitted)
            if progress is not None:
                progress(len(done) * len(candidates), len(folds) * len(candidates))
    return done


@contextlib.contextmanager
def _shared_processors(workers: int) -> Iterator[None]:
    """Give each worker its share of the processors, for as long as the block runs."""
    if workers == 1:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(max(1, (os.cpu_count() or 1) // workers)):
        yield
