"""Requests that come at the same time run as one batch, in a thread of their own."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class _Waiting(NamedTuple, Generic[Asked, Answered]):
    ask: Asked
    answer: "Future[Answered]"


class Batcher(Generic[Asked, Answered]):
    """A queue before a function that answers several at once.

    While one batch runs, others queue, and make the next one: under load batches form by themselves. `wait` makes them
    larger at the price of that much time where there is little to do.

    Parameters
    ----------
    answer : callable
        From at most `most` asks to as many answers, in order. Only the batcher's own thread calls it.
    most : int
        Asks a batch.
    wait : float
        Seconds that a batch which is not full waits for more.
    taken : callable
        Called with the size of each batch before it runs.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Asked]], Sequence[Answered]],
        *,
        most: int,
        wait: float,
        taken: Callable[[int], object],
    ) -> None:
        self._answer, self._most, self._wait, self._taken = answer, most, wait, taken
        self._queue: queue.SimpleQueue[_Waiting[Asked, Answered] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    async def ask(self, ask: Asked) -> Answered:
        """Wait for the answer; who is cancelled meanwhile drops out of the queue, and costs no computing.

        Raises
        ------
        RuntimeError
            The batcher was closed.
        Exception
            Whatever answering the batch raised.
        """
        if self._closed:
            raise RuntimeError("the batcher is closed")
        waiting = _Waiting[Asked, Answered](ask, Future())
        self._queue.put(waiting)
        return await asyncio.wrap_future(waiting.answer)

    def close(self) -> None:
        """Answer all that is queued, and end the thread."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        going_on = True
        while going_on:
            batch, going_on = self._gathered()
            wanted = [one for one in batch if one.answer.set_running_or_notify_cancel()]
            if wanted:
                self._run(wanted)

    def _run(self, batch: Sequence[_Waiting[Asked, Answered]]) -> None:
        self._taken(len(batch))
        try:
            answers = self._answer([one.ask for one in batch])
        except Exception as error:  # noqa: BLE001  # whatever it is belongs to those who asked; the thread goes on
            for one in batch:
                one.answer.set_exception(error)
        else:
            for one, answer in zip(batch, answers, strict=True):
                one.answer.set_result(answer)

    def _gathered(self) -> tuple[list[_Waiting[Asked, Answered]], bool]:
        """Wait for a batch; tell whether there may be more."""
        first = self._queue.get()
        if first is None:
            return [], False
        batch, until = [first], time.monotonic() + self._wait
        while len(batch) < self._most:
            try:
                left = until - time.monotonic()
                one = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if one is None:
                return batch, False
            batch.append(one)
        return batch, True
