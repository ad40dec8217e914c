"""What executors with workers of their own have in common: a task a worker at a time, until all tasks have ended."""

import abc
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import joblib

SECONDS_A_LOOK: Final = 0.5  # a worker may have joined, or another may hang


@dataclass(frozen=True)
class Lost:
    """A task that did not end, and why, in words."""

    reason: str


class WorkerLostError(Exception):
    """What the future of a task raises when its worker was killed."""


@dataclass
class _Flight:
    """A task under way: how many of its rows were stored, and since when nothing was heard of it."""

    task: Any
    since: float
    stored: int = 0


class Crew(abc.ABC):
    """Workers that take tasks, one each.

    Parameters
    ----------
    patience : float
        Seconds after which a worker that stored no row is given up.
    """

    in_process = False

    def __init__(self, *, patience: float) -> None:
        self.patience = patience

    @property
    @abc.abstractmethod
    def workers(self) -> int:
        """How many tasks can be under way."""

    @abc.abstractmethod
    def submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        """Send a task to a free worker; the future raises WorkerLostError if that worker is killed."""

    @abc.abstractmethod
    def give_up(self, future: "Future[Any]") -> None:
        """Be rid of the worker that has this task, and hangs."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the workers that were started here."""

    def run(
        self,
        function: Callable[[Any], Any],
        tasks: Iterator[Any],
        *,
        stored: Callable[[Any], int],
        advance: Callable[[int], None],
    ) -> Iterator[tuple[Any, Any]]:
        """Yield each task, in the order in which they end, with what the function returned or `Lost`."""
        flying: dict[Future[Any], _Flight] = {}
        while True:
            while len(flying) < self.workers and (task := next(tasks, None)) is not None:
                flying[self.submit(function, task)] = _Flight(task, time.monotonic())
            if not flying:
                return
            for future in wait(flying, timeout=SECONDS_A_LOOK, return_when=FIRST_COMPLETED).done:
                task = flying.pop(future).task
                try:
                    result = future.result()
                except WorkerLostError as lost:
                    yield task, Lost(str(lost))
                else:
                    advance(result.computed)
                    yield task, result
            yield from self._overdue(flying, stored)

    def _overdue(
        self, flying: "dict[Future[Any], _Flight]", stored: Callable[[Any], int]
    ) -> Iterator[tuple[Any, Lost]]:
        """Give up those who stored nothing for too long."""
        for future, flight in list(flying.items()):
            if time.monotonic() - flight.since < self.patience or future.done():
                continue
            before, flight.stored, flight.since = flight.stored, stored(flight.task), time.monotonic()
            if flight.stored == before:
                del flying[future]
                self.give_up(future)
                yield flight.task, Lost(f"its worker stored nothing for {self.patience:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def processors() -> int:
    """Return how many processors this process may use."""
    return int(joblib.cpu_count())


def sharing(workers: int) -> dict[str, str]:
    """Return the environment in which each of so many workers of this machine keeps to its share of the processors.

    TensorFlow obeys the variables of its own and not that of OpenMP; decoding and OpenVINO obey joblib's.
    """
    threads = str(max(1, processors() // workers))
    names = ("LOKY_MAX_CPU_COUNT", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    return {**dict.fromkeys(names, threads), **quiet}
