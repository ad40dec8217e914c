"""The one reader of photos: bytes, checked against the manifest, to squares in batches, ahead in threads."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError, InputError
from pipeline.photos import augmentation, decode
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.photos.settings import Policy
from pipeline.types import Pixels

BATCHES_AHEAD: Final = 3

Fit = Callable[[bytes], Pixels]
Read = TypeVar("Read")


@dataclass(frozen=True)
class Photos:
    """Photos, wherever they lie.

    Attributes
    ----------
    root : Path or Address
        To which the paths are relative.
    paths : sequence of str, n
    digests : ndarray of shape (n, 32), uint8, or None
        What the files must be, sha256; None takes them as they are.
    policy : Policy or None
        What may happen to a photo in a view other than the first; None is nothing.
    """

    root: Root
    paths: Sequence[str]
    digests: NDArray[np.uint8] | None = None
    policy: Policy | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, place: int) -> bytes:
        """Read the file of a photo; ImageError if it cannot be read, or is not what it was."""
        data = decode.read_bytes(self.root / self.paths[place])
        if self.digests is not None and decode.digest(data) != self.digests[place].tobytes():
            raise ImageError("it changed since the manifest was made; run `hs.prepare` again")
        return data

    def views(self, place: int, fit: Fit, numbers: Sequence[int]) -> list[Pixels]:
        """Return views of a photo, each (size, size, 3), read and decoded once; ImageError as of `read` and `fit`."""
        pixels = fit(self.read(place))
        if self.policy is None or self.digests is None:
            return [pixels for _ in numbers]
        digest = self.digests[place].tobytes()
        return [augmentation.apply(pixels, digest=digest, view=int(view), policy=self.policy) for view in numbers]

    def refuse(self, place: int, error: ImageError) -> NoReturn:
        """Raise InputError, which names the photo: what `batches` is given where each photo is needed."""
        raise InputError(f"{self.root / self.paths[place]}: expected an image: {error}") from error


class Batch(NamedTuple):
    """Some squares.

    Attributes
    ----------
    places : ndarray of shape (b,), int64
        Which photo each is of.
    views : ndarray of shape (b,), int64
        Which view of it.
    pixels : ndarray of shape (b, size, size, 3), uint8
    """

    places: NDArray[np.int64]
    views: NDArray[np.int64]
    pixels: Pixels


def of_manifest(root: Root, table: Manifest, policy: Policy | None = None) -> Photos:
    """Return the photos of a manifest, which must be what they were when it was made."""
    return Photos(root, table.paths, table.digests, policy)


def batches(
    photos: Photos,
    fit: Fit,
    *,
    batch_size: int,
    failed: Callable[[int, ImageError], None],
    order: Sequence[int] | NDArray[np.int64] | None = None,
    views: Callable[[int], Sequence[int]] = lambda place: (0,),
) -> Iterator[Batch]:
    """Yield photos as batches of squares, read ahead in threads. Memory does not grow with the number of photos.

    Parameters
    ----------
    photos : Photos
    fit : callable
        Makes a square of a file's bytes, as `pipeline.photos.decode.fit` does, or raises ImageError.
    batch_size : int
        Squares a batch; the last one may be smaller.
    failed : callable
        Called with (place, ImageError) for each photo that cannot be used, before the batch with the next one that can
        be is yielded. `Photos.refuse` ends the run there.
    order : sequence of int, optional
        The places of the photos to yield, in that order; by default all, as they stand.
    views : callable, optional
        Takes a place and returns the numbers of the views wanted of it; by default the photo itself.
    """
    places = range(len(photos)) if order is None else order

    def load(number: int) -> tuple[Sequence[int], list[Pixels]]:
        place = int(places[number])
        wanted = views(place)
        return wanted, photos.views(place, fit, wanted)

    def squares() -> Iterator[tuple[int, int, Pixels]]:
        for number, found in read_ahead(len(places), load, ahead=BATCHES_AHEAD * batch_size):
            place = int(places[number])
            if isinstance(found, ImageError):
                failed(place, found)
            else:
                yield from ((place, view, pixels) for view, pixels in zip(*found, strict=True))

    stream = squares()
    while batch := list(islice(stream, batch_size)):
        its_places, its_views, pixels = zip(*batch, strict=True)
        yield Batch(np.array(its_places), np.array(its_views), np.stack(pixels))


def previews(photos: Photos, side: int, order: Sequence[int]) -> Iterator[Pixels | ImageError]:
    """Yield photos small enough to be looked at, (height, width, 3), or why there is none, in that order."""
    import joblib

    def load(number: int) -> Pixels:
        return decode.preview(photos.read(order[number]), side=side)

    return (found for _, found in read_ahead(len(order), load, ahead=BATCHES_AHEAD * joblib.cpu_count()))


def read_ahead(count: int, load: Callable[[int], Read], *, ahead: int) -> Iterator[tuple[int, Read | ImageError]]:
    """Read photos in threads, ahead of whoever takes them.

    Parameters
    ----------
    count : int
        How many photos there are.
    load : callable
        Takes a number in [0, count) and returns what was read there, or raises ImageError.
    ahead : int
        At most this many are in memory.

    Yields
    ------
    (number, what was read or the ImageError)
        In order. Any other error of `load` is raised here.
    """
    import joblib

    window: deque[Future[Read]] = deque()
    pool = ThreadPoolExecutor(joblib.cpu_count())
    try:
        submitted = 0
        for number in range(count):
            while submitted < min(count, number + ahead):
                window.append(pool.submit(load, submitted))
                submitted += 1
            try:
                yield number, window.popleft().result()
            except ImageError as error:
                yield number, error
    finally:
        pool.shutdown(cancel_futures=True)
