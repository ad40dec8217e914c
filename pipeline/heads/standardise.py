"""What heads share around their own learning: checks of rows, standardisation, class weights, probabilities."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.heads.settings import ClassWeight
from pipeline.types import Codes, Floats

Rows = NDArray[np.floating[Any]]

# Rows that are converted to float64 at a time: bounds the memory of a pass, and changes no result that is promised.
BLOCK_ROWS = 1024


class Table(Protocol):
    """Rows that are read slice by slice: a matrix in memory, or rows of a file that would not fit there."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the rows as they are read, floating."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, rows: slice, /) -> Any:
        """Return consecutive rows, (n, d)."""


class Stored(Table, Protocol):
    """Rows of a file. What it reads is finite: whoever opened it looks."""

    def take(self, rows: NDArray[np.intp]) -> "Stored":
        """Return the table of these rows; `rows` ascend."""


class Slot(NamedTuple):
    """One array of a fitted head: its shape, its dtype, and whether fitting adjusts it (statistics are not counted).

    None in a shape is the number of rows that the head keeps: one number for all its arrays.
    """

    shape: tuple[int | None, ...]
    dtype: str
    trainable: bool


Candidates = Sequence[dict[str, Any]]


def check_rows(X: Table, n_features: int) -> None:
    """Refuse what is not a finite floating matrix of `n_features` columns.

    Rows of a file were found finite by whoever reads them. InputError says what was expected and received; for NaN or
    infinity it names the first row, counted from 0.
    """
    if len(X.shape) != 2 or not np.issubdtype(X.dtype, np.floating):
        raise InputError(f"features: expected a floating matrix (n, d), received {X.dtype} of shape {X.shape}")
    if X.shape[1] != n_features:
        raise InputError(f"features: expected {n_features:,} columns, received {X.shape[1]:,}")
    row = first_not_finite(X) if isinstance(X, np.ndarray) else None
    if row is not None:
        raise InputError(f"features: expected finite numbers, received NaN or infinity in row {row}")


def check_labelled(X: Table, y: Codes, n_features: int, n_classes: int) -> None:
    """Refuse rows (see `check_rows`) and codes that do not belong together, or that there are none of.

    `X` is (n, d), `y` (n,) holds codes from 0 to `n_classes` - 1. InputError says what was expected and received.
    """
    check_rows(X, n_features)
    if y.shape != (len(X),) or not np.issubdtype(y.dtype, np.integer):
        raise InputError(f"labels: expected {len(X):,} integer codes, received {y.dtype} of shape {y.shape}")
    if not len(y) or y.min() < 0 or y.max() >= n_classes:
        raise InputError(f"labels: expected codes from 0 to {n_classes - 1}, received {np.unique(y).tolist()}")


def count_classes(y: Codes) -> int:
    """Return K, at least 2, for codes that must cover 0 to K - 1; else InputError, which lists those received."""
    codes = np.unique(y)
    if len(codes) < 2 or not np.array_equal(codes, np.arange(len(codes))):
        raise InputError(f"labels: expected codes 0 to K - 1 of two classes or more, received {codes.tolist()}")
    return len(codes)


def first_not_finite(X: Rows) -> int | None:
    """Return the first row of a matrix (n, d) that holds NaN or infinity, or None."""
    for rows in blocks(len(X)):
        finite = np.isfinite(X[rows]).all(axis=1)
        if not finite.all():
            return int(rows.start) + int(np.argmin(finite))
    return None


def blocks(n_rows: int) -> Iterator[slice]:
    """Yield consecutive slices of at most `BLOCK_ROWS` rows."""
    for start in range(0, n_rows, BLOCK_ROWS):
        yield slice(start, min(start + BLOCK_ROWS, n_rows))


