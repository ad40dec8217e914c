"""``features.h5``: one row a distinct image, in digest order, with the spec under which the rows were computed.

``/digest`` (N, 32) uint8, sorted; ``/features`` (N, …) float16 or float32; attribute ``spec``: canonical JSON. No label
is in it. The same rows give the same bytes. Chunks carry a checksum, and the attribute ``sha256`` is that of all
else: a reader notices bit rot, which DVC does not.
"""

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError
from pipeline.storage import hdf5
from pipeline.storage.atomic import published
from pipeline.storage.digests import as_keys, find
from pipeline.storage.json_files import SEAL, Document, whole

ATTRIBUTES: Final = {
    "spec": Document("the spec of features", "`hs.extract`", {}),
    "views": Document("the views of features", "`hs.extract`", {"count": whole(1)}),
}
READ_BYTES: Final = 2**25


def write(
    path: Path,
    *,
    spec: str,
    digests: NDArray[np.uint8],
    row_shape: tuple[int, ...],
    dtype: str,
    blocks: Iterable[NDArray[Any]],
    views: str | None = None,
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
    views : str or None
        Where a row holds several views of its image, along its first axis: their count and policy as canonical JSON.

    Raises
    ------
    ArtefactError
        The blocks hold fewer rows than there are digests, or more.
    OSError
        The disk is full or fails; nothing is published.
    """
    rows = len(digests)
    texts = {"spec": spec} | ({"views": views} if views else {})
    texts[SEAL] = _seal(texts, digests, row_shape, np.dtype(dtype))
    interrupted = threading.Event()

    def stoppable() -> Iterator[NDArray[Any]]:
        for block in blocks:
            if interrupted.is_set():
                return
            yield block

    with published(path) as temporary:
        # An interrupt is raised in the main thread. Raised within a call of HDF5 it would crash the process.
        with ThreadPoolExecutor(1) as thread:
            try:
                received = thread.submit(_fill, temporary, texts, digests, row_shape, dtype, stoppable()).result()
            finally:
                interrupted.set()
        if received != rows:
            raise ArtefactError(f"{path}: expected {rows:,} rows to write, received {received:,}")
        with Features(temporary) as written:
            written.verify()


def _seal(
    texts: Mapping[str, str], digests: NDArray[np.uint8], row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> str:
    """Return the sha256 of all that a features file says but its rows, which have checksums of their own."""
    said = json.dumps([sorted(texts.items()), digests.shape, row_shape, dtype.name])
    return hashlib.sha256(said.encode() + digests.tobytes()).hexdigest()


def _fill(
    path: Path,
    texts: Mapping[str, str],
    digests: NDArray[np.uint8],
    row_shape: tuple[int, ...],
    dtype: str,
    blocks: Iterator[NDArray[Any]],
) -> int:
    rows, start = len(digests), 0
    with hdf5.written(path) as (file, require_written):
        for name, text in texts.items():
            hdf5.write_text_attribute(file, name, text)
        hdf5.create(file, "digest", (rows, 32), "uint8")[...] = digests
        features = hdf5.create(file, "features", (rows, *row_shape), dtype)
        for block in blocks:
            place, start = start, start + len(block)
            if start > rows:
                break
            features[place:start] = block
            require_written()
    return start


def holds(path: Path, *, spec: str, digests: NDArray[np.uint8], views: str | None) -> bool:
    """Tell whether a file is sound, to the last byte, and has exactly these rows; parameters as for `write`."""
    try:
        with Features(path) as file:
            told = (file.spec, file.views) == (json.loads(spec), json.loads(views) if views else None)
            same = told and np.array_equal(file.digests, digests)
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
        ``count`` and ``policy`` where a row holds several views of its image, along its first axis; else None.
    digests : ndarray of shape (N, 32), uint8
        Sorted.
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
        digests = hdf5.dataset(self._file, "digest")
        self._features = hdf5.dataset(self._file, "features")
        rows = self._features.shape[0] if self._features.ndim > 1 else -1
        if digests.shape != (rows, 32) or digests.dtype != np.uint8:
            raise ArtefactError(f"{self.path}: expected /digest ({rows}, 32) uint8, received {_kind(digests)}")
        if self._features.dtype not in (np.dtype("float16"), np.dtype("float32")):
            raise ArtefactError(f"{self.path}: expected /features in float16 or float32: {_kind(self._features)}")
        self.spec = self._read_json("spec")
        self.views = self._read_json("views") if hdf5.has_attribute(self._file, "views") else None
        if self.views and self._features.shape[1] != self.views.get("count"):
            raise ArtefactError(f"{self.path}: expected {self.views.get('count')} views: {_kind(self._features)}")
        self.row_shape: tuple[int, ...] = self._features.shape[1:]
        self.dtype: np.dtype[Any] = self._features.dtype
        self.digests: NDArray[np.uint8] = hdf5.read(digests, 0, rows)
        texts = {
            name: hdf5.text_attribute(self._file, name) for name in ATTRIBUTES if hdf5.has_attribute(self._file, name)
        }
        found = hdf5.text_attribute(self._file, SEAL) if hdf5.has_attribute(self._file, SEAL) else None
        if found != (received := _seal(texts, self.digests, self.row_shape, self.dtype)):
            told = "none, as an earlier version left it" if found is None else found
            raise ArtefactError(
                f"{self.path}: expected sha256 {received} of its spec and digests, received {told}; "
                "run `hs.extract` again"
            )
        keys = as_keys(self.digests)
        if not (keys[:-1] < keys[1:]).all():
            raise ArtefactError(f"{self.path}: expected /digest sorted and distinct; the file is damaged")

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
        places = self.places(digests)
        order = np.argsort(places, kind="stable")
        ordered = places[order]
        rows = np.empty((len(digests), *self.row_shape), np.float32)
        for start in range(0, len(self), self._rows_a_read):
            stop = min(start + self._rows_a_read, len(self))
            low, high = np.searchsorted(ordered, (start, stop))
            if low < high:
                rows[order[low:high]] = hdf5.read(self._features, start, stop)[ordered[low:high] - start]
        return rows

    def gather_views(self, digests: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the rows of the given digests view by view, each flattened: shape (n, views, d), float32.

        Of a file without views there is one, the image itself.
        """
        count = self.views["count"] if self.views else 1
        return self.gather(digests).reshape(len(digests), count, -1)

    def stream(self) -> Iterator[NDArray[Any]]:
        """Yield all rows front to back, as stored, in blocks of shape (n, *row_shape) of about 32 MB.

        A digest is random, so this is a shuffled pass over the images.
        """
        for start in range(0, len(self), self._rows_a_read):
            yield hdf5.read(self._features, start, min(start + self._rows_a_read, len(self)))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows from one place to another as stored, (n, *row_shape)."""
        return hdf5.read(self._features, start, stop)

    def verify(self) -> None:
        """Read every byte once; ArtefactError if a checksum does not hold."""
        for _ in self.stream():
            pass

    @property
    def _rows_a_read(self) -> int:
        row_bytes = max(1, int(np.prod(self.row_shape)) * self.dtype.itemsize)
        chunk_rows = self._features.chunks[0] if self._features.chunks else 1
        return max(1, READ_BYTES // row_bytes // chunk_rows) * chunk_rows

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


def _kind(dataset: h5py.Dataset) -> str:
    return f"{dataset.shape} {dataset.dtype}"
