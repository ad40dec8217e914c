"""Rows of features, kept in immutable shards under the spec that made them: what is there, what is missing.

::

    <root>/rows/<sha256 of the spec>/spec.json
                                    /view-0/<sha256 of the shard>.h5
                                    /view-0/locks/<writer>.json       held while its writer lives

A shard holds ``/digest`` (n, 32) uint8, ``/features`` (n, …) and, as attribute ``spec``, the sha256 of its spec.
It is named by the sha256 of its bytes, so a flipped, truncated or swapped one is noticed when it is read. It is
written aside, read back, fsynced and renamed: killing the process anywhere loses at most the shard in flight.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import socket
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline import hdf5
from pipeline.digests import as_keys, find
from pipeline.errors import ArtefactError, BusyError, StorageError
from pipeline.files import published

SHARD_ROWS: Final = 256
SHARD_BYTES: Final = 2**26
BLOCK_BYTES: Final = 2**25
HELD_BYTES: Final = 2**28
_SHARDS: Final = "[0-9a-f]*.h5"


class DamagedShardError(ArtefactError):
    """A shard did not hold what its name says; it was set aside and its rows are missing again."""


def default_root(start: Path) -> Path:
    """Return ``$HEADSTART_CACHE``, else ``.headstart`` in the main checkout around `start`.

    The temporary checkouts of DVC experiments lie inside the main one (``.dvc/tmp/exps/…``), so the outermost folder
    with a ``.dvc`` in it is meant. Without one it is `start` itself.
    """
    named = os.environ.get("HEADSTART_CACHE")
    if named:
        return Path(named)
    start = start.resolve()
    checkouts = [folder for folder in (start, *start.parents) if (folder / ".dvc").is_dir()]
    return (checkouts[-1] if checkouts else start) / ".headstart"


@dataclass(frozen=True)
class Index:
    """Where each stored row lies.

    Attributes
    ----------
    keys : ndarray of shape (M,), S32
        Digests, sorted and distinct.
    shards : list of Path
        The shards that could be opened.
    shard, row : ndarray of shape (M,), int64
        The shard, as a place in `shards`, and the row within it.
    row_shape : tuple of int or None
        Shape of one row; None while nothing is stored.
    """

    keys: NDArray[np.bytes_]
    shards: list[Path]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    row_shape: tuple[int, ...] | None

    def missing(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return for each digest, of shape (n, 32), whether its row is still to be computed."""
        _, found = find(self.keys, digests)
        return ~found


