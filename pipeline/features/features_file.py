"""``features.h5``: one row a distinct image, in digest order, with the spec under which the rows were computed.

``/digest`` (N, 32) uint8, sorted; ``/features`` (N, …) float16 or float32; attribute ``spec``: canonical JSON. Where
some images have V views, ``/views/digest`` (M, 32), sorted, names these, and ``/views/features`` (M, V - 1, …) holds
all but the first view, which is the image itself. No label is in it. The same rows give the same bytes. Chunks carry a
checksum, and the attribute ``sha256`` is that of all else: a reader notices bit rot, which DVC does not.
"""

import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError
from pipeline.features import file_layout
from pipeline.features.file_layout import ATTRIBUTES, VIEWS, Views
from pipeline.storage import hdf5
from pipeline.storage.atomic import published
from pipeline.storage.digests import as_keys, find
from pipeline.storage.json_files import SEAL

READ_BYTES: Final = 2**25


def write(
    path: Path,
    *,
    spec: str,
    digests: NDArray[np.uint8],
    row_shape: tuple[int, ...],
    dtype: str,
    blocks: Iterable[NDArray[Any]],
    views: Views | None = None,
) -> None:
    """Write a features file, block by block, and publish it once it is complete and reads back.

    Parameters
    ----------
    path : Path
        The file to publish; whatever stood there stays until then.
    spec : str
        Canonical JSON.
    digests : ndarray of shape (N, 32), uint8
        Sorted and distinct.
    row_shape : tuple of int
        Shape of one row.
    dtype : {"float16", "float32"}
        As stored.
    blocks : iterable of ndarray of shape (n, *row_shape)
        The rows in the order of `digests`; the n add up to N.
    views : Views or None
        Of the images that have any but themselves.

    Raises
    ------
    ArtefactError
        The blocks hold fewer rows than there are digests, or more.
    OSError
        The disk is full or fails; nothing is published.
    """
    texts = file_layout.texts_of(spec, views)
    listed = [digests, views.digests] if views else [digests]
    texts[SEAL] = file_layout.seal(texts, listed, row_shape, np.dtype(dtype))
    interrupted = threading.Event()

    def stoppable(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
        for block in blocks:
            if interrupted.is_set():
                return
            yield block

    tables = [("", digests, row_shape, stoppable(blocks))]
    if views:
        tables.append((f"{VIEWS}/", views.digests, (views.others, *row_shape), stoppable(views.blocks)))
    with published(path) as temporary:
        # An interrupt is raised in the main thread. Raised within a call of HDF5 it would crash the process.
        with ThreadPoolExecutor(1) as thread:
            try:
                received = thread.submit(file_layout.fill, temporary, texts, tables, dtype).result()
            finally:
                interrupted.set()
        for rows, filled in zip(map(len, listed), received, strict=True):
            if filled != rows:
                raise ArtefactError(f"{path}: expected {rows:,} rows to write, received {filled:,}")
        with Features(temporary) as written:
            written.verify()


def holds(path: Path, *, spec: str, digests: NDArray[np.uint8], views: Views | None) -> bool:
    """Tell whether a file is sound, to the last byte, and has exactly these rows; parameters as for `write`."""
    try:
        with Features(path) as file:
            told = (file.spec, file.views) == (json.loads(spec), json.loads(views.described) if views else None)
            listed = views.digests if views else digests[:0]
            same = told and np.array_equal(file.digests, digests) and np.array_equal(file.varied, listed)
            if same:
                file.verify()
    except ArtefactError:
        return False
    return same


class Features:
    """An open features file, checked when it is opened and, block by block, as it is read.

    Parameters
    ----------
    path : Path
        A file written by `write`.

    Attributes
    ----------
    spec : dict
        The spec under which the rows were computed.
    views : dict or None
        ``count`` and ``policy`` where some images have several views; else None.
    digests : ndarray of shape (N, 32), uint8
        Sorted.
    varied : ndarray of shape (M, 32), uint8
        Those of them that have several views, sorted.
    row_shape : tuple of int
        Shape of one row.
    dtype : numpy.dtype
        As stored: float16 or float32.

    Raises
    ------
    ArtefactError
        The file is missing, damaged, hostile or no features file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = hdf5.open_to_read(path, "features")
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        self._features = hdf5.dataset(self._file, file_layout.FEATURES)
        rows = self._features.shape[0] if self._features.ndim > 1 else -1
        self.digests = file_layout.read_digests(self._file, "", rows)
        if self._features.dtype not in (np.dtype("float16"), np.dtype("float32")):
            raise ArtefactError(
                f"{self.path}: expected /features in float16 or float32: {file_layout.kind(self._features)}"
            )
        self.spec = self._read_json("spec")
        self.views = self._read_json(VIEWS) if hdf5.has_attribute(self._file, VIEWS) else None
        self.row_shape: tuple[int, ...] = self._features.shape[1:]
        self.dtype: np.dtype[Any] = self._features.dtype
        self.varied, self._others = self._open_views() if self.views else (self.digests[:0], self._features)
        texts = {
            name: hdf5.text_attribute(self._file, name) for name in ATTRIBUTES if hdf5.has_attribute(self._file, name)
        }
        found = hdf5.text_attribute(self._file, SEAL) if hdf5.has_attribute(self._file, SEAL) else None
        listed = [self.digests, self.varied] if self.views else [self.digests]
        if found != (received := file_layout.seal(texts, listed, self.row_shape, self.dtype)):
            told = "none, as an earlier version left it" if found is None else found
            raise ArtefactError(
                f"{self.path}: expected sha256 {received} of its spec and digests, received {told}; "
                "run `hs.extract` again"
            )
        for digests in listed:
            file_layout.require_sorted(self.path, digests)
        self.places(self.varied)

    def _open_views(self) -> tuple[NDArray[np.uint8], hdf5.Dataset]:
        """Read which images have views, and open them."""
        if not hdf5.has_group(self._file, VIEWS):
            raise ArtefactError(
                f"{self.path}: expected views beside /features, received them in it, as an earlier version left them; "
                "run `hs.extract` again, which takes the rows from the cache"
            )
        others = hdf5.dataset(self._file, f"{VIEWS}/{file_layout.FEATURES}")
        count = self.views["count"] - 1 if self.views else 0
        if others.shape[1:] != (count, *self.row_shape) or others.dtype != self.dtype:
            raise ArtefactError(
                f"{self.path}: expected {count} views beside each image: received {file_layout.kind(others)}"
            )
        return file_layout.read_digests(self._file, f"{VIEWS}/", others.shape[0]), others

    def _read_json(self, name: str) -> dict[str, Any]:
        return ATTRIBUTES[name].parse(hdf5.text_attribute(self._file, name), self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.digests)

    def gather(self, digests: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the rows of the given digests, in their order.

        Parameters
        ----------
        digests : ndarray of shape (n, 32), uint8
            In any order.

        Returns
        -------
        ndarray of shape (n, *row_shape), float32

        Raises
        ------
        ArtefactError
            A digest has no row here, or the bytes read are damaged.
        """
        rows = np.empty((len(digests), *self.row_shape), np.float32)
        _gather(self._features, self.places(digests), rows)
        return rows

    @property
    def count(self) -> int:
        """How many views there are of an image that has several; 1 if none has."""
        return int(self.views["count"]) if self.views else 1

    def gather_views(self, digests: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the rows of the given digests view by view, the image itself first: (n, views, *row_shape), float32.

        Errors as for `gather`, and if a digest has no views where others have some.
        """
        rows = np.empty((len(digests), self.count, *self.row_shape), np.float32)
        _gather(self._features, self.places(digests), rows[:, 0])
        if self.views:
            _gather(self._others, self.view_places(digests), rows[:, 1:])
        return rows

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows from one place to another as stored, (n, *row_shape)."""
        return hdf5.read(self._features, start, stop)

    def read_views(self, start: int, stop: int) -> NDArray[Any]:
        """Return the views from one of the `view_places` to another, without the images themselves, as stored."""
        return hdf5.read(self._others, start, stop)

    def verify(self) -> None:
        """Read every byte once; ArtefactError if a checksum does not hold."""
        for dataset in (self._features, *([self._others] if self.views else [])):
            for ends in _ranges(dataset):
                hdf5.read(dataset, *ends)

    def places(self, digests: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Return where in the file the rows of these digests are, (n,); ArtefactError if one is not there."""
        places, found = find(as_keys(self.digests), digests)
        if not found.all():
            first = digests[np.argmin(found)].tobytes().hex()
            raise ArtefactError(
                f"{self.path}: {np.count_nonzero(~found):,} of {len(digests):,} images of the manifest have no row, "
                f"the first with digest {first}; run `hs.extract` again"
            )
        return places

    def view_places(self, digests: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Return where the views of these digests are, (n,); ArtefactError if one has none."""
        places, found = find(as_keys(self.varied), digests)
        if not found.all():
            raise ArtefactError(
                f"{self.path}: {np.count_nonzero(~found):,} of {len(digests):,} images have no views; run `hs.extract` "
                "again, which computes those of the images to learn from, or `hs.extract(tta=True)`, those of all"
            )
        return places


def _ranges(dataset: hdf5.Dataset) -> Iterator[tuple[int, int]]:
    """Yield where blocks of about 32 MB begin and end."""
    row_bytes = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    chunk_rows = dataset.chunks[0] if dataset.chunks else 1
    at_once = max(1, READ_BYTES // row_bytes // chunk_rows) * chunk_rows
    for start in range(0, len(dataset), at_once):
        yield start, min(start + at_once, len(dataset))


def _gather(dataset: hdf5.Dataset, places: NDArray[np.intp], into: NDArray[np.float32]) -> None:
    """Read the rows at some places, in any order; blocks in which there are none are passed over."""
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    for start, stop in _ranges(dataset):
        low, high = np.searchsorted(ordered, (start, stop))
        if low < high:
            into[order[low:high]] = hdf5.read(dataset, start, stop)[ordered[low:high] - start]
