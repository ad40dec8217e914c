"""What heads share around their own learning: checks of rows, standardisation, class weights, probabilities."""

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

Rows = NDArray[np.floating[Any]]
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
ClassWeight = Literal["balanced"]

# Rows that are converted to float64 at a time: bounds the memory of a pass, and changes no result that is promised.
BLOCK_ROWS = 1024


class Progress(Protocol):
    """Told after each step how much is done, out of how much."""

    def __call__(self, done: int, total: int, /) -> object:
        """Take note of the progress."""


class Slot(NamedTuple):
    """One array of a fitted head: its shape, its dtype, and whether fitting adjusts it (statistics are not counted)."""

    shape: tuple[int, ...]
    dtype: str
    trainable: bool


def check_rows(X: Rows, n_features: int) -> None:
    """Refuse what is not a finite floating matrix of `n_features` columns.

    Parameters
    ----------
    X : ndarray of shape (n, d), float16, float32 or float64

    Raises
    ------
    InputError
        Says what was expected and received; for NaN or infinity it names the first row, counted from 0.
    """
    if X.ndim != 2 or not np.issubdtype(X.dtype, np.floating):
        raise InputError(f"features: expected a floating matrix (n, d), received {X.dtype} of shape {X.shape}")
    if X.shape[1] != n_features:
        raise InputError(f"features: expected {n_features:,} columns, received {X.shape[1]:,}")
    row = first_not_finite(X)
    if row is not None:
        raise InputError(f"features: expected finite numbers, received NaN or infinity in row {row}")


def check_labelled(X: Rows, y: Codes, n_features: int, n_classes: int) -> None:
    """Refuse rows (see `check_rows`) and codes that do not belong together, or that there are none of.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,), integer codes from 0 to `n_classes` - 1

    Raises
    ------
    InputError
        Says what was expected and received.
    """
    check_rows(X, n_features)
    if y.shape != (len(X),) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"labels: expected {len(X):,} integer codes, received {y.dtype} of shape {y.shape}")
    if not len(y) or y.min() < 0 or y.max() >= n_classes:
        raise InputError(f"labels: expected codes from 0 to {n_classes - 1}, received {np.unique(y).tolist()}")


def count_classes(y: Codes) -> int:
    """Return K for codes that must cover 0 to K - 1, each at least once, with K at least 2.

    Raises
    ------
    InputError
        Lists the codes that were received.
    """
    codes = np.unique(y)
    if len(codes) < 2 or not np.array_equal(codes, np.arange(len(codes))):
        raise InputError(f"labels: expected codes 0 to K - 1 of two classes or more, received {codes.tolist()}")
    return len(codes)


def first_not_finite(X: Rows) -> int | None:
    """Return the first row that holds NaN or infinity, or None.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    """
    for rows in blocks(len(X)):
        finite = np.isfinite(X[rows]).all(axis=1)
        if not finite.all():
            return int(rows.start) + int(np.argmin(finite))
    return None


def blocks(n_rows: int) -> Iterator[slice]:
    """Yield consecutive slices of at most `BLOCK_ROWS` rows."""
    for start in range(0, n_rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n_rows))


def learn_scale(X: Rows) -> tuple[Floats, Floats]:
    """Return each column's mean and standard deviation (of the population), computed in float64.

    A constant column gets the scale 1, so that it standardises to zero and nothing is divided by zero. It is told by
    its extremes and not by its deviation, which rounding makes a little more than zero.

    Parameters
    ----------
    X : ndarray of shape (n, d)

    Returns
    -------
    mean, scale : ndarrays of shape (d,), float64
    """
    mean = X.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for rows in blocks(len(X)):
        squares += np.square(X[rows] - mean).sum(axis=0)
    constant = X.min(axis=0) == X.max(axis=0)
    return mean, np.where(constant, 1.0, np.sqrt(squares / len(X)))


def standardise(X: Rows, mean: Floats, scale: Floats) -> Floats:
    """Return (X - mean) / scale, shape (n, d), float64; X is left as it is."""
    return (X - mean) / scale


def class_weights(y: Codes, choice: ClassWeight | None) -> Floats:
    """Return the weight of each class, shape (K,), whose mean over the rows of `y` is 1.

    ``balanced`` is n / (K · count), scikit-learn's, after King and Zeng, "Logistic Regression in Rare Events Data"
    (2001).
    """
    counts = np.bincount(y)
    if choice is None:
        return np.ones(len(counts))
    return np.asarray(len(y) / (len(counts) * counts))


def outputs(n_classes: int) -> int:
    """Return the number of logits: one for two classes, K for more."""
    return 1 if n_classes == 2 else n_classes


def probabilities(logits: Rows) -> Floats:
    """Turn logits into probabilities without overflow.

    Parameters
    ----------
    logits : ndarray of shape (n, 1) for two classes, where it is the log odds of the second, else (n, K)

    Returns
    -------
    ndarray of shape (n, K), float64, rows sum to 1
    """
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def count_parameters(layout: dict[str, Slot]) -> int:
    """Return how many numbers a fit adjusts, from shapes alone: nothing is allocated."""
    return sum(math.prod(slot.shape) for slot in layout.values() if slot.trainable)
