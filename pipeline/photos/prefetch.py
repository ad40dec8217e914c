"""Read images in threads, ahead of whoever takes them."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import joblib

from pipeline.errors import ImageError

BATCHES_AHEAD: Final = 3

Read = TypeVar("Read")


def decoded(count: int, load: Callable[[int], Read], *, ahead: int) -> Iterator[tuple[int, Read | ImageError]]:
    """Read images in threads, ahead of whoever takes them.

    Parameters
    ----------
    count : int
        How many images there are.
    load : callable
        Takes a place in [0, count) and returns what was read there, or raises ImageError.
    ahead : int
        At most this many images are in memory.

    Yields
    ------
    (place, what was read or the ImageError)
        In order. Any other error of `load` is raised here.
    """
    window: deque[Future[Read]] = deque()
    pool = ThreadPoolExecutor(joblib.cpu_count())
    try:
        submitted = 0
        for place in range(count):
            while submitted < min(count, place + ahead):
                window.append(pool.submit(load, submitted))
                submitted += 1
            try:
                yield place, window.popleft().result()
            except ImageError as error:
                yield place, error
    finally:
        pool.shutdown(cancel_futures=True)
