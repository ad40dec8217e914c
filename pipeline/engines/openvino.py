"""Run a trunk with OpenVINO, on a CPU: two to twelve times as fast as TensorFlow there, at the same features."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import frameworks
from pipeline.errors import InputError

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class OpenVINOEngine:
    """A trunk converted and compiled for batches of one size, fed through an asynchronous queue.

    Parameters
    ----------
    trunk : keras.Model
        Takes (batch_size, size, size, 3) uint8, gives (batch_size, …) float32.
    batch_size : int
        Every batch is brought to this many images.
    precision : {"float32", "bfloat16", "float16"}
        Of the arithmetic.

    Raises
    ------
    InputError
        This processor would silently run the precision as another.
    """

    name = "openvino"

    def __init__(self, trunk: Any, *, batch_size: int, precision: str) -> None:
        import openvino

        tf = frameworks.tensorflow()
        self.version: str = openvino.__version__.split("-")[0]
        self.row_shape: tuple[int, ...] = tuple(trunk.output_shape[1:])
        self.batch_size = batch_size
        core = openvino.Core()
        _require(precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        signature = tf.TensorSpec((batch_size, *trunk.input_shape[1:]), tf.uint8)
        call = tf.function(lambda batch: trunk(batch, training=False), input_signature=[signature])
        model = openvino.convert_model(call.get_concrete_function())
        model.reshape([batch_size, *trunk.input_shape[1:]])
        # Left to itself the plugin runs bfloat16 wherever the processor has it.
        hints = {"INFERENCE_PRECISION_HINT": PRECISIONS[precision], "PERFORMANCE_HINT": "THROUGHPUT"}
        compiled = core.compile_model(model, "CPU", hints)
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(count)]

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield the features of each batch, in order, while the next ones are under way.

        Parameters
        ----------
        batches : iterable of ndarray of shape (n, size, size, 3), uint8
            RGB; n is at most `batch_size`.

        Yields
        ------
        ndarray of shape (n, …), float32
        """
        idle = list(self._requests)
        busy: deque[tuple[Any, int]] = deque()  # (request, images in it), oldest first
        for batch in batches:
            request = idle.pop()
            padding = [(0, self.batch_size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
            request.start_async([np.pad(batch, padding)])
            busy.append((request, len(batch)))
            if not idle:
                yield _finished(busy[0])
                idle.append(busy.popleft()[0])
        yield from map(_finished, busy)


def _finished(work: tuple[Any, int]) -> NDArray[np.float32]:
    request, count = work
    request.wait()
    features: NDArray[np.float32] = request.get_output_tensor().data[:count].copy()
    return features


def _require(precision: str, capabilities: list[str]) -> None:
    needed = {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}[precision]
    if needed not in capabilities:
        raise InputError(f"--precision: this processor has no {precision} arithmetic and would run another")
