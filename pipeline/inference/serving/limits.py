"""What a request may take: bytes, a place among those at once, and time. Beyond it, an answer that says so."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import HTTPException
from fastapi.responses import JSONResponse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

RETRY_SECONDS: Final = 1  # after which one of those at once has mostly ended


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a request that is answered by the network may take.

    Attributes
    ----------
    body_bytes : int
        Of its body.
    instances : int
        Images of one request.
    at_once : int
        Requests under way; further ones are sent away with status 429.
    seconds : float
        From its first byte to its answer: a body that takes longer ends with 408, an answer with 504.
    """

    body_bytes: int
    instances: int
    at_once: int
    seconds: float


class Guard:
    """Holds POST requests to the limits, whatever route they are for.

    Parameters
    ----------
    app : ASGI application
    limits : Limits
    """

    def __init__(self, app: App, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._under_way = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._limits.at_once:
            await refused(429, f"expected at most {self._limits.at_once} requests at once")(scope, receive, send)
            return
        announced = _announced(scope["headers"])
        if announced is not None and announced > self._limits.body_bytes:
            await refused(413, self._too_large(f"{announced:,}"))(scope, receive, send)
            return
        self._under_way += 1
        try:
            await self._in_time(scope, receive, send)
        finally:
            self._under_way -= 1

    async def _in_time(self, scope: Any, receive: Receive, send: Send) -> None:
        received, complete = 0, False

        async def counted() -> Message:
            nonlocal received, complete
            message = await receive()
            received += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if received > self._limits.body_bytes:
                raise HTTPException(413, self._too_large("more"))
            return message

        async def noticed(message: Message) -> None:
            clock.reschedule(None)  # the protocol watches how an answer is read
            await send(message)

        try:
            async with asyncio.timeout(self._limits.seconds) as clock:
                await self._app(scope, counted, noticed)
        except TimeoutError:
            if not clock.expired():
                raise
            if complete:
                text = f"no answer within {self._limits.seconds:g} seconds"
                await refused(504, text)(scope, receive, send)
            else:
                text = (
                    f"expected the whole request within {self._limits.seconds:g} seconds, received {received:,} bytes"
                )
                await refused(408, text)(scope, receive, send)

    def _too_large(self, received: str) -> str:
        return f"expected at most {self._limits.body_bytes:,} bytes, received {received}"


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the length that a request announces, if it does."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def refused(status: int, text: str, *, close: bool = False) -> JSONResponse:
    """Return an answer that says why there is no other; with `close`, or where the body is too much, the last one."""
    headers = {"Retry-After": str(RETRY_SECONDS)} if status in (429, 503) else {}
    if close or status in (408, 413, 429):
        headers["Connection"] = "close"  # the rest of the request is not worth waiting for
    return JSONResponse({"error": text}, status, headers)
