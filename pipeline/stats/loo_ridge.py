"""Ridge regression to one-hot labels as a quick classifier, every row judged by a fit to all the other rows.

Leaving one row out has a closed form [1]_: if H is the matrix that turns the targets into their fit, the fit to all
rows but i misses the target of i by (y_i - (H y)_i) / (1 - H_ii). One eigendecomposition gives H for every strength of
the penalty, so a head is judged on n rows, each of which it did not see, at about the cost of fitting it once.

References
----------
.. [1] D. M. Allen, "The relationship between variable selection and data augmentation and a method for prediction",
   Technometrics 16 (1974) 125-127.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Codes, Floats

STRENGTHS: Final = tuple(float(strength) for strength in 10.0 ** np.arange(-3.0, 1.01, 0.5))
"""Penalties that are tried, in units of the mean eigenvalue of the standardised features."""

SMALLEST: Final = 1e-6  # of an eigenvalue, relative to the largest: below it float32 holds rounding only
SMALL: Final = 256  # rows of a matrix that is decomposed in float64


def left_out(X: NDArray[np.floating[Any]], y: Codes) -> tuple[Codes, Floats]:
    """Classify each row by a ridge fitted to all others, on standardised columns.

    The strength of the penalty is the one with the least squared error of rows left out, out of `STRENGTHS`; so it is
    not chosen by the very accuracy that the result is used for. Means and scales of the columns, in which there is no
    label, are those of all rows.

    Parameters
    ----------
    X : ndarray of shape (n, d), floating, finite
        n is at least 2.
    y : ndarray of shape (n,), int
        Codes of the classes, 0 to K - 1.

    Returns
    -------
    given : ndarray of shape (n,), int
        The code each row is given.
    errors : ndarray of shape (n,)
        By how much the K numbers that a row is given miss its one-hot target, squared and summed: 0 is perfect.
    """
    targets = np.eye(int(y.max()) + 1)[y]
    mean = targets.mean(axis=0)
    centred = targets - mean
    directions, eigenvalues = _directions(_standardised(X))
    along = directions.T @ centred
    average = eigenvalues.sum() / max(1, len(eigenvalues))
    shrunk = eigenvalues[:, None] / (eigenvalues[:, None] + average * np.array(STRENGTHS))
    own = 1 / len(X) + directions**2 @ shrunk  # the diagonal of H, a column a strength; 1 / n is the intercept's
    best, least = centred, np.inf
    for weights, leverages in zip(shrunk.T, own.T, strict=True):
        fitted = directions @ (weights[:, None] * along)
        missed = (centred - fitted) / np.maximum(1 - leverages, SMALLEST)[:, None]
        error = float(np.sum(missed**2))
        if error < least:
            best, least = centred - missed, error
    given: Codes = (best + mean).argmax(axis=1)
    return given, np.sum((best - centred) ** 2, axis=1)


def _standardised(X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return columns of mean 0 and deviation 1; a constant column is 0."""
    columns: NDArray[np.float32] = X.astype(np.float32)
    columns -= columns.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.sqrt(np.mean(np.square(columns), axis=0, dtype=np.float64)).astype(np.float32)
    columns /= np.where(scale > 0, scale, 1)
    return columns


def _directions(X: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Return the left singular vectors (n, r) and the squares (r,) of the singular values that are not zero.

    They are found in the smaller of the two Gram matrices: that of the columns, (d, d), or of the rows, (n, n). It is
    in float32.
    """
    n, d = X.shape
    eigenvalues, vectors = _eigh(X.T @ X if d < n else X @ X.T)
    if not np.isfinite(eigenvalues).all():  # no column would be kept, and each row be given the commonest class
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    kept = eigenvalues > SMALLEST * max(float(eigenvalues[-1]), float(np.finfo(np.float32).tiny))
    eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    directions = X @ vectors / np.sqrt(eigenvalues) if d < n else vectors
    return directions.astype(np.float64), eigenvalues.astype(np.float64)


def _eigh(matrix: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decompose a symmetric matrix, a large one in float32: NumPy's ``eigh`` computes in float64, whatever it is given.

    That halves the time. The squared error differs by less than one part in a thousand, but by a sixth for a small and
    nearly collinear table, and float64 takes no time for those. What does it in float32 is a private part of NumPy;
    where that is gone, this is its ``eigh``. SciPy's function holds Python's lock meanwhile, so that threads would
    wait for one another.
    """
    if len(matrix) <= SMALL:
        return np.linalg.eigh(matrix)
    try:
        from numpy.linalg._umath_linalg import eigh_lo
    except ImportError:
        return np.linalg.eigh(matrix)
    with np.errstate(invalid="ignore"):  # `_directions` asks whether it converged
        found: tuple[NDArray[np.float32], NDArray[np.float32]] = eigh_lo(matrix, signature="f->ff")
    return found