def take(X: Table, rows: NDArray[np.intp]) -> Table:
    """Return some rows, ascending: a copy of those in memory, a narrower view of those on disk."""
    if len(rows) == len(X):
        return X
    if isinstance(X, np.ndarray):
        return X[rows]
    stored: Stored = X  # type: ignore[assignment]
    return stored.take(rows)


def learn_scale(X: Table) -> tuple[Floats, Floats]:
    """Return each column's mean and standard deviation (of the population), computed in float64 and in one pass.

    A constant column gets the scale 1, so that it standardises to zero and nothing is divided by zero. It is told by
    its extremes and not by its deviation, which rounding makes a little more than zero.

    Blocks are combined as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (1979), equation 2.1, which does not cancel where means are large.

    Parameters
    ----------
    X : Table of shape (n, d)

    Returns
    -------
    mean, scale : ndarrays of shape (d,), float64
    """
    mean, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    low, high = np.full(X.shape[1], np.inf), np.full(X.shape[1], -np.inf)
    for rows in blocks(len(X)):
        block = np.asarray(X[rows], dtype=np.float64)
        before, own = rows.start, block.mean(axis=0)
        apart = own - mean
        squares += np.square(block - own).sum(axis=0) + np.square(apart) * (before * len(block) / rows.stop)
        mean += apart * (len(block) / rows.stop)
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    return mean, np.where(low == high, 1.0, np.sqrt(squares / len(X)))


def standardise(X: Rows, mean: Floats, scale: Floats) -> Floats:
    """Return (X - mean) / scale, shape (n, d), float64; X is left as it is."""
    centred: Floats = X - mean
    centred /= scale
    return centred


class Standardised:
    """A table of rows, standardised as they are read; those in memory once, those on disk at each reading.

    Parameters
    ----------
    X : Table of shape (n, d)
    mean, scale : ndarrays of shape (d,)
    piece : int
        Of those on disk, about so many numbers are handed out at a time: few, where they are multiplied with a few
        columns and should stay near the processor meanwhile; many, where with a matrix. It changes speed only.
    dtype : float64 or float32
        Of what is handed out.
    """

    def __init__(self, X: Table, mean: Floats, scale: Floats, *, piece: int = 2**21, dtype: Any = np.float64) -> None:
        self._piece = max(1, piece // X.shape[1])
        self.shape: tuple[int, ...] = X.shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self._mean, self._scale = mean, scale
        self._X: Table = X
        if isinstance(X, np.ndarray):
            self._X = self._standardised(X)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, rows: slice, /) -> Rows:
        """Return consecutive rows, (n, d); those in memory as a view."""
        read = self._X[rows]
        return read if isinstance(self._X, np.ndarray) else self._standardised(read)

    def _standardised(self, X: Rows) -> Rows:
        found = np.empty(X.shape, self.dtype)
        for rows in blocks(len(X)):
            found[rows] = standardise(X[rows], self._mean, self._scale)
        return found

    def blocks(self, *, every: int = 1) -> Iterator[tuple[slice, Rows]]:
        """Yield each block's place and its rows (n, d); or one block of `every`."""
        for rows in islice(blocks(self.shape[0]), 0, None, every):
            block = self._X[rows]
            if isinstance(self._X, np.ndarray):
                yield rows, block
                continue
            for start in range(rows.start, rows.stop, self._piece):
                stop = min(start + self._piece, rows.stop)
                read = block[start - rows.start : stop - rows.start]
                yield slice(start, stop), standardise(read, self._mean, self._scale).astype(self.dtype, copy=False)


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
    """Turn logits into probabilities (n, K), float64, whose rows sum to 1, without overflow.

    Logits are (n, K), or for two classes (n, 1), the log odds of the second.
    """
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        logits = np.hstack([np.zeros_like(logits), logits])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def count_parameters(layout: dict[str, Slot]) -> int:
    """Return how many numbers a fit adjusts, from shapes alone: nothing is allocated."""
    return sum(math.prod(size or 0 for size in slot.shape) for slot in layout.values() if slot.trainable)
