"""Photos through a network in batches: for each, in order, what the network makes of it, or the reason for none."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines.engine import Engine
from pipeline.errors import ImageError
from pipeline.photos.batches import Fit, Photos, batches

Finished = TypeVar("Finished")


def rows(
    engine: Engine,
    photos: Photos,
    fit: Fit,
    *,
    batch_size: int,
    finish: Callable[[NDArray[np.float32]], Iterable[Finished]],
) -> Iterator[Finished | ImageError]:
    """Yield what a network makes of each photo, in order.

    Parameters
    ----------
    engine : Engine
    photos : Photos
    fit : callable
        Makes of a file's bytes the square that the network takes, as for `batches`.
    batch_size : int
        Images a batch.
    finish : callable
        Takes what the engine gives for a batch, (n, …), and returns what is wanted of it, one item an image: the rows
        of an array, if it is one.

    Yields
    ------
    an item of what `finish` returned, or the ImageError
    """
    failures: dict[int, ImageError] = {}  # of photos that have not been yielded
    in_flight: deque[NDArray[np.int64]] = deque()

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for batch in batches(photos, fit, batch_size=batch_size, failed=failures.__setitem__):
            in_flight.append(batch.places)
            yield batch.pixels

    done = 0
    for computed in engine.run(pixels()):
        for place, row in zip(in_flight.popleft().tolist(), finish(computed), strict=True):
            yield from (failures.pop(failed) for failed in range(done, place))
            yield row
            done = place + 1
    yield from (failures.pop(failed) for failed in range(done, len(photos)))
