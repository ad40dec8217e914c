"""Rows of features, kept in immutable shards under the spec that made them: what is there, what is missing.

::

    <root>/rows/<sha256 of the spec>/spec.json
                                    /view-0/<sha256 of the shard>.rows
                                    /view-0/locks/<writer>.json       held while its writer lives

A shard is named by the sha256 of its bytes, so a flipped, truncated or swapped one is noticed when it is read. It is
written aside, read back, fsynced and renamed: killing the process anywhere loses at most the shard in flight.
"""

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, BusyError, storing
from pipeline.features.cache.shard import Shard, encode, name_of
from pipeline.features.cache.shard_files import (
    DamagedShardError,
    leftovers,
    require_sha256,
    set_aside,
    setting_aside,
    shard_paths,
    verify_shard,
)
from pipeline.storage import locks
from pipeline.storage.atomic import published
from pipeline.storage.digests import as_keys, find

SHARD_ROWS: Final = 256
SHARD_BYTES: Final = 2**26
BLOCK_BYTES: Final = 2**25
SPEC_FILE: Final = "spec.json"
LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Index:
    """Where each stored row lies.

    Attributes
    ----------
    keys : ndarray of shape (M,), S32
        Digests, sorted and distinct.
    shards : list of Shard
        The shards that could be opened.
    shard, row : ndarray of shape (M,), int32
        The shard, as a place in `shards`, and the row within it.
    row_shape : tuple of int or None
        Shape of one row; None while nothing is stored.
    """

    keys: NDArray[np.bytes_]
    shards: list[Shard]
    shard: NDArray[np.int32]
    row: NDArray[np.int32]
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
        self.dtype, self.view = dtype, view
        self.folder = root / "rows" / self.identity / f"view-{view}"

    def index(self) -> Index:
        """Read the digests of every shard; set aside the shards that cannot be trusted.

        StorageError if the disk fails, or a shard may not be read.
        """
        found: list[tuple[Shard, NDArray[np.uint8]]] = []
        for path in shard_paths(self.folder):
            try:
                with contextlib.suppress(FileNotFoundError):  # pruned just now
                    shard = self._trusted(Shard.open(path), found[0][0].row_shape if found else None)
                    found.append((shard, shard.digests()))
            except ArtefactError:
                set_aside(path)
        found.sort(key=lambda item: item[1][:1].tobytes())  # nearly sorted rows are sorted in no time
        opened = [shard for shard, _ in found]
        keys = np.concatenate([np.empty(0, "S32"), *(as_keys(digests) for _, digests in found)])
        del found
        distinct, first = np.unique(keys, return_index=True)
        lengths = [shard.rows for shard in opened]
        places = np.repeat(np.arange(len(opened), dtype=np.int32), lengths)
        starts = np.cumsum([0, *lengths])[places]
        row = (np.arange(len(keys)) - starts).astype(np.int32)
        return Index(distinct, opened, places[first], row[first], opened[0].row_shape if opened else None)

    def _trusted(self, shard: Shard, row_shape: tuple[int, ...] | None) -> Shard:
        shard.require_of(self.identity, self.view)
        if shard.dtype != self.dtype:
            raise ArtefactError(f"{shard.path}: expected {self.dtype} rows, received {shard.dtype}")
        if row_shape not in (None, shard.row_shape):
            raise ArtefactError(f"{shard.path}: expected rows of shape {row_shape}, received {shard.row_shape}")
        return shard

    def add(self, digests: NDArray[np.uint8], rows: NDArray[Any]) -> Path:
        """Publish one shard, of rows in the dtype of the cache; best within `writer`.

        StorageError if the disk is full or fails; nothing is published then.
        """
        data = encode(self.identity, digests, rows.astype(self.dtype, copy=False), view=self.view)
        path = self.folder / name_of(data)
        with storing(f"{self.folder}: cannot keep rows there"):
            self._describe()
            with published(path) as temporary:
                temporary.write_bytes(data)
                require_sha256(temporary, path.stem)
        LOG.debug("%s: %d rows", path.name, len(digests))
        return path

    def _describe(self) -> None:
        described = self.folder.parent / SPEC_FILE
        if not described.exists() or described.read_text(encoding="utf-8", errors="replace") != self.spec:
            with published(described) as temporary:
                temporary.write_text(self.spec, encoding="utf-8")

    def blocks(self, index: Index, digests: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
        """Yield the rows of the given digests, in their order, in blocks of about 32 MB.

        Each shard is read whole and verified once. Where a shard reaches into several blocks, the later ones read of
        it what they need, so that thousands of shards scattered over the digests cost no more memory than one.

        Parameters
        ----------
        index : Index
            From `index`.
        digests : ndarray of shape (n, 32), uint8
            Best sorted: rows were computed in that order.

        Raises
        ------
        DamagedShardError
            A shard's bytes are not those its name stands for, and it is set aside; or a row is not there.
        StorageError
            The disk fails, or a shard may not be read.
        """
        if index.row_shape is None:
            return
        places, found = find(index.keys, digests)
        if not found.all():
            raise DamagedShardError(f"{self.folder}: {np.count_nonzero(~found):,} rows are gone")
        verified: set[Path] = set()
        step = max(1, BLOCK_BYTES // index.shards[0].row_bytes)
        for start in range(0, len(digests), step):
            wanted = places[start : start + step]
            block = np.empty((len(wanted), *index.row_shape), self.dtype)
            for here in _grouped(index.shard[wanted]):
                shard = index.shards[index.shard[wanted[here[0]]]]
                block[here] = self._read(shard, index.row[wanted[here]], verified)
            yield block

    def _read(self, shard: Shard, rows: NDArray[np.int32], verified: set[Path]) -> NDArray[Any]:
        with setting_aside(shard.path):
            if shard.path in verified:
                first = int(rows.min())
                return shard.read(first, int(rows.max()) + 1)[rows - first]
            verified.add(shard.path)
            return self._whole(shard.path)[rows]

    def _whole(self, path: Path) -> NDArray[Any]:
        shard, rows = Shard.verified(path)
        self._trusted(shard, None)
        return rows

    def verify(self) -> list[Path]:
        """Read every shard in full; set aside those whose bytes are not what their name says, and return them."""
        return [path for path in shard_paths(self.folder) if not verify_shard(path)]

    @contextlib.contextmanager
    def writer(self, low: float, high: float, run: str = "") -> Iterator[None]:
        """Hold the rows whose digest, read as a fraction of its range, lies in [low, high).

        A writer that is alone removes the half-written files of those that were killed before it.

        Parameters
        ----------
        low, high : float
            From 0 to 1.
        run : str
            Writers of the same run do not bar one another; empty for a writer that has no others beside it.

        Raises
        ------
        BusyError
            Another process holds some of them; the message says who.
        StorageError
            The cache cannot be written.
        """
        folder = self.folder / "locks"
        with contextlib.ExitStack() as stack:
            with storing(f"{folder}: cannot lock the cache"), locks.mutex(folder):
                others = locks.cleared(folder)
                barring = [other for other in others if other.bars(low, high, run)]
                if barring:  # of a run with many writers, the one who hands out the work holds most
                    first = max(barring, key=lambda other: other.high - other.low)
                    raise BusyError(f"{self.folder}: {first} is computing these rows; wait for it, or stop it")
                if not others:
                    for path in leftovers(self.folder):
                        path.unlink(missing_ok=True)
                stack.enter_context(locks.entered(folder, low, high, run))
            yield


def _grouped(numbers: NDArray[np.int32]) -> list[NDArray[np.intp]]:
    """Return the places of each distinct number, all of them in one sort."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
