"""Tasks in processes of this machine, through joblib's loky: fresh interpreters, never forks.

A pool of loky whose worker is killed is lost with all that was under way in it. So each worker is a pool of its own:
a kill costs one task, it is known which, and one that hangs can be killed without disturbing the others.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from pipeline.features.workers.executors.crew import Crew, WorkerLostError, processors, sharing

IDLE_SECONDS: Final = 30  # a worker whose driver was killed ends by itself


class Processes(Crew):
    """So many worker processes.

    Parameters
    ----------
    workers : int or None
        None is one a core.
    patience : float
        Seconds after which a worker that stored no row is killed.
    """

    def __init__(self, workers: int | None, *, patience: float) -> None:
        super().__init__(patience=patience)
        self._count = workers or processors()
        self._idle: list[Any] = []
        self._busy: dict[Future[Any], Any] = {}

    @property
    def workers(self) -> int:
        """How many there are, started or not."""
        return self._count

    def submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        """Send a task to an idle worker, or to a new one."""
        pool = self._idle.pop() if self._idle else self._pool()
        outcome: Future[Any] = Future()
        self._busy[outcome] = pool
        pool.submit(function, task).add_done_callback(lambda future: self._landed(outcome, future))
        return outcome

    def give_up(self, future: "Future[Any]") -> None:
        """Kill the worker that has this task."""
        pool = self._busy.pop(future, None)
        if pool is not None:
            pool.shutdown(wait=False, kill_workers=True)

    def close(self) -> None:
        """Kill every worker; what they were at is not stored and will be missing."""
        for pool in [*self._idle, *self._busy.values()]:
            pool.shutdown(kill_workers=True)
        self._idle.clear()
        self._busy.clear()

    def _pool(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        return ProcessPoolExecutor(max_workers=1, timeout=IDLE_SECONDS, env=sharing(self._count))

    def _landed(self, outcome: "Future[Any]", future: Any) -> None:
        """Pass on what became of a task; called in a thread of the pool."""
        from joblib.externals.loky.process_executor import BrokenProcessPool

        pool = self._busy.pop(outcome, None)
        if pool is None:
            return  # given up
        error = future.exception()
        if isinstance(error, BrokenProcessPool):
            outcome.set_exception(WorkerLostError("its worker was killed"))
            return
        self._idle.append(pool)
        if error is None:
            outcome.set_result(future.result())
        else:
            outcome.set_exception(error)
