"""One graph from image to calibrated probabilities, as Keras takes it and as TensorFlow and the converters do."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pipeline.backbones import layer_graph, tails
from pipeline.export import in_graph_resizing
from pipeline.export.in_graph_decoding import decoded
from pipeline.models.model import Model

PIXELS: Final = "pixels"
IMAGE_BYTES: Final = "image_bytes"
PROBABILITIES: Final = "probabilities"


class Graph:
    """A model's network with its resize in front, and the functions that exporters trace.

    Parameters
    ----------
    model : Model
        Read already.

    Attributes
    ----------
    network : keras.Model
        From uint8 (B, size, size, 3) to float32 (B, K).
    policy : resizing.Policy
        How an image becomes the square that the network sees.
    """

    def __init__(self, model: Model) -> None:
        import tensorflow as tf

        self._tf = tf
        self.policy = in_graph_resizing.policy_of(model.spec)
        self.network = model.network()
        self._traces: dict[str, Any] = {}

    def functional(self) -> Any:
        """Return all of it as a Keras model of plain layers: uint8 (B, H, W, 3), of any size, to float32 (B, K)."""
        from keras import Input, Model, ops

        entering = Input((None, None, 3), dtype="uint8", name=PIXELS)
        squares = ops.cast(in_graph_resizing.resized(entering, self.policy, in_graph_resizing.both), "uint8")
        front = Model(entering, squares)
        # Automatic names depend on what the process built before, and could be those of layers of the base.
        for place, node in enumerate(layer_graph.nodes(front)):
            if not node.is_input:
                node.operation.name = f"resize_{place}_{type(node.operation).__name__.lower()}"
        pixels = Input((None, None, 3), dtype="uint8", name=PIXELS)
        return Model(pixels, tails.replayed(self.network, tails.replayed(front, pixels)), name="headstart")

    def of_pixels(self, *, branches: bool) -> Any:
        """Return a concrete function from uint8 (n, H, W, 3), of any size, to {"probabilities": (n, K)}.

        Parameters
        ----------
        branches : bool
            Whether the order of the resize may be a branch. OpenVINO 2026.4 gives wrong probabilities in the first call
            with another number of images if there is one, and rightly any later.
        """
        choose, name = (self._one, "branches") if branches else (self._shortened, "no branches")
        if name not in self._traces:
            signature = self._tf.TensorSpec((None, None, None, 3), self._tf.uint8, name=PIXELS)
            self._traces[name] = self._traced(lambda pixels: self._judged(self._squares(pixels, choose)), signature)
        return self._traces[name]

    def of_squares(self) -> Any:
        """Return the same for uint8 (n, size, size, 3), without the resize."""
        signature = self._tf.TensorSpec((None, *self.network.input_shape[1:]), self._tf.uint8, name=PIXELS)
        return self._traced(self._judged, signature)

    def of_one_or_more(self) -> Any:
        """Return a function from uint8 (H, W, 3) or (n, H, W, 3), of any size, to {"probabilities": (n, K)}."""
        tf = self._tf

        def call(pixels: Any) -> dict[str, Any]:
            batch = tf.reshape(pixels, tf.concat([[-1], tf.shape(pixels)[-3:]], axis=0))
            batch.set_shape((None, None, None, 3))
            return self._judged(self._squares(batch))

        return self._traced(call, tf.TensorSpec(None, tf.uint8, name=PIXELS))

    def of_files(self) -> Any:
        """Return a function from encoded JPEG or PNG, strings (n,), to {"probabilities": (n, K)}."""
        tf, size = self._tf, self.policy.size

        def square(data: Any) -> Any:
            return self._squares(decoded(data, size)[None])[0]

        def call(image_bytes: Any) -> dict[str, Any]:
            squares = tf.map_fn(square, image_bytes, fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8))
            return self._judged(squares)

        return self._traced(call, tf.TensorSpec((None,), tf.string, name=IMAGE_BYTES))

    def operations(self) -> list[tuple[str, str]]:
        """List what TensorFlow makes of it: (name, kind) of each operation; a name begins with that of its layer."""
        return [(step.name, step.type) for step in self.of_squares().graph.get_operations()]

    def module(self) -> Any:
        """Return a tf.Module that owns the weights, so that what is saved with it has them."""
        module = self._tf.Module()
        module.weights = [variable.value for variable in self.network.variables]
        return module

    def _squares(self, pixels: Any, choose: in_graph_resizing.Choose | None = None) -> Any:
        return self._tf.cast(in_graph_resizing.resized(pixels, self.policy, choose or self._one), self._tf.uint8)

    def _one(
        self, condition: Any, planes: Any, if_true: in_graph_resizing.Order, if_false: in_graph_resizing.Order
    ) -> Any:
        return self._tf.cond(condition[0, 0], lambda: if_true(planes), lambda: if_false(planes))

    def _shortened(
        self, condition: Any, planes: Any, if_true: in_graph_resizing.Order, if_false: in_graph_resizing.Order
    ) -> Any:
        """Compute both, but the one that is not wanted on a single row or column of the image."""
        tf = self._tf
        wanted = tf.cast(condition[0, 0], tf.int32)
        height, width = tf.shape(planes)[2], tf.shape(planes)[3]
        height, width = height - wanted * (height - 1), width - (1 - wanted) * (width - 1)
        first = replace(if_true, columns=if_true.columns[:width])(planes[..., :width])
        second = replace(if_false, rows=if_false.rows[:, :height])(planes[:, :, :height])
        return tf.where(condition[0, 0], first, second)

    def _judged(self, squares: Any) -> dict[str, Any]:
        return {PROBABILITIES: self.network(squares, training=False)}

    def _traced(self, call: Callable[[Any], dict[str, Any]], signature: Any) -> Any:
        return self._tf.function(call, input_signature=[signature], autograph=False).get_concrete_function()
