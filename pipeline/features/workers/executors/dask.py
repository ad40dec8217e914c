"""Tasks on Dask's workers, one each: those of a scheduler somewhere, or of a small cluster made here.

Dask sends a task whose worker died to another one, and after so many deaths (its setting `allowed-failures`) reports
it as a killer; that may be unjust to a task that waited behind one, so whoever asked tries again. A worker that hangs
is restarted where it has a nanny, and left alone where not.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from pipeline.errors import InputError, WorkersError

SECONDS_A_LOOK: Final = 0.5  # a worker may have joined, or another may hang
CONNECT_SECONDS: Final = 10
CLOSE_SECONDS: Final = 10
RESTART_SECONDS: Final = 60  # a busy machine takes long to start a process
LEAST_WAIT_SECONDS: Final = 60  # for a worker, while there is none
# A cluster made here tells the first death of a worker at once, so that a task that kills one is found without killing
# more, and does not look into its workers every ten milliseconds, which slows decoding down.
SETTINGS_HERE: Final = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.profile.enabled": False,
}


@dataclass(frozen=True)
class Lost:
    """A task that did not end, and why, in words."""

    reason: str


@dataclass
class _Flight:
    """A task under way: how many of its rows were stored, and since when nothing was heard of it."""

    task: Any
    since: float
    stored: int = 0


class Dask:
    """Workers of Dask.

    Parameters
    ----------
    workers : int or None
        Processes of the cluster that is made here, without a scheduler's address; None is one a core.
    scheduler : str or None
        Address of a scheduler, as ``tcp://host:8786``. It and its workers stay when the executor is closed.
    patience : float
        Seconds after which a worker that stored no row is given up.
    """

    in_process = False

    def __init__(self, workers: int | None, *, scheduler: str | None, patience: float) -> None:
        import joblib

        self.patience = patience
        self._count, self._address = workers or joblib.cpu_count(), scheduler
        self._client: Any = None
        self._cluster: Any = None
        self._hanging: set[str] = set()
        self._ended = threading.Event()

    @property
    def workers(self) -> int:
        """How many tasks can be under way now; workers may come and go."""
        longest = max(self.patience, LEAST_WAIT_SECONDS)
        deadline = time.monotonic() + longest
        while not (sound := self._sound()):
            if time.monotonic() > deadline:
                raise WorkersError(
                    f"{self._name}: expected workers, received none for {longest:g} s. What was computed is "
                    "kept: start some, and run this again"
                )
            time.sleep(0.1)
        return len(sound)

    def run(
        self,
        function: Callable[[Any], Any],
        tasks: Iterator[Any],
        *,
        stored: Callable[[Any], int],
        advance: Callable[[int], None],
    ) -> Iterator[tuple[Any, Any]]:
        """Yield each task, in the order in which they end, with what the function returned or `Lost`."""
        flying: dict[Any, _Flight] = {}
        while True:
            while len(flying) < self.workers and (task := next(tasks, None)) is not None:
                flying[self._submit(function, task)] = _Flight(task, time.monotonic())
            if not flying:
                return
            self._ended.wait(SECONDS_A_LOOK)
            self._ended.clear()
            for future in [future for future in flying if future.done()]:
                task, result = flying.pop(future).task, self._result(future)
                if not isinstance(result, Lost):
                    advance(result.computed)
                yield task, result
            yield from self._overdue(flying, stored)

    def _submit(self, function: Callable[[Any], Any], task: Any) -> Any:
        """Send a task to the workers that do not hang."""
        with self._connected() as client:
            among = sorted(self._sound()) if self._hanging else None
            future = client.submit(function, task, pure=False, workers=among)
        future.add_done_callback(lambda _: self._ended.set())
        return future

    def _result(self, future: Any) -> Any:
        """Return what became of a task that ended."""
        from distributed import KilledWorker

        if future.status == "cancelled":
            raise self._disconnected()
        error = future.exception()
        if isinstance(error, KilledWorker):
            return Lost("its worker was killed")
        if isinstance(error, ImportError) or isinstance(getattr(error, "__cause__", None), ImportError):
            expected = "expected the environment of whoever started the run on every machine"
            raise WorkersError(f"{self._name}: {expected}, received {error.__cause__ or error}")
        if error is not None:
            raise error
        with self._connected():
            return future.result()

    def _overdue(self, flying: dict[Any, _Flight], stored: Callable[[Any], int]) -> Iterator[tuple[Any, Lost]]:
        """Give up those who stored nothing for too long."""
        for future, flight in list(flying.items()):
            if time.monotonic() - flight.since < self.patience or future.done():
                continue
            before, flight.stored, flight.since = flight.stored, stored(flight.task), time.monotonic()
            if flight.stored == before:
                del flying[future]
                self._give_up(future)
                yield flight.task, Lost(f"its worker stored nothing for {self.patience:g} s")

    def _give_up(self, future: Any) -> None:
        """Take the task from its worker, which gets none any more unless its nanny starts it anew."""
        with self._connected() as client:
            hanging = [address for address, keys in client.processing().items() if future.key in keys]
            future.cancel(force=True)
        self._hanging.update(hanging)
        threading.Thread(target=self._restart, args=(client, hanging), daemon=True).start()  # it takes seconds

    def _restart(self, client: Any, hanging: list[str]) -> None:
        with contextlib.suppress(Exception):  # no nanny, one that hangs too, or closed meanwhile: it gets no task then
            restarted = client.restart_workers(hanging, timeout=RESTART_SECONDS, raise_for_error=False)
            self._hanging -= {address for address, outcome in restarted.items() if outcome == "OK"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the scheduler, and end the cluster that was made here."""
        for opened in (self._client, self._cluster):
            with contextlib.suppress(OSError):  # it was lost before
                if opened is not None:
                    opened.close(timeout=CLOSE_SECONDS)
        self._client = self._cluster = None

    @property
    def _name(self) -> str:
        return f"`scheduler={self._address!r}`" if self._address else "`executor='dask'`"

    def _sound(self) -> set[str]:
        with self._connected() as client:
            return set(client.nthreads()) - self._hanging

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Yield the client; whatever fails because its scheduler is gone is one error."""
        if self._client is None:
            self._open()
        client = self._client
        try:
            yield client
        except OSError as error:
            raise self._disconnected() from error
        if client.status != "running":
            raise self._disconnected()

    def _disconnected(self) -> WorkersError:
        return WorkersError(
            f"{self._name}: the connection is lost. What was computed is kept: run this again when the scheduler is "
            "back"
        )

    def _open(self) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise InputError("`executor='dask'`: Dask is not installed: pip install 'headstart[dask]'") from None
        if self._address is None:
            self._cluster = self._local_cluster()
        try:
            self._client = Client(self._cluster or self._address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkersError(f"{self._name}: expected a scheduler there, received no answer: {error}") from error

    def _local_cluster(self) -> Any:
        import dask
        from distributed import LocalCluster

        with dask.config.set(SETTINGS_HERE):
            return LocalCluster(
                n_workers=self._count,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                env=sharing(self._count),
            )


def sharing(workers: int) -> dict[str, str]:
    """Return the environment in which each of so many workers of this machine keeps to its share of the processors.

    TensorFlow obeys the variables of its own and not that of OpenMP; decoding and OpenVINO obey joblib's.
    """
    import joblib

    threads = str(max(1, joblib.cpu_count() // workers))
    names = ("LOKY_MAX_CPU_COUNT", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    return dict.fromkeys(names, threads)
