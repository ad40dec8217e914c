"""Sockets, clients that are slow to say what they want, and a shutdown that finishes what is under way."""

import asyncio
import contextlib
import json
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.errors import InputError
from pipeline.inference.serving.headers import SAFE_BYTES
from pipeline.inference.serving.limits import App

KEEP_ALIVE_SECONDS: Final = 5
MOST_CONNECTIONS: Final = 1000  # idle ones counted; they take memory, too
IDLE_SECONDS: Final = 1.0  # after which who asks for nothing makes room, where room is wanted
FULL_SECONDS: Final = 0.05  # between looks for room
BACKLOG: Final = 512
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def hosts(host: str) -> tuple[str, ...] | None:
    """Return the names under which a server at this address may be called: on loopback its own, else any."""
    return LOOPBACK if host in LOOPBACK else None


def serve(app: App, *, host: str, port: int, seconds: float, told: Callable[[str], object]) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP asks the process to stop; then take no more, and finish what is under way.

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
    KeyboardInterrupt
        It was SIGINT.
    """
    listening = _listening(host, port)
    config = uvicorn.Config(
        app,
        http=impatient(seconds),
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=round(seconds) + 1,
    )
    with listening:
        address = f"[{host}]" if ":" in host else host
        told(f"http://{address}:{listening.getsockname()[1]}/")
        server = Server(config, listening, most_connections())
        with _ended_by_signals(server):
            server.run()


def _listening(host: str, port: int) -> socket.socket:
    # Of a socket that does not name its protocol, asyncio leaves small packets to wait for others, 40 ms an answer.
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    listening.setblocking(False)
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
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let a stop by SIGTERM, which uvicorn raises again once it has ended, be an end like any other; SIGHUP is one.

    SIGINT is raised as KeyboardInterrupt once what was under way is finished.
    """

    def end(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(0)

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGINT: end, signal.SIGTERM: end}
    # Windows has no SIGHUP; under nohup it is ignored.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = server.handle_exit
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


class Server(uvicorn.Server):
    """A server that never holds more than so many connections: where all are taken, further ones wait to be accepted.

    Uvicorn accepts whatever comes, and when the process runs out of descriptors, asyncio says so without end.

    Parameters
    ----------
    config : uvicorn.Config
    listening : socket
        In non-blocking mode.
    most : int
        Connections.
    """

    def __init__(self, config: uvicorn.Config, listening: socket.socket, most: int) -> None:
        super().__init__(config)
        self._listening, self._most = listening, most

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets=[])
        self._accepting = asyncio.create_task(self._accept())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and finish what is under way."""
        self._accepting.cancel()
        self._listening.close()
        await super().shutdown(sockets=[])

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if len(self.server_state.connections) >= self._most:
                self._make_room()
                await asyncio.sleep(FULL_SECONDS)
                continue
            try:
                connection, _ = await loop.sock_accept(self._listening)
                await loop.connect_accepted_socket(self._protocol, connection)
            except OSError:  # whoever it was has gone again, or the system has no descriptor left
                await asyncio.sleep(FULL_SECONDS)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    def _make_room(self) -> None:
        """Hang up on those that have long been asking for nothing."""
        before = asyncio.get_running_loop().time() - IDLE_SECONDS
        for one in list(self.server_state.connections):
            if one.idle_since < before:  # type: ignore[union-attr]
                one.transport.abort()


def most_connections() -> int:
    """Return how many connections may be open at a time: half of the descriptors are left for files."""
    try:
        import resource
    except ImportError:  # Windows, whose sockets are no descriptors
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))


def impatient(seconds: float) -> type[H11Protocol]:
    """Make a protocol that hangs up on a client whose request does not begin in time, or who does not read the answer.

    Uvicorn waits for ever for the rest of a request's head, and for an answer to be taken. Bodies are watched by
    `limits.Guard`. `seconds` count from the connection, or from the end of an answer, to the end of the next request's
    head; and for what has piled up of an answer to be read.
    """

    class Impatient(H11Protocol):
        """One connection.

        Attributes
        ----------
        idle_since : float
            The loop's time at which it began to ask for nothing; infinite while a request is under way.
        """

        _patience: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None
        _since = 0.0

        @property
        def idle_since(self) -> float:
            return self._since if self.cycle is None or self.cycle.response_complete else math.inf

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            for timer in (self._patience, self._unread):
                if timer is not None:
                    timer.cancel()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._unread = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._unread is not None:
                self._unread.cancel()

        def send_400_response(self, msg: str) -> None:
            """Refuse what is no HTTP; in the middle of an answer there is nothing left to say."""
            if self.cycle is not None:  # an answer that is being made would come after this one
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            headers = [*SAFE_BYTES, (b"content-type", b"application/json"), (b"connection", b"close")]
            body = json.dumps({"error": msg}).encode()
            try:
                start = h11.Response(status_code=400, headers=headers, reason=b"Bad Request")
                for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event))
            except h11.LocalProtocolError:
                pass
            self.transport.close()

        def _wait(self) -> None:
            self._since = self.loop.time()
            if self._patience is not None:
                self._patience.cancel()
            self._patience = self.loop.call_later(seconds, self._hang_up)

        def _hang_up(self) -> None:
            """End the connection, unless a request is under way; to close it would wait for what is unread."""
            if self.idle_since < math.inf:
                self.transport.abort()

    return Impatient
