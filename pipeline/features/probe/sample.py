"""The photos that judge: a draw from train and val, and their pixels in batches."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.features.resolve import Plan
from pipeline.photos import batches as reading
from pipeline.photos.batches import of_manifest
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root


def draw(table: Manifest, sample: int) -> Manifest:
    """Take `sample` distinct images of train and val at most, each class by its share, in the order of their digests.

    A digest is as good as a random number, so the first images of a class are a random draw from it, and the same one
    each time. Image r (from 0) of the c images of a class stands at (r + 1/2) / c; those that stand lowest are taken.
    """
    distinct = table.distinct("train", "val")
    of_class: dict[str, list[int]] = {}
    for place, label in enumerate(distinct.labels):
        of_class.setdefault(label, []).append(place)
    stands = [((rank + 0.5) / len(its), place) for its in of_class.values() for rank, place in enumerate(its)]
    return distinct.take(sorted(place for _, place in sorted(stands)[:sample]))


class Sample:
    """The images of a sample as batches of pixels, read ahead by threads, as one plan wants them."""

    def __init__(self, root: Root, drawn: Manifest, plan: Plan, batch_size: int) -> None:
        self.root, self.drawn, self.plan, self.batch_size = root, drawn, plan, batch_size
        self.failures: list[str] = []

    def __len__(self) -> int:
        return len(self.drawn)

    def batches(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the first `count` images, of shape (b, size, size, 3). Those that cannot be read go to `failures`."""
        found = reading.batches(
            of_manifest(self.root, self.drawn),
            self.plan.fit,
            batch_size=self.batch_size,
            failed=lambda place, error: self.failures.append(f"{self.drawn.paths[place]} ({error})"),
            order=range(count),
        )
        return (batch.pixels for batch in found)
