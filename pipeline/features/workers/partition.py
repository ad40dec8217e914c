"""The rows to compute, cut into tasks: a range of digests each, which whoever has it computes, stores and names.

A task is idempotent: computed twice, by whomever, it leaves the same rows. It is done when its shards are on the disk,
and not because somebody says so.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingError
from pipeline.storage.digests import fractions

SHARES_A_WORKER: Final = 2


@dataclass(frozen=True)
class Task:
    """Some images of which rows are missing, in the order of their digests.

    Attributes
    ----------
    places : ndarray of shape (n,), int
        Which images of the run they are.
    digests : ndarray of shape (n, 32), uint8
    paths : list of str, n
        POSIX, relative to the image root.
    missing : ndarray of shape (n, views), bool
        The rows to compute: one a view of an image.
    """

    places: NDArray[np.intp]
    digests: NDArray[np.uint8]
    paths: list[str]
    missing: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def rows(self) -> int:
        """How many rows are to be computed."""
        return int(np.count_nonzero(self.missing))

    @property
    def low(self) -> float:
        """The first digest as a fraction of its range."""
        return float(fractions(self.digests[:1])[0])

    @property
    def high(self) -> float:
        """The next fraction after that of the last digest."""
        return float(np.nextafter(fractions(self.digests[-1:])[0], 2.0))


@dataclass(frozen=True)
class Done:
    """What became of a task.

    Attributes
    ----------
    host, pid : str, int
        Who did it.
    engine : str
        Its name and version.
    computed : int
        Rows.
    seconds : float
        From the first image decoded to the last row stored; start-up is not in it.
    shards : list of str
        The files that hold the rows, relative to the folder of the spec.
    failures : list of (place, reason)
        Images that could not be read.
    """

    host: str
    pid: int
    engine: str
    computed: int
    seconds: float
    shards: list[str]
    failures: list[tuple[int, str]]


@dataclass(frozen=True)
class Worker:
    """What one process did.

    Attributes
    ----------
    host, pid : str, int
        Which one.
    images : int
        Rows that it computed: one a view of an image.
    images_per_second : float
        While it was at them; start-up is not in it.
    """

    host: str
    pid: int
    images: int
    images_per_second: float


class Part(NamedTuple):
    """The part number `number`, from 0, of `of` equal parts of all digests: always the same images."""

    number: int
    of: int

    @property
    def low(self) -> float:
        """Where it begins, as a fraction of the range of digests."""
        return self.number / self.of

    @property
    def high(self) -> float:
        """Where the next one begins."""
        return (self.number + 1) / self.of

    def holds(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Tell which digests, of shape (n, 32), are in it; the parts share no digest and leave none out."""
        drawn = fractions(digests)
        return (drawn >= self.low) & ((drawn < self.high) | (self.number == self.of - 1))


EVERYTHING: Final = Part(0, 1)


def part_of(text: str | None) -> Part:
    """Return the part that ``I/N`` names; SettingError if it is none. None is everything."""
    if text is None:
        return EVERYTHING
    number, _, of = text.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise SettingError.of("shard", "I/N with I from 0 to N - 1", repr(text))
    return Part(int(number), int(of))


def cut(
    digests: NDArray[np.uint8],
    paths: Sequence[str],
    missing: NDArray[np.bool_],
    *,
    smallest: int,
    largest: int,
    workers: int,
) -> Iterator[Task]:
    """Yield tasks that together hold every image of which a row is missing; each is made when it is asked for.

    The first ones are large, since each costs a little, and the last ones small, so that no worker is left with much
    when the others are done: a task is a fixed share of what remains (guided self-scheduling; Polychronopoulos and
    Kuck, IEEE Transactions on Computers 36, 1987).

    Parameters
    ----------
    digests : ndarray of shape (N, 32), uint8
        Sorted.
    paths : sequence of str, N
    missing : ndarray of shape (N, views), bool
    smallest, largest : int
        Images a task. The last one may be smaller.
    workers : int
        How many share the tasks.
    """
    wanted = np.flatnonzero(missing.any(axis=1))
    start = 0
    while start < len(wanted):
        share = math.ceil((len(wanted) - start) / (SHARES_A_WORKER * workers))
        places = wanted[start : start + max(smallest, min(largest, share))]
        yield Task(places, digests[places], [paths[place] for place in places], missing[places])
        start += len(places)


def workers(done: Sequence[Done]) -> list[Worker]:
    """Sum tasks up by who did them, the busiest first."""
    found: dict[tuple[str, int], list[Done]] = {}
    for one in done:
        found.setdefault((one.host, one.pid), []).append(one)
    summed = []
    for (host, pid), its in found.items():
        count, seconds = sum(one.computed for one in its), sum(one.seconds for one in its)
        summed.append(Worker(host, pid, count, round(count / seconds, 1) if count else 0.0))
    return sorted(summed, key=lambda worker: (-worker.images, worker.host, worker.pid))
