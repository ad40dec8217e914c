"""A network that fails on purpose, in whichever process it runs; workers import it from here.

What fails is chosen by the image, or by a file in a folder, which goes when the fault has happened: never by chance.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.features.resolve import Plan
from tests.fakes import CountingEngine, write_photo

KILLER = (250, 0, 0)
KILL_ONCE, HANG_ONCE, WAIT, GO = "kill-once", "hang-once", "wait", "go"
OPENED, SEEN = "opened", "seen"


class Faulty(CountingEngine):
    """The fake network of all tests, until a fault is due."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        note(folder / OPENED)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            if (batch == KILLER).all(axis=(1, 2, 3)).any() or taken(self.folder / KILL_ONCE):
                os.kill(os.getpid(), signal.SIGKILL)
            if taken(self.folder / HANG_ONCE):
                note(self.folder / SEEN)
                until(self.folder / GO)
            if (self.folder / WAIT).exists():
                note(self.folder / SEEN)
                until(self.folder / GO)
            yield from super().run([batch])


def opened(folder: str, plan: Plan) -> Faulty:
    """Open the network; a partial of this can be pickled."""
    return Faulty(Path(folder))


class Overflowing(CountingEngine):
    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for rows in super().run(batches):
            yield rows + 1e5


def overflowing(plan: Plan) -> Overflowing:
    return Overflowing()


def write_killer(path: Path) -> None:
    Image.new("RGB", (40, 30), KILLER).save(write_photo(path, 0))


def note(path: Path) -> None:
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")


def noted(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def taken(path: Path) -> bool:
    """Take a file away; true for the one process that did."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def until(condition: Path | Callable[[], object], seconds: float = 300.0) -> None:
    """Wait for a file, or until a condition holds."""
    deadline = time.monotonic() + seconds
    while not (condition.exists() if isinstance(condition, Path) else condition()):
        if time.monotonic() > deadline:
            sys.exit(f"{condition}: nothing came")
        time.sleep(0.01)
