"""Run a function over many items in worker processes, such that one that kills its process costs that item only."""

import contextlib
import itertools
import logging
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any, Final, TypeVar

from pipeline.types import Progress

LOGGER: Final = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")

LONGEST_CHUNK: Final = 64  # a call to a worker costs about a millisecond, an image about five
WORTH_A_PROCESS: Final = 32  # images: a process takes a second to start
CHUNKS_IN_FLIGHT: Final = 2  # a worker: the one it works at and the next
IDLE_SECONDS: Final = 10  # until a worker whose parent was killed ends
UNHEARD: Final = "ignore:resource_tracker"


def each(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int | None,
    progress: Progress,
) -> list[Result | None]:
    """Call `function` on every item, in parallel.

    When a process dies, whatever was then under way is run again one by one, in a process of its own. Where the system
    gives no semaphores, as in a chroot without /dev/shm, all is run in this process, which is said.

    Parameters
    ----------
    function : callable
        Of a module that workers can import. An exception that it raises ends the run and is raised here.
    items : sequence
        What can be pickled.
    workers : int or None
        Processes; None is one for each core that this process may use, but no more than one for each `WORTH_A_PROCESS`
        items begun.
    progress : callable
        Called with (done, total) from the calling thread.

    Returns
    -------
    list
        What `function` returned for each item, in the order of the items; None where it killed its process.
    """
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    results: list[Result | None] = [None] * len(items)
    workers = workers or min(joblib.cpu_count(), max(1, -(-len(items) // WORTH_A_PROCESS)))
    waiting = deque(_chunks(len(items), workers))
    workers = min(workers, max(1, len(waiting)))
    flying: dict[Any, range] = {}
    executor = None
    done = 0
    try:
        while waiting or flying:
            finished: list[tuple[range, list[Result | None]]] = []
            try:
                with _started_deaf():
                    executor = executor or _executor(workers)
                    if executor is None:
                        return _here(function, items, progress)
                    while waiting and len(flying) < CHUNKS_IN_FLIGHT * workers:
                        chunk = waiting[0]
                        flying[executor.submit(_over, function, [items[i] for i in chunk])] = chunk
                        waiting.popleft()
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    values = future.result()
                    finished.append((flying.pop(future), values))
            except TerminatedWorkerError:
                executor = None
                suspects = list(itertools.chain.from_iterable(flying.values()))
                flying.clear()
                for i, value in zip(suspects, _alone(function, [items[i] for i in suspects]), strict=True):
                    finished.append((range(i, i + 1), [value]))
            for chunk, values in finished:
                results[chunk.start : chunk.stop] = values
                done += len(chunk)
                progress(done, len(items))
    finally:
        if executor is not None:
            executor.shutdown(kill_workers=bool(flying))
    return results


def _executor(workers: int) -> Any:
    """Return an executor of its own: joblib's reusable one is joblib's, which breaks where others have used it.

    None where the system gives no semaphores.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    # Where this process is stopped, the one that cleans up after it would complain of what it cleans up.
    sys.warnoptions.append(UNHEARD)
    try:
        return ProcessPoolExecutor(max_workers=workers, timeout=IDLE_SECONDS)
    except OSError as error:
        LOGGER.warning(
            "no worker processes, since the system gives no semaphores (%s: on Linux they need a writable /dev/shm): "
            "photos are decoded in this process, slower, and one that kills its decoder ends it",
            error.strerror,
        )
        return None
    finally:
        sys.warnoptions.remove(UNHEARD)


@contextlib.contextmanager
def _started_deaf() -> Iterator[None]:
    """Start processes that are deaf to Ctrl-C, which a terminal sends to all: this one stops them, without traces."""
    if threading.current_thread() is not threading.main_thread():  # others cannot change it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # new processes inherit it
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _chunks(count: int, workers: int) -> Iterator[range]:
    size = max(1, min(LONGEST_CHUNK, count // (4 * workers)))
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def _here(function: Callable[[Item], Result], items: Sequence[Item], progress: Progress) -> list[Result | None]:
    results: list[Result | None] = []
    for item in items:
        results.append(function(item))
        progress(len(results), len(items))
    return results


def _over(function: Callable[[Item], Result], items: list[Item]) -> list[Result]:
    return [function(item) for item in items]


def _alone(function: Callable[[Item], Result], items: list[Item]) -> Iterator[Result | None]:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    executor = None
    try:
        for item in items:
            executor = executor or _executor(1)
            try:
                yield executor.submit(function, item).result()
            except TerminatedWorkerError:
                executor.shutdown(kill_workers=True)
                executor = None
                yield None
    finally:
        if executor is not None:
            executor.shutdown(kill_workers=True)  # it has nothing to do, or this process is being stopped
