"""The packages that serving needs beyond those of the project."""

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
