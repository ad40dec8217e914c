"""Where the cache is; what libraries keep there instead of below the home folder; and what they leave."""

import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, Final

KERAS: Final = "KERAS_HOME"
HOMES: Final = {"keras": KERAS, "matplotlib": "MPLCONFIGDIR"}
# Whose import takes what is of no use here: for Keras' plots and wrappers a third of its time; more than half for the
# converter of OpenVINO, which is imported where it is used.
EXTRAS: Final = (("keras.", "matplotlib"), ("keras.", "sklearn"), ("openvino", "openvino.tools.ovc"))


def default_cache(start: Path | None = None) -> Path:
    """Return ``$HEADSTART_CACHE``, else ``.headstart`` in the main checkout around `start`, the current folder.

    The temporary checkouts of DVC experiments lie inside the main one (``.dvc/tmp/exps/…``), so the outermost folder
    with a ``.dvc`` in it is meant. Without one it is `start` itself.
    """
    named = os.environ.get("HEADSTART_CACHE")
    if named:
        return Path(named)
    start = (start or Path.cwd()).resolve()
    checkouts = [folder for folder in (start, *start.parents) if (folder / ".dvc").is_dir()]
    return (checkouts[-1] if checkouts else start) / ".headstart"


def keep_libraries_quiet() -> None:
    """Let Keras keep its downloads, and matplotlib its fonts, in the cache; let onnxruntime send and note nothing.

    It takes effect before they are imported, and in processes that this one starts. A folder that a user names for
    them stays. TensorFlow imports urllib3, which would open a socket to see whether there is IPv6. Keras and OpenVINO
    would import what is of no use here.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    for kind in (_WithoutSocket, _WithoutExtras):
        if not any(isinstance(finder, kind) for finder in sys.meta_path):
            sys.meta_path.insert(0, kind())
    with contextlib.suppress(OSError):  # the current folder is gone: whoever needs it says so
        for module, variable in HOMES.items():
            if module not in sys.modules:
                os.environ.setdefault(variable, str((default_cache() / module).absolute()))


class _WithoutSocket:
    """Imports one module of urllib3 such that it opens no socket; it takes this machine's word for having IPv6."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        found = PathFinder.find_spec(name, path) if name == "urllib3.util.connection" else None
        if found is None or found.loader is None:
            return None
        run = found.loader.exec_module

        def quietly(module: Any) -> None:
            has, socket.has_ipv6 = socket.has_ipv6, False
            try:
                run(module)
            finally:
                socket.has_ipv6 = has
            module.HAS_IPV6 = has

        found.loader.exec_module = quietly  # type: ignore[method-assign]
        return found


class _WithoutExtras:
    """Tells Keras and OpenVINO that their extras are not installed; whoever else imports one finds it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if any(name == extra for _, extra in EXTRAS):
            frame = sys._getframe(1)
            while frame.f_back and "importlib" in frame.f_globals.get("__name__", ""):
                frame = frame.f_back
            importer = frame.f_globals.get("__name__", "")
            if any(importer.startswith(owner) and name == extra for owner, extra in EXTRAS):
                raise ModuleNotFoundError(f"{name} is left out of {importer} here", name=name)
