"""Image files through a network: decoded in threads, run in batches, and a row or the reason for none for each."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import engines
from pipeline.errors import ImageError
from pipeline.features import extract
from pipeline.models.store import Model

Finished = TypeVar("Finished")


def open_model(
    model: Model, *, engine: str, precision: engines.Precision, batch_size: int, cache: Path | None
) -> engines.Engine:
    """Return an engine that runs a model as it runs a trunk; its rows are probabilities.

    Parameters
    ----------
    model : Model
    engine : {"auto", "tensorflow", "openvino"}
    precision : {"float32", "bfloat16", "float16"}
        Of the arithmetic.
    batch_size : int
        The most images of a batch.
    cache : Path or None
        The cache folder, where an engine finds what it kept to start faster.

    Raises
    ------
    InputError
        The device would silently run that precision as another.
    ArtefactError
        The model's weights are damaged.
    """
    kept = cache and cache / "graphs" / model.identity
    return engines.open_engine(
        engines.choose(engine), model.network, batch_size=batch_size, precision=precision, kept=kept
    )


def rows(
    engine: engines.Engine,
    count: int,
    load: Callable[[int], NDArray[np.uint8]],
    *,
    batch_size: int,
    finish: Callable[[NDArray[np.float32]], Iterable[Finished]],
) -> Iterator[Finished | ImageError]:
    """Yield what a network makes of each image, in order.

    Parameters
    ----------
    engine : Engine
    count : int
        How many images there are.
    load : callable
        Takes a place in [0, count) and returns the pixels (size, size, 3), or raises ImageError. Called in threads.
    batch_size : int
        Images a batch.
    finish : callable
        Takes what the engine gives for a batch, (n, …), and returns what is wanted of it, one item an image: the rows
        of an array, if it is one.

    Yields
    ------
    an item of what `finish` returned, or the ImageError
    """
    waiting: deque[ImageError | None] = deque()  # what is known of the images that have not been yielded

    def batches() -> Iterator[NDArray[np.uint8]]:
        batch: list[NDArray[np.uint8]] = []
        for _, pixels in extract.decoded(count, load, ahead=extract.BATCHES_AHEAD * batch_size):
            if isinstance(pixels, ImageError):
                waiting.append(pixels)
                continue
            waiting.append(None)
            batch.append(pixels)
            if len(batch) == batch_size:
                yield np.stack(batch)
                batch.clear()
        if batch:
            yield np.stack(batch)

    for computed in engine.run(batches()):
        for row in finish(computed):
            while failed := waiting.popleft():
                yield failed
            yield row
    yield from (failed for failed in waiting if failed)
