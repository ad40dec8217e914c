"""Blocks of rows over threads of our own, added in their order: the bits do not depend on the number of threads."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Limit:
    """BLAS at one thread for as long as anybody is inside: the limit is the process's, and fits may run in threads."""

    def __init__(self) -> None:
        self._lock, self._inside, self._limits = threading.Lock(), 0, contextlib.ExitStack()

    def enter(self) -> None:
        from threadpoolctl import threadpool_limits

        with self._lock:
            if not self._inside:
                self._limits.enter_context(threadpool_limits(1, user_api="blas"))
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limits.close()


_limit = _Limit()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS at one thread: two that share a busy processor with others took seven times as long as one."""
    _limit.enter()
    try:
        yield
    finally:
        _limit.leave()


class Workers:
    """Threads, one a processor, that are started when first needed and end with the block."""

    def __init__(self) -> None:
        self._count = os.cpu_count() or 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._pool:
            self._pool.shutdown()

    def in_order(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result of each item in their order; only a few more items than there are threads are held."""
        if self._count == 1:
            yield from map(function, items)
            return
        self._pool = self._pool or ThreadPoolExecutor(self._count)
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(function, item))
            if len(waiting) > self._count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
