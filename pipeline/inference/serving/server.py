"""Sockets, clients that are slow to say what they want, and a shutdown that finishes what is under way."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import InputError
from pipeline.inference.serving.limits import App

KEEP_ALIVE_SECONDS: Final = 5
MOST_CONNECTIONS: Final = 1000  # idle ones counted; they take memory, too
BACKLOG: Final = 512
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def hosts(host: str) -> tuple[str, ...] | None:
    """Return the names under which a server at this address may be called: on loopback its own, else any."""
    return LOOPBACK if host in LOOPBACK else None


def serve(app: App, *, host: str, port: int, seconds: float, told: Callable[[str], object]) -> None:
    """Serve until the process is asked to stop (SIGINT or SIGTERM); then take no more, and finish what is under way.

    Parameters
    ----------
    app : ASGI application
    host : str
        The address to listen on.
    port : int
        0 is any that is free.
    seconds : float
        That the head of a request may take to arrive, and what is under way at the end to be finished.
    told : callable
        Called with the address of the page, once requests are taken.

    Raises
    ------
    InputError
        The address cannot be listened on.
    """
    listening = _listening(host, port)
    config = uvicorn.Config(
        app,
        http=impatient(seconds),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(seconds) + 1,
        limit_concurrency=MOST_CONNECTIONS,
    )
    with listening, _ended_by_signals():
        address = f"[{host}]" if ":" in host else host
        told(f"http://{address}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    # Of a socket that does not name its protocol, asyncio leaves small packets to wait for others, 40 ms an answer.
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise InputError(
            f"`host`, `port`: expected an address to listen on, received {host}, {port}: {error}"
        ) from error
    return listening


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let a stop by SIGINT or SIGTERM, which uvicorn raises again once it has ended, be an end like any other."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(0)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def impatient(seconds: float) -> type[H11Protocol]:
    """Make a protocol that hangs up on a client whose request does not begin in time.

    Uvicorn waits for ever for the rest of a request's head. Bodies are watched by `limits.Guard`.

    Parameters
    ----------
    seconds : float
        From the connection, or from the end of an answer, to the end of the next request's head.
    """

    class Impatient(H11Protocol):
        """One connection."""

        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._patience is not None:
                self._patience.cancel()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def _wait(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
            self._patience = self.loop.call_later(seconds, self._hang_up, self.cycle)

        def _hang_up(self, cycle: object) -> None:
            """Close, unless another request has begun meanwhile."""
            if self.cycle is cycle and not self.transport.is_closing():
                self.transport.close()

    return Impatient
