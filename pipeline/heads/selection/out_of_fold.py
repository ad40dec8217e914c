"""Few images: folds choose what a validation split would have chosen, and the head learns from all of them.

Fewer than `splits.FEWEST_VAL` validation images choose by chance. They are learned from instead, as the training images
are, and each image of both is held out once. Early stopping, the temperature, the threshold and a search see only what
heads say of images that they did not learn from, and the test split is not read: so nothing is chosen on what a head
knows already. What is measured is a head that learned from nine tenths of the images, which is a little worse than the
one that is kept. With ten photos of two classes, the one of the validation split brought the accuracy of logistic heads
on others from 0.79 to 0.85, and their log loss from 0.85 to 0.66 (`benchmarks/few_photos.py`).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.heads import registry, standardise
from pipeline.heads.dense import DenseHead
from pipeline.heads.head import Head
from pipeline.heads.selection.cross_validation import Fold, assign
from pipeline.heads.split_rows import SplitRows
from pipeline.types import Codes, Floats, Progress

FOLDS: Final = 10
# A temperature from fewer images has next to nothing to go by: from 20 it lowered the log loss on others to 0.77 times
# what it was in the mean over eight heads, and raised that of none by more than a twentieth.
FEWEST_CALIBRATED: Final = 20


class HeldOut(NamedTuple):
    """What heads say of images that they did not learn from: probabilities (n, K), and the codes of their labels."""

    probabilities: Floats
    codes: Codes


def most_folds(y: Codes) -> int:
    """Return how many folds `divide` can make, up to `FOLDS`: none if every class has one image."""
    counts = np.bincount(y)
    return min(FOLDS, int(counts[counts > 1].sum()))


def divide(fit: SplitRows, digests: NDArray[np.uint8], *, folds: int, seed: int) -> list[Fold]:
    """Return folds of images, whose rows to fit on are all views of those that are not held out."""
    fold_of = assign(digests, fit.codes, folds=folds, seed=seed)
    views = len(fit.rows) // len(fold_of)
    of_rows = np.repeat(fold_of, views)
    found = []
    for fold in range(folds):
        held = np.flatnonzero(fold_of == fold)
        judged = standardise.take(fit.images, held), fit.codes[held]
        found.append(Fold(np.flatnonzero(of_rows != fold), judged, held * views))
    return found


def chosen_folds(fit: SplitRows, held: SplitRows, digests: NDArray[np.uint8], *, folds: int, seed: int) -> list[Fold]:
    """Return what is fitted on and judged on to choose: both splits, or folds of what is learned from.

    Without folds that were asked for, few images are dealt to as many as `most_folds`, perhaps none.
    """
    if not folds and len(held.codes):
        return [Fold(np.arange(len(fit.rows)), (held.images, held.codes))]
    folds = folds or most_folds(fit.codes)
    return divide(fit, digests, folds=folds, seed=seed) if folds else []


def judge(
    head: Head, fit: SplitRows, folds: Sequence[Fold], *, jobs: int, progress: Progress | None
) -> tuple[Head, HeldOut]:
    """Return a head to fit on everything, and what heads like it, fitted on each fold, say of what that holds out.

    Where early stopping has no validation images to watch, the folds choose for how many epochs the head is trained;
    without folds, it is for all of them.

    Parameters
    ----------
    head : Head
        Not fitted.
    fit : SplitRows
    folds : sequence of Fold
        Of these rows; may be empty.
    jobs : int
        Folds at a time, where the head does not share the work by itself.
    progress : callable or None
        Called with (done, total).
    """
    stops = isinstance(head, DenseHead) and head.patience > 0
    if not folds:
        unstopped: Head = replace(head, patience=0) if stops else head  # type: ignore[call-arg]
        return unstopped, HeldOut(np.empty((0, standardise.count_classes(fit.codes))), fit.codes[:0])
    fitted: Sequence[Head]
    if isinstance(head, DenseHead) and stops:
        fitted = head.fit_folds(fit.rows, fit.row_codes, folds, progress)
        head = replace(fitted[0])
    else:
        each = head.fit_grid(fit.rows, fit.row_codes, folds, [{}], jobs=jobs, progress=progress)
        fitted = [one for (one,) in each]
    said = [registry.predict(one, fold.held[0]) for one, fold in zip(fitted, folds, strict=True)]
    return head, HeldOut(np.vstack(said), np.concatenate([fold.held[1] for fold in folds]))
