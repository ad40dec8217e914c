"""Engines run a trunk over batches of pixels: one call, ``uint8 batches -> features``, whatever runs it.

At float32 any two engines agree to 1e-4 of the largest feature, and which of them ran is only noted. At a lower
precision the graph and its compiler show in the values, so the engine and its version belong to the spec.
"""

import contextlib
import functools
import importlib.metadata
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.settings import EngineName, Precision
from pipeline.errors import InputError

PRECISIONS: Final = get_args(Precision)
LOG: Final = logging.getLogger(__name__)
NAMES: Final = ("tensorflow", "openvino")


class Engine(Protocol):
    """What runs a trunk.

    Attributes
    ----------
    row_shape : tuple of int
        Shape of one image's features.
    """

    row_shape: tuple[int, ...]

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield the features of each batch of shape (n, size, size, 3), in order, as (n, *row_shape).

        Several batches may be under way at once; n may be smaller than the batch size, but not larger.
        """


def choose(name: str, precision: Precision = "float32") -> EngineName:
    """Return the engine that `name` stands for: ``auto`` is OpenVINO on a CPU and TensorFlow on a GPU.

    In int8 it is OpenVINO, which alone computes so. InputError if there is no such engine, or it is not installed.
    """
    if precision == "int8":
        if name not in ("auto", "openvino"):
            raise InputError.of("engine", "openvino, which alone computes in int8", name)
        name = "openvino"
    if name == "auto":
        return "openvino" if version_of("openvino") and not _has_gpu() else "tensorflow"
    if name not in NAMES:
        raise InputError.of("engine", f"auto, {' or '.join(NAMES)}", name)
    if not version_of(name):
        raise InputError(f"`engine`: {name} is not installed here: pip install 'headstart[cpu]'")
    return cast(EngineName, name)


@functools.cache
def version_of(name: str) -> str:
    """Return the version of an installed engine, without loading it; empty if it is not installed."""
    for distribution in (name, f"{name}-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return ""


@functools.cache
def precisions(name: str) -> tuple[Precision, ...]:
    """Return in which precisions an installed engine computes on this machine, each as itself and not as another."""
    if name == "openvino":
        from pipeline.backbones.engines.openvino import computes_in
    else:
        from pipeline.backbones.engines.tensorflow import computes_in
    return tuple(precision for precision in PRECISIONS if computes_in(precision))


def require_precision(name: str, precision: Precision) -> None:
    """Raise InputError if an engine cannot compute in a precision on this machine."""
    if precision != "float32" and precision not in (known := precisions(name)):
        raise InputError(
            f"`precision`: this processor has no {precision} arithmetic for {name}: expected {' or '.join(known)}"
        )


def described(name: str) -> dict[str, str]:
    """Return what of an engine shows in features below float32: name, version, and a GPU, for which XLA compiles."""
    gpu = {"device": "GPU"} if name == "tensorflow" and _has_gpu() else {}
    return {"name": name, "version": version_of(name)} | gpu


def open_engine(
    name: str,
    build: Callable[[], Any],
    *,
    batch_size: int,
    precision: Precision,
    kept: Path | None,
    prompt: bool = False,
) -> Engine:
    """Load an engine and compile a trunk with it.

    Parameters
    ----------
    name : str
        From `choose`.
    build : callable
        Makes the trunk, a keras.Model; called once the arithmetic is set to `precision`.
    batch_size : int
        The most images of a batch; OpenVINO divides it further.
    precision : {"float32", "bfloat16", "float16", "int8"}
        Of the arithmetic; in int8 the trunk is a graph that was calibrated for it.
    kept : Path or None
        A folder, in the cache, for what an engine can keep to start faster next time; its name stands for the trunk.
    prompt : bool
        Whether one image soon matters more than many images a second.

    Raises
    ------
    InputError
        This machine lacks that precision.
    """
    require_precision(name, precision)
    started = time.monotonic()
    if name == "openvino":
        from pipeline.backbones.engines.graphs import GRAPH_IMAGES, graph
        from pipeline.backbones.engines.openvino import OpenVINOEngine

        kept = kept and kept / f"{name}-{version_of(name)}"
        model = graph(build, kept=kept)
        engine: Engine = OpenVINOEngine(model, precision=precision, images=1 if prompt else GRAPH_IMAGES)
    else:
        from pipeline.backbones.engines.tensorflow import TensorFlowEngine, computing_in, devices

        with computing_in(precision):
            engine = TensorFlowEngine(build, batch_size=batch_size, devices=devices())
    LOG.info("%s %s at %s: opened in %.1f s", name, version_of(name), precision, time.monotonic() - started)
    return engine


def _has_gpu() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))
