"""Which images have a picture in the report, and the number under which the page knows each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pipeline.photos.manifest import Manifest


@dataclass(frozen=True)
class Gallery:
    """The images that have a picture.

    Attributes
    ----------
    images : Manifest
        In the order of their digests; an image's place is its number.
    mapped : ndarray of shape (m,), int
        Numbers of those on the map: the first m of all images by digest, which is a fair sample.
    """

    images: Manifest
    mapped: NDArray[np.intp]
    _numbers: dict[bytes, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        numbers = {digest.tobytes(): number for number, digest in enumerate(self.images.digests)}
        object.__setattr__(self, "_numbers", numbers)

    def __len__(self) -> int:
        return len(self.images)

    def number(self, digest: bytes) -> int | None:
        """Return the number of an image; None if it has no picture."""
        return self._numbers.get(digest)


def choose(images: Manifest, first: Iterable[bytes], *, map_images: int, most: int) -> Gallery:
    """Choose the images that have a picture, at most `most` of distinct images.

    `first` are digests of images that the page names, the most wanted first; of these at most half of `most` are taken
    before the `map_images` on the map have their turn. After both come the other test images, then all others.
    """
    places = {digest.tobytes(): place for place, digest in enumerate(images.digests)}
    named = [places[digest] for digest in dict.fromkeys(first) if digest in places]
    mapped = range(min(map_images, len(images), most))
    tested = (place for place, split in enumerate(images.splits) if split == "test")
    wanted = dict.fromkeys(chain(named[: most // 2], mapped, named, tested, range(len(images))))
    chosen = sorted(list(wanted)[:most])
    on_map = np.flatnonzero(np.isin(chosen, np.array(mapped)))
    return Gallery(images.take(chosen), on_map)
