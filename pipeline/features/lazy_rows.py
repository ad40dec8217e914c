"""Rows of some images, read from a features file when they are asked for: what does not fit in memory."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError
from pipeline.features.features_file import Features

READ_BYTES: Final = 2**26


class Selection:
    """A table of rows that stay on disk: consecutive rows are read by slicing it, (n, d) float32.

    Parameters
    ----------
    features : Features
        Open for as long as rows are read.
    places : ndarray of shape (N,), int
        Where the images stand in the file, ascending: `Features.places` of their digests.
    names : sequence of str, N
        What an error calls the images.
    views : int
        Rows of an image: `Features.count`, or 1 for the image itself.
    """

    dtype: Final = np.dtype("float32")

    def __init__(self, features: Features, places: NDArray[np.intp], names: Sequence[str], *, views: int) -> None:
        self._features, self._places, self._views = features, places, views
        self._view_places = features.view_places(features.digests[places]) if views > 1 else places
        self._names = np.asarray(names, dtype=object)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), int(np.prod(self._features.row_shape))

    def __len__(self) -> int:
        return len(self._places) * self._views

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        start, stop, _ = rows.indices(len(self))
        first = start // self._views
        if start >= stop:
            return np.empty((0, self.shape[1]), np.float32)
        images = self._read(first, -(-stop // self._views))
        return images[start - first * self._views : stop - first * self._views]

    def take(self, rows: NDArray[np.intp]) -> "Selection":
        """Return the table of these rows, which ascend and hold all views of each of their images."""
        images = rows[:: self._views] // self._views
        if not np.array_equal(rows, (images[:, None] * self._views + np.arange(self._views)).ravel()):
            raise ValueError("expected all views of each image")
        return Selection(self._features, self._places[images], self._names[images].tolist(), views=self._views)

    def _read(self, first: int, last: int) -> NDArray[np.float32]:
        """Return the rows of images. What lies between them in the file is read, too, `READ_BYTES` at a time."""
        result = np.empty((last - first, self._views, self.shape[1]), np.float32)
        self._fill(result[:, :1], self._places[first:last], self._features.read)
        if self._views > 1:
            self._fill(result[:, 1:], self._view_places[first:last], self._features.read_views)
        self._require_finite(result, first)
        return result.reshape(-1, self.shape[1])

    def _fill(
        self, result: NDArray[np.float32], places: NDArray[np.intp], read: Callable[[int, int], NDArray[Any]]
    ) -> None:
        """Read the rows at these places, which ascend: (n, views, d)."""
        at_once = max(1, READ_BYTES // max(1, math.prod(result.shape[1:]) * self._features.dtype.itemsize))
        done = 0
        while done < len(places):
            start = int(places[done])
            end = int(np.searchsorted(places, start + at_once))
            block = read(start, int(places[end - 1]) + 1)[places[done:end] - start]
            result[done:end] = block.reshape(end - done, *result.shape[1:])
            done = end

    def _require_finite(self, images: NDArray[np.float32], first: int) -> None:
        # A sum of finite numbers of this size is finite, and far faster to look at than each of them.
        if np.isfinite(images.sum(dtype=np.float64)):
            return
        bad = first + int(np.argmin(np.isfinite(images).all(axis=(1, 2))))
        raise not_finite(self._features, self._names[bad])


def not_finite(features: Features, name: Any) -> ArtefactError:
    """Return the error for an image whose features hold NaN or infinity."""
    return ArtefactError(
        f"{features.path}: expected finite features, received NaN or infinity for {name}: run `hs.extract` again"
    )
