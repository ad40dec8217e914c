"""All against all, tile by tile: which of N vectors are close to one another, in bounded memory.

Each is N² / 2 or N² dot products in the form of matrix products. Measured on two cores: the close pairs of 100,000
vectors of 256 numbers, as hashes are, in 31 s; of 20,000 vectors of 1,280 numbers the close pairs in 10 s, and the
nearest in 16 s. Time grows with the square of N, memory only with N: a million is not refused, and takes a hundred
times as long as 100,000.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Progress

Vectors = NDArray[np.float32]
Indices = NDArray[np.intp]

TILE_ROWS: Final = 2048
TILE_COLUMNS: Final = 8192  # a tile is 64 MB of float32
PARTNERS: Final = 20  # of a vector in one tile: of 5,000 frames of a still scene nobody wants twelve million pairs


def close_pairs(left: Vectors, right: Vectors, *, least: float, progress: Progress) -> tuple[Indices, Indices, Vectors]:
    """Find the pairs i < j whose dot product ``left[i] @ right[j]`` is at least `least`.

    A vector with very many partners keeps the closest 20 of each tile of 8,192. Whatever is connected through pairs
    stays connected.

    Parameters
    ----------
    left, right : ndarray of shape (N, d), float32
        Two forms of the same N things, or one and the same array.
    least : float
        The smallest product of a pair.
    progress : callable
        Called with (tiles done, tiles in all).

    Returns
    -------
    i, j : ndarray of shape (P,), int
        In order of i, then j.
    products : ndarray of shape (P,), float32
    """
    found = []
    tiles = [(rows, columns) for rows in _slices(len(left), TILE_ROWS) for columns in _slices(len(left), TILE_COLUMNS)]
    tiles = [(rows, columns) for rows, columns in tiles if columns.stop > rows.start + 1]
    for done, (rows, columns) in enumerate(tiles, 1):
        products = left[rows] @ right[columns].T
        close = products >= least
        if columns.start < rows.stop:  # the tile meets the diagonal
            close &= np.arange(columns.start, columns.stop) > np.arange(rows.start, rows.stop)[:, None]
        i, j = np.nonzero(close)
        kept = _closest(i, products[i, j])
        i, j = i[kept], j[kept]
        found.append((i + rows.start, j + columns.start, products[i, j]))
        progress(done, len(tiles))
    i, j, products = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _no_pairs()
    order = np.lexsort((j, i))
    return i[order], j[order], products[order]


def nearest(vectors: Vectors, k: int) -> Vectors:
    """Return each vector's k largest dot products with others, in descending order: (N, min(k, N - 1)).

    k is at least 1; where there are fewer others, there are as many as there are.
    """
    n = len(vectors)
    k = min(k, n - 1)
    best = np.empty((n, max(k, 0)), np.float32)
    for rows in _slices(n, TILE_ROWS) if k > 0 else ():
        largest = np.full((rows.stop - rows.start, k), -np.inf, np.float32)
        for columns in _slices(n, TILE_COLUMNS):
            products = vectors[rows] @ vectors[columns].T
            own = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
            products[own - rows.start, own - columns.start] = -np.inf
            both = np.concatenate([largest, products], axis=1)
            largest = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
        best[rows] = -np.sort(-largest, axis=1)
    return best


def closest(queries: Vectors, blocks: Iterable[Vectors], k: int) -> tuple[Indices, Vectors]:
    """Find the k largest dot products of each query with vectors that are handed over block by block, in one pass.

    Parameters
    ----------
    queries : ndarray of shape (n, d), float32
        A few thousand at most: with a block of m vectors it takes n · m numbers.
    blocks : iterable of ndarray of shape (m, d), float32
    k : int
        At least 1; where there are fewer vectors, as many as there are.

    Returns
    -------
    places : ndarray of shape (n, k), int
        Of the vectors, counted from 0 over all blocks, the largest product first, and of equal ones the lower place.
    products : ndarray of shape (n, k), float32
    """
    places, products = np.empty((len(queries), 0), np.intp), np.empty((len(queries), 0), np.float32)
    start = 0
    for block in blocks:
        found = queries @ block.T
        best = min(k, len(block))
        at = np.argpartition(-found, best - 1, axis=1)[:, :best] if best else np.empty((len(queries), 0), np.intp)
        places = np.concatenate([places, at + start], axis=1)
        products = np.concatenate([products, np.take_along_axis(found, at, axis=1)], axis=1)
        order = np.lexsort((places, -products), axis=1)[:, :k]
        places, products = np.take_along_axis(places, order, axis=1), np.take_along_axis(products, order, axis=1)
        start += len(block)
    return places, products


def directions(rows: NDArray[np.floating[Any]]) -> Vectors:
    """Return features (N, d), finite, as unit vectors around their mean, whose dot products are centred cosines.

    Features of one network share a large common part; without it, what differs counts. A row that equals the mean
    becomes zero: it is close to nothing.
    """
    return unit(rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32))


def unit(rows: NDArray[np.floating[Any]]) -> Vectors:
    """Return rows (N, d) at length 1, float32; a row of zeros stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0), np.float32)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _closest(i: Indices, products: Vectors) -> Indices:
    """Return the places, sorted, of the `PARTNERS` largest products of each i."""
    order = np.lexsort((-products, i))
    starts = np.flatnonzero(np.diff(i[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return np.sort(order[rank < PARTNERS])


def _no_pairs() -> tuple[Indices, Indices, Vectors]:
    return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
