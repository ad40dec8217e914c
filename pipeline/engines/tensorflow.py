"""Run a trunk with TensorFlow, on a CPU or a GPU."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import frameworks
from pipeline.errors import InputError

LEAST_BATCH: Final = 8


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Within the block, networks are built to compute in `precision`; their weights and output stay float32.

    Raises
    ------
    InputError
        A CPU has no float16 arithmetic of its own.
    """
    tf = frameworks.tensorflow()
    import keras

    # A GPU would otherwise run float32 with ten bits of mantissa.
    tf.config.experimental.enable_tensor_float_32_execution(enabled=False)
    if precision == "float16" and not tf.config.list_physical_devices("GPU"):
        raise InputError("--precision: this processor has no float16 arithmetic and would run another")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class TensorFlowEngine:
    """A trunk compiled for batches of one size.

    Parameters
    ----------
    trunk : keras.Model
        Takes (batch_size, size, size, 3) uint8, gives (batch_size, …) float32.
    batch_size : int
        The most images of a batch. Every batch is brought to this many, or to `LEAST_BATCH`, since a batch of one takes
        another path through the kernels and rounds differently (5e-7 of the largest value).
    """

    def __init__(self, trunk: Any, *, batch_size: int) -> None:
        tf = frameworks.tensorflow()
        self.row_shape: tuple[int, ...] = tuple(trunk.output_shape[1:])
        self.batch_size = max(batch_size, LEAST_BATCH)
        signature = tf.TensorSpec((self.batch_size, *trunk.input_shape[1:]), tf.uint8)
        self._call = tf.function(lambda batch: trunk(batch, training=False), input_signature=[signature])

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
        for batch in batches:
            padding = [(0, self.batch_size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
            features: NDArray[np.float32] = self._call(np.pad(batch, padding)).numpy()
            yield features[: len(batch)]
