"""What a head says of images that it was not fitted on: folds that keep near duplicates together."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.heads.head import Head
from pipeline.types import Progress

COPIED_AT_ONCE: Final = 2**30  # bytes: each fit takes a copy of nearly all rows, and of more there is one at a time


def predict(
    head: Head,
    X: NDArray[np.float32],
    codes: NDArray[np.int64],
    fold: NDArray[np.int64],
    fitted_on: NDArray[np.bool_],
    *,
    n_classes: int,
    progress: Progress,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Predict each image by a head that was fitted on images of other folds.

    Parameters
    ----------
    head : Head
        A copy is fitted for each fold, several at a time; what it has learned before plays no part.
    X : ndarray of shape (N, d), float32
    codes : ndarray of shape (N,), int
        Classes, 0 to `n_classes` - 1.
    fold : ndarray of shape (N,), int
        From `assign`.
    fitted_on : ndarray of shape (N,), bool
        Which images may be fitted on at all; the others are only predicted.
    n_classes : int
        K.
    progress : callable
        Called with (folds done, folds).

    Returns
    -------
    probabilities : ndarray of shape (N, K), float64
        A class of which the other folds hold no image has probability 0.
    judged : ndarray of shape (N,), bool
        Whether the other folds hold images of the image's own class and of another: else nothing is said of its label.

    Raises
    ------
    InputError
        That is so of no image.
    """
    import joblib

    def of_others(held: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        known, renumbered = np.unique(codes[~held & fitted_on], return_inverse=True)
        if len(known) < 2:
            return known, None
        fitted = replace(head).fit(X[~held & fitted_on], renumbered.astype(np.int64), None)
        return known, fitted.predict_proba(X[held])

    found, judged = np.zeros((len(X), n_classes)), np.zeros(len(X), np.bool_)
    folds = [fold == number for number in np.unique(fold)]
    # A fit leaves processors idle between its products: so there is one thread more than there are processors. After
    # Ctrl-C an executor would wait for the running fits, which may take minutes; joblib leaves them.
    jobs = min(len(folds), joblib.cpu_count() + 1) if X.nbytes <= COPIED_AT_ONCE else 1
    threads = joblib.Parallel(jobs, prefer="threads", return_as="generator")
    each = threads(joblib.delayed(of_others)(held) for held in folds)
    for done, (held, (known, probabilities)) in enumerate(zip(folds, each, strict=True), 1):
        if probabilities is not None:
            found[np.ix_(held, known)] = probabilities
            judged[held] = np.isin(codes[held], known)
        progress(done, len(folds))
    if not judged.any():
        raise InputError("expected images of two classes or more outside a fold: add images to train or val")
    return found, judged
