"""What Prometheus reads: requests, how long they took, and how full batches were."""

import time
from collections.abc import Collection
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from pipeline.inference.serving.limits import App, Message, Receive, Send

SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """The numbers of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "headstart_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "headstart_request_seconds",
            "From the head of a request to the end of its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.under_way = Gauge("headstart_requests_under_way", "Requests being answered.", registry=self.registry)
        self.batches = Histogram(
            "headstart_batch_images", "Images that ran at once.", buckets=SIZES, registry=self.registry
        )

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return bytes(generate_latest(self.registry))


class Measured:
    """Counts the requests of an application.

    Parameters
    ----------
    app : ASGI application
    measures : Measures
    routes : collection of str
        Beginnings of the paths that are told apart; all others count as ``other``, whatever a client makes up.
    """

    def __init__(self, app: App, measures: Measures, routes: Collection[str]) -> None:
        self._app, self._measures, self._routes = app, measures, routes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, and count it; status 499 is one whose client went away."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 499, time.monotonic()

        async def noticed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path: str = scope["path"]
        route = next((name for name in self._routes if path == name or path.startswith(f"{name}/")), "other")
        try:
            with self._measures.under_way.track_inprogress():
                await self._app(scope, receive, noticed)
        except Exception:
            status = 500 if status == 499 else status
            raise
        finally:
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
            self._measures.requests.labels(method, route, str(status)).inc()
            self._measures.seconds.labels(route).observe(time.monotonic() - started)