class RowCache:
    """The rows of one spec and one view.

    Parameters
    ----------
    root : Path
        The cache folder; made when the first shard is written.
    spec : str
        Canonical JSON.
    dtype : {"float16", "float32"}
        As stored.
    view : str
        Key of the view: ``0`` for the image itself.
    """

    def __init__(self, root: Path, *, spec: str, dtype: str, view: str) -> None:
        self.spec = spec
        self.identity = hashlib.sha256(spec.encode()).hexdigest()
        self.dtype = dtype
        self.folder = root / "rows" / self.identity / f"view-{view}"
        self._held: OrderedDict[Path, NDArray[Any]] = OrderedDict()

    def index(self) -> Index:
        """Read the digests of every shard; set aside the shards that cannot be trusted."""
        keys, shard, row = [np.empty(0, "S32")], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        shards: list[Path] = []
        shape: tuple[int, ...] | None = None
        for path in sorted(self.folder.glob(_SHARDS)):
            try:
                digests, shape = self._open_shard(path, shape)
            except ArtefactError:
                _set_aside(path)
                continue
            keys.append(as_keys(digests))
            shard.append(np.full(len(digests), len(shards)))
            row.append(np.arange(len(digests)))
            shards.append(path)
        distinct, first = np.unique(np.concatenate(keys), return_index=True)
        return Index(distinct, shards, np.concatenate(shard)[first], np.concatenate(row)[first], shape)

    def _open_shard(self, path: Path, shape: tuple[int, ...] | None) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
        with hdf5.open_to_read(path, "rows") as file:
            return self._check(file, path, shape)

    def _check(
        self, file: h5py.File, path: Path, shape: tuple[int, ...] | None
    ) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
        if hdf5.text_attribute(file, "spec") != self.identity:
            raise ArtefactError(f"{path}: rows of another spec")
        stored, features = hdf5.dataset(file, "digest"), hdf5.dataset(file, "features")
        rows, found = features.shape[0], tuple(features.shape[1:])
        if stored.shape != (rows, 32) or stored.dtype != np.uint8 or features.dtype != self.dtype:
            raise ArtefactError(f"{path}: expected {rows} digests and {self.dtype} rows")
        if shape not in (None, found):
            raise ArtefactError(f"{path}: expected rows of shape {shape}, received {found}")
        digests: NDArray[np.uint8] = hdf5.read(stored, 0, rows)
        return digests, found

    def add(self, digests: NDArray[np.uint8], rows: NDArray[Any]) -> Path:
        """Publish one shard.

        Parameters
        ----------
        digests : ndarray of shape (n, 32), uint8
        rows : ndarray of shape (n, …)
            In the dtype of the cache.

        Raises
        ------
        StorageError
            The disk is full or fails; nothing is published.
        """
        memory = io.BytesIO()
        with h5py.File(memory, "w") as file:
            file.attrs["spec"] = self.identity
            hdf5.create(file, "digest", digests.shape, "uint8")[...] = digests
            hdf5.create(file, "features", rows.shape, self.dtype)[...] = rows
        data = memory.getvalue()
        path = self.folder / f"{hashlib.sha256(data).hexdigest()}.h5"
        try:
            self._describe()
            with published(path) as temporary:
                temporary.write_bytes(data)
                _require_digest(temporary, path.stem)
        except OSError as error:
            raise StorageError(f"{self.folder}: cannot keep rows there: {error.strerror or error}") from error
        return path

    def _describe(self) -> None:
        described = self.folder.parent / "spec.json"
        if not described.exists():
            with published(described) as temporary:
                temporary.write_text(self.spec, encoding="utf-8")

    def blocks(self, index: Index, digests: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
        """Yield the rows of the given digests, in their order, in blocks of about 32 MB.

        Parameters
        ----------
        index : Index
            From `index`.
        digests : ndarray of shape (n, 32), uint8
            Best sorted: rows were computed in that order, so that each shard is read once.

        Raises
        ------
        DamagedShardError
            A shard's bytes are not those its name stands for, and it is set aside; or a row is not there.
        """
        if index.row_shape is None:
            return
        row_bytes = max(1, int(np.prod(index.row_shape)) * np.dtype(self.dtype).itemsize)
        step = max(1, BLOCK_BYTES // row_bytes)
        places, found = find(index.keys, digests)
        if not found.all():
            raise DamagedShardError(f"{self.folder}: {np.count_nonzero(~found):,} rows are gone")
        for start in range(0, len(digests), step):
            wanted = places[start : start + step]
            block = np.empty((len(wanted), *index.row_shape), self.dtype)
            for number in np.unique(index.shard[wanted]):
                here = index.shard[wanted] == number
                block[here] = self._load(index.shards[number])[index.row[wanted[here]]]
            yield block

    def verify(self) -> list[Path]:
        """Read every shard in full; set aside those whose bytes are not what their name says, and return them."""
        damaged = []
        for path in sorted(self.folder.glob(_SHARDS)):
            try:
                self._read_whole(path)
            except DamagedShardError:
                damaged.append(path)
        return damaged

    def _load(self, path: Path) -> NDArray[Any]:
        if path not in self._held:
            self._held[path] = self._read_whole(path)
            while len(self._held) > 1 and sum(rows.nbytes for rows in self._held.values()) > HELD_BYTES:
                self._held.popitem(last=False)
        self._held.move_to_end(path)
        return self._held[path]

    def _read_whole(self, path: Path) -> NDArray[Any]:
        try:
            data = _require_digest(path, path.stem)
            with h5py.File(io.BytesIO(data), "r") as file:
                self._check(file, path, None)
                rows: NDArray[Any] = file["features"][...]
        except FileNotFoundError:
            raise DamagedShardError(f"{path}: the shard is gone") from None
        except ArtefactError as error:
            _set_aside(path)
            raise DamagedShardError(str(error)) from error
        return rows

    @contextlib.contextmanager
    def writer(self, low: float, high: float) -> Iterator[None]:
        """Hold the rows whose digest, read as a fraction of its range, lies in [low, high).

        Raises
        ------
        BusyError
            Another process holds some of them; the message says who.
        StorageError
            The cache cannot be written.
        """
        folder = self.folder / "locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / "mutex"):
                _refuse_overlap(folder, low, high)
                mine = folder / f"{uuid.uuid4().hex}.json"
                descriptor = os.open(mine, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                holder = {"host": socket.gethostname(), "pid": os.getpid(), "low": low, "high": high}
                os.write(descriptor, json.dumps(holder).encode())
        except OSError as error:
            raise StorageError(f"{folder}: cannot lock the cache: {error.strerror or error}") from error
        try:
            yield
        finally:
            mine.unlink(missing_ok=True)
            os.close(descriptor)


def _refuse_overlap(folder: Path, low: float, high: float) -> None:
    for path in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError), path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = json.load(file)
                if holder["low"] < high and low < holder["high"]:
                    raise BusyError(
                        f"{folder.parent}: process {holder['pid']} on {holder['host']} is computing these rows; "
                        "wait for it, or stop it"
                    ) from None
            else:
                path.unlink(missing_ok=True)  # its writer was killed


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _require_digest(path: Path, expected: str) -> bytes:
    data = path.read_bytes()
    received = hashlib.sha256(data).hexdigest()
    if received != expected:
        raise ArtefactError(f"{path}: expected bytes with sha256 {expected}, received {received}")
    return data


def _set_aside(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.replace(path.with_suffix(".damaged"))
