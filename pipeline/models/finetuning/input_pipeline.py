"""What an epoch of fine-tuning is fed: batches of cached activations, or of pixels read anew, in a seeded order."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.features.features_file import Features
from pipeline.photos import batches as reading
from pipeline.photos.batches import Fit, of_manifest
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.photos.settings import Policy

Places = NDArray[np.int64]
Batches = Iterator[tuple[Places, NDArray[Any]]]

BUFFER_BYTES: Final = 2**29  # rows in memory at a time; with the next ones being read, twice as much
BLOCK_BYTES: Final = 2**25  # rows that are read together when not all fit
BATCHES_AHEAD: Final = 2


class Source(Protocol):
    """Rows of one split, numbered from 0 in the order of their digests.

    Attributes
    ----------
    count : int
        Rows.
    row_shape : tuple of int
    dtype : str
        ``float32`` or ``uint8``.
    """

    count: int
    row_shape: tuple[int, ...]
    dtype: str

    def order(self, draw: np.random.Generator | None) -> list[Places]:
        """Return the row numbers in groups that fit in memory, shuffled by `draw` or in their order."""

    def batches(self, order: list[Places], *, batch_size: int, epoch: int) -> Batches:
        """Yield (row numbers (n,), rows (n, *row_shape)) in that order; a group's last batch may be smaller.

        Epoch 0 shows the images themselves, later ones what that epoch sees of them.
        """


class CachedRows:
    """Activations from a features file; of several views each epoch takes the next one.

    Parameters
    ----------
    features : Features
        Open.
    digests : ndarray of shape (n, 32), uint8
        Of the split, sorted.
    varied : bool
        Whether to take all views of an image that the file holds, or the image itself.
    """

    dtype = "float32"

    def __init__(self, features: Features, digests: NDArray[np.uint8], *, varied: bool) -> None:
        self.count = len(digests)
        self.row_shape = features.row_shape
        self._views = features.count if varied else 1
        self._features = features
        self._digests = digests
        self._held: tuple[Places, NDArray[np.float32]] | None = None

    def order(self, draw: np.random.Generator | None) -> list[Places]:
        """Return groups of row numbers; see `shuffled`."""
        return shuffled(self.count, 4 * self._views * int(np.prod(self.row_shape)), draw)

    def batches(self, order: list[Places], *, batch_size: int, epoch: int) -> Batches:
        """Yield (row numbers, activations) of the view that is the epoch's turn."""
        for group in order:
            numbers, rows = self._loaded(np.sort(group))
            for places in _chunks(group, batch_size):
                yield places, rows[np.searchsorted(numbers, places), max(0, epoch - 1) % self._views]

    def _loaded(self, numbers: Places) -> tuple[Places, NDArray[np.float32]]:
        """Read a group, of shape (n, views, *row_shape), unless it is the one that was read last."""
        if self._held is None or not np.array_equal(self._held[0], numbers):
            self._held = None  # its memory is needed
            gather = self._features.gather_views if self._views > 1 else self._features.gather
            self._held = numbers, gather(self._digests[numbers]).reshape(len(numbers), -1, *self.row_shape)
        return self._held


class LivePixels:
    """Pixels, decoded anew in each epoch and changed at random: view number `epoch` of each image, which is never kept.

    Parameters
    ----------
    root : Path or Address
        The image root.
    table : Manifest
        The split, one row an image, in the order of the digests.
    size : int
        Side of the input square, px.
    fit : callable
        Makes that square of a file's bytes.
    policy : Policy or None
        What may happen to an image; None is nothing.
    """

    dtype = "uint8"

    def __init__(self, root: Root, table: Manifest, *, size: int, fit: Fit, policy: Policy | None) -> None:
        self.count = len(table)
        self.row_shape: tuple[int, ...] = (size, size, 3)
        self._photos = of_manifest(root, table, policy)
        self._fit = fit

    def order(self, draw: np.random.Generator | None) -> list[Places]:
        """Return one group of all row numbers: no more than a few batches are in memory anyway."""
        return [np.arange(self.count) if draw is None else draw.permutation(self.count)]

    def batches(self, order: list[Places], *, batch_size: int, epoch: int) -> Batches:
        """Yield (row numbers, pixels) of the view of that number; of view 0 if nothing may happen to an image."""
        policy = self._photos.policy
        view = 0 if policy is None or policy.is_empty else epoch
        for group in order:
            for batch in reading.batches(
                self._photos,
                self._fit,
                batch_size=batch_size,
                failed=self._photos.refuse,
                order=group,
                views=lambda place: (view,),
            ):
                yield batch.places, batch.pixels


def shuffled(count: int, row_bytes: int, draw: np.random.Generator | None) -> list[Places]:
    """Put rows in an order that can be read without holding all of them.

    If they fit in `BUFFER_BYTES` there is one group, and its order is uniform. If not, blocks of neighbouring rows are
    shuffled, as many as fit make a group, and each group is shuffled: rows that are read one by one in random order
    would take many times as long. Digests are random, so neighbours have nothing in common.

    There are `count` rows of `row_bytes` each; without `draw` they stay in their order.
    """
    numbers = np.arange(count)
    a_block = max(1, BLOCK_BYTES // row_bytes)
    blocks_held = max(1, BUFFER_BYTES // (a_block * row_bytes))
    if count * row_bytes <= BUFFER_BYTES:
        return [numbers if draw is None else draw.permutation(numbers)]
    blocks = list(_chunks(numbers, a_block))
    turns = np.arange(len(blocks)) if draw is None else draw.permutation(len(blocks))
    groups = [np.concatenate([blocks[turn] for turn in held]) for held in _chunks(turns, blocks_held)]
    return groups if draw is None else [draw.permutation(group) for group in groups]


def count_batches(order: list[Places], batch_size: int) -> int:
    """Return how many batches `Source.batches` makes of an order."""
    return sum(-(-len(group) // batch_size) for group in order)


def prefetched(source: Source, order: list[Places], *, batch_size: int, epoch: int) -> Batches:
    """Yield (row numbers, rows), the next batches being made in a thread while the device computes.

    Whatever the source raises is raised here.
    """
    stream = source.batches(order, batch_size=batch_size, epoch=epoch)
    behind = ThreadPoolExecutor(1)
    try:
        window = deque(behind.submit(next, stream, None) for _ in range(BATCHES_AHEAD))
        while (batch := window.popleft().result()) is not None:
            window.append(behind.submit(next, stream, None))
            yield batch
    finally:
        behind.shutdown(cancel_futures=True)


def _chunks(numbers: NDArray[Any], length: int) -> Iterator[NDArray[Any]]:
    for start in range(0, len(numbers), length):
        yield numbers[start : start + length]
