"""Run a trunk with OpenVINO, on a CPU: two to twelve times as fast as TensorFlow there, at the same features."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import without_telemetry
from pipeline.backbones.engines.graphs import GRAPH_IMAGES

# What a graph in int8 leaves in floating point stays float32, so that machines differ as little as they can.
HINTS: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}
CAPABILITIES: Final = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16", "int8": "INT8"}
# Runs waiting behind those under way, so that no core idles until this thread brings the next one.
QUEUED: Final = 2
LIMIT: Final = "LOKY_MAX_CPU_COUNT"


class OpenVINOEngine:
    """A graph compiled for this processor, fed through asynchronous requests.

    Parameters
    ----------
    model : openvino.Model
        From `pipeline.backbones.engines.graphs.graph`.
    precision : {"float32", "bfloat16", "float16", "int8"}
        Of the arithmetic; int8 is for a graph from `pipeline.backbones.engines.int8`.
    images : int
        In one run of the graph, at most: `GRAPH_IMAGES` for many images, 1 for one image soon; lacking ones are
        computed, too. A graph that was made for one image takes no more.

    """

    def __init__(self, model: Any, *, precision: str, images: int = GRAPH_IMAGES) -> None:
        openvino = without_telemetry.openvino()

        images = min(images, int(model.input(0).shape[0]))
        if images != model.input(0).shape[0]:
            model.reshape([images, *(int(side) for side in model.input(0).shape[1:])])
        self._images = images
        self.row_shape: tuple[int, ...] = tuple(int(side) for side in model.output(0).shape[1:])
        # Left to itself the plugin runs bfloat16 wherever the processor has it.
        hints = {"INFERENCE_PRECISION_HINT": HINTS[precision], "PERFORMANCE_HINT": "THROUGHPUT", **_threads()}
        compiled = openvino.Core().compile_model(model, "CPU", hints)
        count = QUEUED + compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(count)]

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield the features of each batch, in order, while the next ones are under way.

        Parameters
        ----------
        batches : iterable of ndarray of shape (n, size, size, 3), uint8
            RGB.

        Yields
        ------
        ndarray of shape (n, …), float32
        """
        lengths: deque[int] = deque()

        def pieces() -> Iterator[NDArray[np.uint8]]:
            for batch in batches:
                lengths.append(len(batch))
                yield from (batch[start : start + self._images] for start in range(0, len(batch), self._images))

        parts: list[NDArray[np.float32]] = []
        for features in self._stream(pieces()):
            parts.append(features)
            if sum(map(len, parts)) == lengths[0]:
                lengths.popleft()
                yield np.concatenate(parts)
                parts = []

    def _stream(self, pieces: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        idle = list(self._requests)
        busy: deque[tuple[Any, int, NDArray[np.uint8]]] = deque()  # (request, images in it, its pixels), oldest first
        try:
            for piece in pieces:
                request, pixels = idle.pop(), _padded(piece, self._images)
                request.start_async([pixels], share_inputs=True)
                busy.append((request, len(piece), pixels))
                if not idle:
                    yield _finished(busy[0])
                    idle.append(busy.popleft()[0])
            yield from map(_finished, busy)
        finally:
            for request, *_ in busy:
                request.wait()


def computes_in(precision: str) -> bool:
    """Return whether OpenVINO says that this processor computes so, and then does.

    Where a variable or a virtual machine hides instructions, OpenVINO may list a precision that it cannot compile.
    """
    if CAPABILITIES[precision] not in capabilities():
        return False
    openvino = without_telemetry.openvino()
    from openvino import opset8 as operations

    pixels = operations.parameter([1, 8, 8, 8], np.float32)
    kernel, matrix = (operations.constant(np.ones(shape, np.float32)) for shape in ((8, 8, 3, 3), (8, 8)))
    maps = operations.convolution(pixels, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
    graph = openvino.Model([operations.matmul(operations.swish(maps), matrix, False, False)], [pixels])
    try:
        openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[precision]})
    except RuntimeError:
        return False
    return True


def capabilities() -> list[str]:
    """Return what OpenVINO says that this processor can do; without the precision it would run another in its place."""
    return list(without_telemetry.openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _threads() -> dict[str, object]:
    """Return how many threads to use where that is limited, by the variable that limits decoding, too.

    Threads are pinned to cores by default, in each process to the first ones: workers with a share of the cores each
    would all take the same.
    """
    if not os.environ.get(LIMIT):
        return {}
    import joblib

    count = joblib.cpu_count()
    return {"INFERENCE_NUM_THREADS": count, "ENABLE_CPU_PINNING": count >= cores()}


def cores() -> int:
    """Count the cores this process may run on, fewer than there are inside a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _padded(piece: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    lacking = count - len(piece)
    return np.pad(piece, [(0, lacking), (0, 0), (0, 0), (0, 0)]) if lacking else piece


def _finished(work: tuple[Any, int, NDArray[np.uint8]]) -> NDArray[np.float32]:
    request, count, _ = work
    request.wait()
    features: NDArray[np.float32] = request.get_output_tensor().data[:count].copy()
    return features
