"""A stand-in for a network behind HTTP: a photo is bright or dark by the mean of its pixels.

``python -m tests.fake_service SECONDS DELAY`` serves it on a free port, with limits that a test can reach.
"""

import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray

from pipeline.inference import class_activation
from pipeline.inference.out_of_distribution import Familiarity, Neighbour
from pipeline.inference.serving import server
from pipeline.inference.serving.limits import Limits
from pipeline.inference.serving.model_service import Answer, Ask, jpeg
from pipeline.inference.serving.routes import create_app
from pipeline.photos import decode

SIZE = 8
MAX_PIXELS = 500_000


class Brightness:
    """Its answers can be recomputed from the pixels alone; while it is held, nothing is answered."""

    def __init__(self, delay: float = 0.0) -> None:
        self.classes = ["bright", "dark"]
        self.explains = self.compares = self.shows = self.exact = True
        self.batches: list[int] = []
        self.asks: list[Ask] = []
        self.delay = delay
        self.free = threading.Event()
        self.free.set()

    def fit(self, data: bytes) -> NDArray[np.uint8]:
        return decode.fit(data, size=SIZE, geometry="squash", max_pixels=MAX_PIXELS)

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        self.batches.append(len(asks))
        self.asks += asks
        time.sleep(self.delay)
        assert self.free.wait(20)
        return [self._one(ask) for ask in asks]

    def _one(self, ask: Ask) -> Answer:
        bright = float(ask.pixels.mean() / 255)
        nearest = tuple(Neighbour(f"bright/{place}.png", "bright", 1 - place / 10) for place in range(ask.nearest))
        heat = ask.pixels.mean(axis=-1, dtype=np.float32) if ask.explain else None
        told = Familiarity(round(100 * bright), 100) if ask.compare else None
        return Answer(int(bright < 0.5), [bright, 1 - bright], heat, nearest, told)

    def drawn(self, data: bytes, heat: NDArray[np.float32]) -> bytes:
        return jpeg(class_activation.overlay(decode.decode(data)[0], heat))

    def thumbnail(self, path: str) -> bytes:
        if path not in {f"bright/{place}.png" for place in range(6)}:
            raise KeyError(path)
        return jpeg(np.full((30, 40, 3), 200, np.uint8))


def app_of(service: Any, *, batch_size: int = 4, batch_wait: float = 0.0, **limits: Any) -> FastAPI:
    chosen = {"body_bytes": 100_000, "instances": 5, "at_once": 50, "seconds": 10.0} | limits
    return create_app(
        service,
        name="light",
        limits=Limits(**chosen),
        batch_size=batch_size,
        batch_wait=batch_wait,
        hosts=server.hosts("127.0.0.1"),
    )


if __name__ == "__main__":
    seconds = float(sys.argv[1])
    try:
        server.serve(
            app_of(Brightness(float(sys.argv[2])), seconds=seconds),
            host="127.0.0.1",
            port=0,
            seconds=seconds,
            told=click.echo,
        )
    except KeyboardInterrupt:
        sys.exit(130)
