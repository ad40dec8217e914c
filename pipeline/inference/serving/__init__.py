"""Serving: a trained head or model behind HTTP, with a page to try it on.

::

    service     what is asked of the network, and answered: the part that knows nothing of HTTP
    batching    requests that come at the same time run as one batch
    limits      bytes, requests at once, and time: what a request may take
    protocol    the forms of requests and responses
    measuring   what Prometheus reads
    app         the routes
    server      sockets, slow clients, and a shutdown that finishes what is under way
    page/       the page: HTML, CSS and JavaScript of our own, nothing from elsewhere
"""

import importlib.util
from typing import Final

from pipeline.errors import InputError

NEEDED: Final = {
    "fastapi": "FastAPI",
    "uvicorn": "Uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}


def require_installed() -> None:
    """Raise InputError if a package that serves is not installed; name it, and the extra that brings it."""
    missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(f"serve: expected {', '.join(missing)} to be installed: pip install 'headstart[serve]'")
