"""Run a trunk with TensorFlow, on a CPU or a GPU."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import frameworks


class TensorFlowEngine:
    """A trunk compiled for batches of one size.

    Parameters
    ----------
    trunk : keras.Model
        Takes (batch_size, size, size, 3) uint8, gives (batch_size, …) float32.
    batch_size : int
        Every batch is brought to this many images, since a batch of another size takes another path through the
        kernels and rounds differently (a batch of one: 5e-7 of the largest value).
    """

    name = "tensorflow"

    def __init__(self, trunk: Any, *, batch_size: int) -> None:
        tf = frameworks.tensorflow()
        self.version: str = tf.__version__
        self.row_shape: tuple[int, ...] = tuple(trunk.output_shape[1:])
        self.batch_size = batch_size
        signature = tf.TensorSpec((batch_size, *trunk.input_shape[1:]), tf.uint8)
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
