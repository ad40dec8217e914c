"""Executors run tasks: in this process, or wherever Dask has workers. One call for both.

An executor knows nothing of images. It hands a function and tasks to workers, and says of each task what the function
returned, or that it was lost: its worker was killed, or hung. What to make of that is for the caller to say, who looks
at what the tasks left on the disk.
"""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol, Self

from pipeline.errors import InputError
from pipeline.features.settings import ExecutorSettings
from pipeline.features.workers.executors.dask import Dask
from pipeline.features.workers.executors.local import Local
from pipeline.setting import check, require_effect


class Executor(Protocol):
    """What runs tasks.

    Attributes
    ----------
    in_process : bool
        Whether tasks run here, one after the other.
    """

    in_process: bool

    @property
    def workers(self) -> int:
        """How many tasks can be under way; workers are started if there are none yet."""

    def run(
        self,
        function: Callable[..., Any],
        tasks: Iterator[Any],
        *,
        stored: Callable[[Any], int],
        advance: Callable[[int], None],
    ) -> Iterator[tuple[Any, Any]]:
        """Run a function on every task and yield, as they end, (task, what it returned or `Lost`).

        Parameters
        ----------
        function : callable
            Takes a task; in this process it takes `advance`, too. Elsewhere it and the tasks are pickled, and what it
            returns says with an attribute `computed` by how much to advance.
        tasks : iterator
            Asked for one when a worker is free.
        stored : callable
            Takes a task and returns how many of its rows are on the disk: a worker that stores none for too long hangs.
        advance : callable
            Called with numbers of rows.

        Raises
        ------
        HeadstartError
            The function raised it; or there are no workers any more.
        """

    def __enter__(self) -> Self:
        """Return itself; workers start when the first task comes."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers that it started, tasks or not."""


def open_executor(settings: ExecutorSettings) -> Executor:
    """Return an executor; nothing is started before it is used.

    Without a scheduler, workers are started on this machine. InputError if there is no such executor, or an option does
    not go with it.
    """
    workers, scheduler = settings.workers, settings.scheduler
    check(settings)
    require_effect(settings)
    if scheduler is not None and workers is not None:
        raise InputError.of("workers", "none with `scheduler`, whose workers are there already", workers)
    if settings.executor == "local":
        return Local()
    return Dask(workers, scheduler=scheduler, patience=settings.task_timeout)
