"""Let a process of its own build a network where Keras runs on OpenVINO: it starts in half of TensorFlow's time.

Keras chooses what it computes with when it is imported, once for a process. So the caller's process keeps its choice,
its variables and its memory. The network is for its layers and weights: run there, it would be slow (ADR 25).
"""

import importlib.util
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pipeline.backbones import without_telemetry

LOG: Final = logging.getLogger(__name__)
# What the process runs: the folders that its parent imports from, then the work.
PROGRAM: Final = "import pickle, sys; sys.path[:], work = pickle.load(sys.stdin.buffer); pickle.loads(work)()"
# What Keras imports where it is there, for plots, wrappers and callbacks: half of the time that its import takes. The
# last opens a socket, to see whether there is IPv6.
UNUSED: Final = ("matplotlib", "sklearn", "requests")


class CannotBuildError(Exception):
    """Keras cannot do this on OpenVINO, or the process was lost."""


def call(work: Callable[[], Any]) -> Any:
    """Call a function in a new process, and return what it returns; pickle must take both.

    CannotBuildError if it raised an error, or the process ended without an answer. Done here, it may work: a base that
    the caller put into the table is not in that of the new process.
    """
    child = subprocess.run(  # noqa: S603  (what it runs is this program and `work`)
        [sys.executable, "-P", "-c", PROGRAM],
        input=pickle.dumps((sys.path, pickle.dumps(partial(_answer, work)))),
        capture_output=True,
        env={**os.environ, "KERAS_BACKEND": "openvino"},
        check=False,
    )
    if child.returncode:
        reason = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        LOG.info("Keras cannot build this network on OpenVINO (%s): TensorFlow builds it", reason)
        raise CannotBuildError(reason)
    return pickle.loads(child.stdout)  # noqa: S301  (from the process that was just started)


def _answer(work: Callable[[], Any]) -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.modules.update(dict.fromkeys(UNUSED))  # type: ignore[arg-type]  # None makes an import fail
    _import_when_used("scipy.signal")
    without_telemetry.openvino()
    with answers:
        pickle.dump(work(), answers)


def _import_when_used(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec and spec.loader:
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
