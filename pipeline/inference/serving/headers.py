"""Headers: what a request's must be, and what those of every answer say."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from pipeline.inference.serving.limits import App, Message, Receive, Send, refused

HOST: Final = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::\d{0,5})?")
# A browser takes no answer for anything but what it says it is, and gives none to another site's page.
SAFE: Final = {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
SAFE_BYTES: Final = [(name.lower().encode(), value.encode()) for name, value in SAFE.items()]


class Headers:
    """Refuses requests that could be taken in two ways or call the server by another name, and marks every answer.

    A page from elsewhere could reach a server on its reader's machine by letting its own name lead there.

    Parameters
    ----------
    app : ASGI application
    hosts : collection of str or None
        Names without ports; an IPv6 address without brackets. None is any.
    """

    def __init__(self, app: App, hosts: Collection[str] | None) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message.get("headers", [])
                named = {name.lower() for name, _ in given}
                message["headers"] = [*given, *(one for one in SAFE_BYTES if one[0] not in named)]
            await send(message)

        headers = dict(scope["headers"])
        # What stands between client and server may go by the other of the two, and see another request in the body.
        if b"transfer-encoding" in headers and b"content-length" in headers:
            text = "expected Content-Length or Transfer-Encoding, received both"
            await refused(400, text, close=True)(scope, receive, marked)
        elif (unknown := self._unknown(headers)) is not None:
            expected = ", ".join(sorted(self._hosts or ()))
            await refused(421, f"Host: expected {expected}, received {unknown!r}")(scope, receive, marked)
        else:
            await self._app(scope, receive, marked)

    def _unknown(self, headers: Mapping[bytes, bytes]) -> str | None:
        """Return the name that a request calls the server by if it is none of the server's."""
        if self._hosts is None:
            return None
        called = headers.get(b"host", b"").decode("latin-1")
        host = HOST.fullmatch(called)
        return None if host and (host["ipv6"] or host["name"]).lower() in self._hosts else called
