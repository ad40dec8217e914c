"""Run a trunk with TensorFlow, on a CPU or a GPU."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LEAST_BATCH: Final = 8


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Within the block, networks are built to compute in `precision`; their weights and output stay float32."""
    import keras
    import tensorflow as tf

    # A GPU would otherwise run float32 with ten bits of mantissa.
    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def computes_in(precision: str) -> bool:
    """Return whether the device computes so: a processor has no float16 arithmetic of its own. Keras has no int8."""
    import tensorflow as tf

    if precision == "float16":
        return bool(tf.config.list_physical_devices("GPU"))
    return precision != "int8"


def devices() -> list[str]:
    """Name the devices that compute: every GPU this process may use, else the processor."""
    import tensorflow as tf

    return [device.name for device in tf.config.list_logical_devices("GPU")] or ["CPU:0"]


class TensorFlowEngine:
    """A trunk compiled for batches of one size, once for each device; batches are dealt out in turn.

    On a GPU the trunk is compiled by XLA, and the next batch is copied there while one is computed.

    Parameters
    ----------
    build : callable
        Makes the trunk, a keras.Model that takes (batch_size, size, size, 3) uint8 and gives (batch_size, …) float32.
    batch_size : int
        The most images of a batch. Every batch is brought to this many, or to `LEAST_BATCH`, since a batch of one takes
        another path through the kernels and rounds differently (5e-7 of the largest value).
    devices : sequence of str
        As from `devices`.
    """

    def __init__(self, build: Callable[[], Any], *, batch_size: int, devices: Sequence[str]) -> None:
        self.batch_size = max(batch_size, LEAST_BATCH)
        self._devices = list(devices)
        compiled = [_compiled(build, device, self.batch_size) for device in devices]
        self._trunks = [trunk for trunk, _ in compiled]  # which hold the weights: a compiled function does not
        self._calls = [call for _, call in compiled]
        self.row_shape: tuple[int, ...] = tuple(self._trunks[0].output_shape[1:])

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Yield the features of each batch, in order.

        Parameters
        ----------
        batches : iterable of ndarray of shape (n, size, size, 3), uint8
            RGB; n is at most `batch_size`.

        Yields
        ------
        ndarray of shape (n, …), float32
        """
        ahead = [2 if _is_gpu(device) else 1 for device in self._devices]
        under_way: deque[Future[NDArray[np.float32]]] = deque()
        # A pool for each device: a slow one does not take the threads of the others.
        with contextlib.ExitStack() as stack:
            pools = [stack.enter_context(ThreadPoolExecutor(count)) for count in ahead]
            for place, batch in enumerate(batches):
                if len(under_way) == sum(ahead):
                    yield under_way.popleft().result()
                turn = place % len(pools)
                under_way.append(pools[turn].submit(self._features, turn, batch))
            while under_way:
                yield under_way.popleft().result()

    def _features(self, place: int, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        import tensorflow as tf

        padding = [(0, self.batch_size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
        with tf.device(self._devices[place]):
            features: NDArray[np.float32] = self._calls[place](tf.constant(np.pad(batch, padding))).numpy()
        return features[: len(batch)]


def _is_gpu(device: str) -> bool:
    return "GPU" in device


def _compiled(build: Callable[[], Any], device: str, batch_size: int) -> tuple[Any, Any]:
    """Build a trunk with its weights on a device, and compile it there for one size of batch; return both."""
    import tensorflow as tf

    with tf.device(device):
        trunk = build()
        signature = tf.TensorSpec((batch_size, *trunk.input_shape[1:]), trunk.input.dtype)
        call = tf.function(
            lambda batch: trunk(batch, training=False),
            input_signature=[signature],
            jit_compile=True if _is_gpu(device) else None,
        )
        return trunk, call.get_concrete_function()
