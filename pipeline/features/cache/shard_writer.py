"""Rows on their way to the cache: gathered to shards, each written behind while the next one fills."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features.cache import row_cache
from pipeline.features.cache.row_cache import RowCache

SECONDS_A_SHARD: Final = 30.0


class ShardWriter:
    """Rows of one view on their way: one shard is written behind, in a thread, while the next one fills.

    Parameters
    ----------
    rows : RowCache
        Where they go; whoever opens a writer holds its lock.

    Attributes
    ----------
    shards : list of Path
        Those that were written; complete once the writer is left.
    """

    def __init__(self, rows: RowCache) -> None:
        self.rows = rows
        self.shards: list[Path] = []
        self._pending: list[tuple[NDArray[np.uint8], NDArray[Any]]] = []
        self._since = time.monotonic()
        self._pool = ThreadPoolExecutor(1)
        self._written: Future[Path] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._close_shard()
                self._wait()
        finally:
            self._pool.shutdown()

    def put(self, digests: NDArray[np.uint8], computed: NDArray[np.floating[Any]]) -> None:
        """Take rows of shape (n, …); they are safe once their shard is closed and written."""
        self._pending.append((digests, _as_stored(computed, self.rows.dtype)))
        count = sum(len(rows) for _, rows in self._pending)
        size = sum(rows.nbytes for _, rows in self._pending)
        full = count >= row_cache.SHARD_ROWS or size >= row_cache.SHARD_BYTES
        if full or time.monotonic() - self._since > SECONDS_A_SHARD:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._pending:
            self._wait()
            digests, rows = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
            self._written = self._pool.submit(self.rows.add, digests, rows)
        self._pending = []
        self._since = time.monotonic()

    def _wait(self) -> None:
        if self._written:
            self.shards.append(self._written.result())
            self._written = None


def _as_stored(computed: NDArray[np.floating[Any]], dtype: str) -> NDArray[Any]:
    if not np.isfinite(computed).all():
        raise InputError(
            "the network gave a value that is no number (NaN or infinite); check `weights` and `precision`"
        )
    with np.errstate(over="ignore"):
        stored: NDArray[Any] = computed.astype(dtype)
    if not np.isfinite(stored).all():
        raise InputError(
            f"`dtype`: a feature of {float(np.abs(computed).max()):.4g} does not fit {dtype} "
            f"(at most {float(np.finfo(dtype).max):.4g}); use `dtype='float32'`"
        )
    largest, least = float(np.abs(computed).max(initial=0.0)), float(np.finfo(dtype).smallest_normal)
    if 0.0 < largest < least:
        raise InputError(
            f"`dtype`: the features of some images are {largest:.4g} at most, which {dtype} cannot tell from 0 (least "
            f"{least:.4g}); use `dtype=float32`, or other weights"
        )
    return stored
