"""Tasks on Dask's workers, through its own futures: those of a scheduler somewhere, or of a small cluster made here.

Dask sends a task whose worker died to another one, and after so many deaths (its setting `allowed-failures`) reports
it as a killer; that may be unjust to a task that waited behind one, so whoever asked tries again. A worker that hangs
is restarted where it has a nanny, and left alone where not.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final

from pipeline.errors import InputError, WorkersError
from pipeline.features.workers.executors.crew import Crew, WorkerLostError, processors, sharing

CONNECT_SECONDS: Final = 10
RESTART_SECONDS: Final = 10
LEAST_WAIT_SECONDS: Final = 60  # for a worker, while there is none
# A cluster made here tells the first death of a worker at once, so that a task that kills one is found without killing
# more, and does not look into its workers every ten milliseconds, which slows decoding down.
SETTINGS_HERE: Final = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.worker.profile.enabled": False,
}


class Dask(Crew):
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

    def __init__(self, workers: int | None, *, scheduler: str | None, patience: float) -> None:
        super().__init__(patience=patience)
        self._count, self._address = workers or processors(), scheduler
        self._opened: Any = None
        self._cluster: Any = None
        self._hanging: set[str] = set()
        self._remote: dict[Future[Any], Any] = {}

    @property
    def workers(self) -> int:
        """How many there are now; they may come and go."""
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

    def submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        """Send a task to the workers that do not hang."""
        with self._connected() as client:
            among = sorted(self._sound()) if self._hanging else None
            remote = client.submit(function, task, pure=False, workers=among)
        outcome: Future[Any] = Future()
        self._remote[outcome] = remote
        remote.add_done_callback(lambda future: self._landed(outcome, future))
        return outcome

    def give_up(self, future: "Future[Any]") -> None:
        """Take the task from its worker, which gets none any more unless its nanny starts it anew."""
        remote = self._remote.pop(future, None)
        if remote is None:
            return
        with self._connected() as client:
            hanging = [address for address, keys in client.processing().items() if remote.key in keys]
            remote.cancel(force=True)
        self._hanging.update(hanging)
        threading.Thread(target=self._restart, args=(client, hanging), daemon=True).start()  # it takes seconds

    def _restart(self, client: Any, hanging: list[str]) -> None:
        with contextlib.suppress(Exception):  # no nanny, one that hangs too, or closed meanwhile: it gets no task then
            restarted = client.restart_workers(hanging, timeout=RESTART_SECONDS, raise_for_error=False)
            self._hanging -= {address for address, outcome in restarted.items() if outcome == "OK"}

    def close(self) -> None:
        """Leave the scheduler, and end the cluster that was made here."""
        for opened in (self._opened, self._cluster):
            with contextlib.suppress(OSError):  # it was lost before
                if opened is not None:
                    opened.close(timeout=RESTART_SECONDS)
        self._opened = self._cluster = None

    @property
    def _name(self) -> str:
        return f"--scheduler {self._address}" if self._address else "--executor dask"

    def _sound(self) -> set[str]:
        with self._connected() as client:
            return set(client.nthreads()) - self._hanging

    def _client(self) -> Any:
        if self._opened is None:
            try:
                from distributed import Client
            except ImportError:
                raise InputError("--executor dask: Dask is not installed: pip install 'headstart[dask]'") from None
            logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it would tell is told here
            if self._address is None:
                self._cluster = self._local_cluster()
            try:
                self._opened = Client(self._cluster or self._address, timeout=CONNECT_SECONDS, set_as_default=False)
            except (OSError, ValueError) as error:
                raise WorkersError(f"{self._name}: expected a scheduler there, received no answer: {error}") from error
        return self._opened

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

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Yield the client; whatever fails because its scheduler is gone is one error."""
        client = self._client()
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

    def _landed(self, outcome: "Future[Any]", future: Any) -> None:
        """Pass on what became of a task; called in a thread of Dask's."""
        from distributed import KilledWorker

        if self._remote.pop(outcome, None) is None:
            return  # given up
        if future.status == "cancelled":
            outcome.set_exception(self._disconnected())
            return
        error = future.exception()
        if isinstance(error, KilledWorker):
            outcome.set_exception(WorkerLostError("its worker was killed"))
        elif isinstance(error, ImportError) or isinstance(getattr(error, "__cause__", None), ImportError):
            expected = "expected the environment of whoever started the run on every machine"
            outcome.set_exception(WorkersError(f"{self._name}: {expected}, received {error.__cause__ or error}"))
        elif error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(future.result())
