"""What every route works with: the service, its batches, its limits and its counts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import joblib
from fastapi import FastAPI, HTTPException

from pipeline.errors import ImageError
from pipeline.inference.serving.batching import Batcher
from pipeline.inference.serving.limits import RETRY_SECONDS, Limits
from pipeline.inference.serving.model_service import Answer, Answering, Ask
from pipeline.inference.serving.prometheus import Measures

Done = TypeVar("Done")


class ServerState:
    """Where requests meet the service: decoding in threads, answers in batches.

    Parameters
    ----------
    service : Answering
    limits : Limits
    batch_size : int
        The most images that run at once.
    batch_wait : float
        Seconds that a batch which is not full waits for more.

    Attributes
    ----------
    measures : Measures
    ready : bool
        Whether requests are answered: not before the start, and not once the server stops.
    """

    def __init__(self, service: Answering, limits: Limits, *, batch_size: int, batch_wait: float) -> None:
        self.service, self.limits = service, limits
        self.measures = Measures()
        self.ready = False
        self._batch_size, self._batch_wait = batch_size, batch_wait

    @contextlib.asynccontextmanager
    async def opened(self, app: FastAPI) -> AsyncIterator[None]:
        """Be ready for as long as the block runs; at its end, answer what is still queued."""
        self._pool = ThreadPoolExecutor(joblib.cpu_count(), "decoding")
        self._batcher = Batcher[Ask, Answer](
            self.service.answer, most=self._batch_size, wait=self._batch_wait, taken=self.measures.batches.observe
        )
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            await asyncio.to_thread(self._batcher.close)
            self._pool.shutdown(cancel_futures=True)

    async def in_thread(self, call: Callable[..., Done], *arguments: Any) -> Done:
        """Run something that decodes or encodes, in one of as many threads as there are processors."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)

    async def answer(self, data: bytes, named: str, **wanted: Any) -> Answer:
        """Decode a file and answer for it; `wanted` as in `Ask`.

        Raises
        ------
        HTTPException
            400 with the reason, if it is no image that can be used; 503, if the server is stopping.
        """
        if not self.ready:
            raise HTTPException(503, "the server is stopping", {"Retry-After": str(RETRY_SECONDS)})
        try:
            pixels = await self.in_thread(self.service.fit, data)
        except ImageError as error:
            raise HTTPException(400, f"{named}: {error}") from error
        return await self._batcher.ask(Ask(pixels, **wanted))
