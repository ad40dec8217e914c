"""Run a trunk with OpenVINO, on a CPU: two to twelve times as fast as TensorFlow there, at the same features."""

import contextlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import without_telemetry
from pipeline.errors import ArtefactError, HeadstartError
from pipeline.storage import digests
from pipeline.storage.atomic import published_folder
from pipeline.storage.json_files import SHA256, TEXT, Document, maybe

HINTS: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
CAPABILITIES: Final = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}
GRAPH_FILES: Final = ("model.xml", "model.bin")
DIGESTS_FILE: Final = "digests.json"
MADE_FOR: Final = "made_for"  # in the file of digests: the folder that the graph was made for
KEPT: Final = Document(
    "the digests of a graph", "`hs.extract`", {**dict.fromkeys(GRAPH_FILES, SHA256), MADE_FOR: maybe(TEXT)}
)
# Images in one run of a graph. The maps of four stay in a core's own cache, those of 32 do not: EfficientNet-Lite0 runs
# 1.2 times as fast so at float32 and 1.3 times at bfloat16; no network of the table was seen to lose.
GRAPH_IMAGES: Final = 4
# Runs waiting behind those under way, so that no core idles until this thread brings the next one.
QUEUED: Final = 2
LIMIT: Final = "LOKY_MAX_CPU_COUNT"


def graph(build: Callable[[], Any], *, kept: Path | None) -> Any:
    """Return a trunk as an OpenVINO model: the one that was kept, or a new one, which is then kept.

    Converting takes seconds and TensorFlow; reading takes neither.

    Parameters
    ----------
    build : callable
        Makes the trunk: a keras.Model from (n, size, size, 3) uint8 to (n, …) float32.
    kept : Path or None
        A folder whose name stands for everything that shapes the graph; None keeps nothing.

    Returns
    -------
    openvino.Model
    """
    model = _read(kept) if kept else None
    if model is None:
        model = _convert(build())
        if kept:
            # A cache that is full or read-only costs seconds, not the run; OpenVINO says RuntimeError of a full disk.
            with contextlib.suppress(OSError, RuntimeError):
                _keep(model, kept)
    return model


class OpenVINOEngine:
    """A graph compiled for this processor, fed through asynchronous requests.

    Parameters
    ----------
    model : openvino.Model
        From `graph`.
    precision : {"float32", "bfloat16", "float16"}
        Of the arithmetic.
    images : int
        In one run of the graph: `GRAPH_IMAGES` for many images, 1 for one image soon; lacking ones are computed, too.

    """

    def __init__(self, model: Any, *, precision: str, images: int = GRAPH_IMAGES) -> None:
        openvino = without_telemetry.openvino()

        if images != GRAPH_IMAGES:
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
    count = joblib.cpu_count()
    return {"INFERENCE_NUM_THREADS": count, "ENABLE_CPU_PINNING": count >= _cores()}


def _cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _padded(piece: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    lacking = count - len(piece)
    return np.pad(piece, [(0, lacking), (0, 0), (0, 0), (0, 0)]) if lacking else piece


def _finished(work: tuple[Any, int, NDArray[np.uint8]]) -> NDArray[np.float32]:
    request, count, _ = work
    request.wait()
    features: NDArray[np.float32] = request.get_output_tensor().data[:count].copy()
    return features


def _convert(trunk: Any) -> Any:
    import tensorflow as tf

    signature = tf.TensorSpec((GRAPH_IMAGES, *trunk.input_shape[1:]), tf.uint8)
    call = tf.function(lambda batch: trunk(batch, training=False), input_signature=[signature])
    return converted(call.get_concrete_function())


def converted(function: Any) -> Any:
    """Return a TensorFlow function, concrete and of one output, as an openvino.Model."""
    import tensorflow as tf

    openvino = without_telemetry.openvino()
    from openvino.frontend.tensorflow import utils

    # OpenVINO looks up TensorFlow's version by `exec`, whose names Python 3.13 does not keep.
    looked_up = utils.get_environment_setup
    utils.get_environment_setup = lambda _: {"tensorflow": tf.__version__}
    try:
        model = openvino.convert_model(function)
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):  # that of a user; OpenVINO takes it for a fault of the network
            raise KeyboardInterrupt from None
        raise
    finally:
        utils.get_environment_setup = looked_up
    # Activations with a gradient of their own (swish) leave outputs behind: keep the one the function returns.
    given = function.structured_outputs
    names = {function.outputs[0].name, *(given if isinstance(given, dict) else ())}
    (returned,) = (output.get_node() for output in model.outputs if names & output.names)
    return openvino.Model([returned], model.get_parameters())


def _keep(model: Any, folder: Path) -> None:
    openvino = without_telemetry.openvino()

    with published_folder(folder) as written:
        openvino.save_model(model, written / GRAPH_FILES[0], compress_to_fp16=False)
        found = {name: digests.of_file(written / name) for name in GRAPH_FILES}
        (written / DIGESTS_FILE).write_text(json.dumps({**found, MADE_FOR: _identity(folder)}))


def _read(folder: Path) -> Any:
    """Return the graph kept in a folder; None if there is none for this folder, as it was written: others go."""
    openvino = without_telemetry.openvino()

    if not folder.exists():
        return None
    try:
        if KEPT.read(folder / DIGESTS_FILE).get(MADE_FOR) == _identity(folder) and not is_damaged(folder):
            return openvino.Core().read_model(folder / GRAPH_FILES[0])
    except (HeadstartError, OSError, RuntimeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return None


def is_damaged(folder: Path) -> bool:
    """Whether a kept graph is not as it was written, or was made for another folder. OpenVINO is not loaded.

    A graph from before folders were noted is sound by its digests, and made anew when it is wanted.
    """
    try:
        kept = KEPT.read(folder / DIGESTS_FILE)
        return kept.get(MADE_FOR) not in (None, _identity(folder)) or any(
            kept[name] != digests.of_file(folder / name) for name in GRAPH_FILES
        )
    except (ArtefactError, FileNotFoundError):
        return True


def _identity(folder: Path) -> str:
    """Return what tells one kept graph from another: the names of the trunk and of the engine with its version."""
    return f"{folder.parent.name}/{folder.name}"
