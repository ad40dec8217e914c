"""One graph from image to calibrated probabilities: ONNX's operators, or Keras' layers, which converters take."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import numpy as np

from pipeline.backbones import layer_graph, tails
from pipeline.backbones.engines.onnx_operations import OnnxOperations
from pipeline.export import in_graph_resizing
from pipeline.export.in_graph_decoding import decoded
from pipeline.models import graph
from pipeline.models.model import Model

PIXELS: Final = "pixels"
IMAGE_BYTES: Final = "image_bytes"
PROBABILITIES: Final = "probabilities"


class Graph:
    """A model's network with its resize in front, and what exporters make of it.

    Parameters
    ----------
    model : Model
        Read already.

    Attributes
    ----------
    model : Model
    policy : resizing.Policy
        How an image becomes the square that the network sees.
    is_listed : bool
        Whether `onnx` can write it; else Keras and TensorFlow do.
    """

    def __init__(self, model: Model) -> None:
        self.policy = in_graph_resizing.policy_of(model.spec)
        self.is_listed = model.is_listed
        self.model = model
        self._traces: dict[str, Any] = {}

    @cached_property
    def network(self) -> Any:
        """The keras.Model, from uint8 (B, size, size, 3) to float32 (B, K)."""
        return self.model.network()

    @property
    def _tf(self) -> Any:
        import tensorflow as tf

        return tf

    def onnx(self) -> Any:
        """Return all of it, from uint8 (n, H, W, 3), of any size, to probabilities (n, K), as an onnx.ModelProto.

        It is written without Keras and TensorFlow.
        """
        from onnx import TensorProto, helper

        ops, model = OnnxOperations(), self.model
        pixels = ops.parameter(PIXELS, np.uint8)
        squares = in_graph_resizing.resized(ops, pixels, self.policy, in_graph_resizing.shortened)
        graph.probabilities(ops, model.in_onnx(ops, squares), model.stack(), temperature=model.temperature)
        entering = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ("n", "height", "width", 3))
        leaving = helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ("n", len(model.classes)))
        return ops.model(entering, leaving)

    def functional(self) -> Any:
        """Return all of it as a Keras model of plain layers: uint8 (B, H, W, 3), of any size, to float32 (B, K)."""
        from keras import Input, Model, ops

        entering = Input((None, None, 3), dtype="uint8", name=PIXELS)
        planes = in_graph_resizing.resized(ops, entering, self.policy, in_graph_resizing.both)
        squares = ops.cast(ops.transpose(planes, (0, 2, 3, 1)), "uint8")
        front = Model(entering, squares)
        # Automatic names depend on what the process built before, and could be those of layers of the base.
        for place, node in enumerate(layer_graph.nodes(front)):
            if not node.is_input:
                node.operation.name = f"resize_{place}_{type(node.operation).__name__.lower()}"
        pixels = Input((None, None, 3), dtype="uint8", name=PIXELS)
        return Model(pixels, tails.replayed(self.network, tails.replayed(front, pixels)), name="headstart")

    def of_pixels(self, *, branches: bool) -> Any:
        """Return a concrete function from uint8 (n, H, W, 3), of any size, to {"probabilities": (n, K)}.

        `branches`: whether the order of the resize may be a branch. OpenVINO 2026.4 gives wrong probabilities in the
        first call with another number of images if there is one, and rightly any later.
        """
        choose, name = (self._one, "branches") if branches else (in_graph_resizing.shortened, "no branches")
        if name not in self._traces:
            signature = self._tf.TensorSpec((None, None, None, 3), self._tf.uint8, name=PIXELS)
            self._traces[name] = self._traced(lambda pixels: self._squares(pixels, choose), signature)
        return self._traces[name]

    def of_squares(self) -> Any:
        """Return the same for uint8 (n, size, size, 3), without the resize."""
        signature = self._tf.TensorSpec((None, *self.network.input_shape[1:]), self._tf.uint8, name=PIXELS)
        return self._traced(lambda squares: squares, signature)

    def of_one_or_more(self) -> Any:
        """Return a function from uint8 (H, W, 3) or (n, H, W, 3), of any size, to {"probabilities": (n, K)}."""
        tf = self._tf

        def squares(pixels: Any) -> Any:
            batch = tf.reshape(pixels, tf.concat([[-1], tf.shape(pixels)[-3:]], axis=0))
            batch.set_shape((None, None, None, 3))
            return self._squares(batch)

        return self._traced(squares, tf.TensorSpec(None, tf.uint8, name=PIXELS))

    def of_files(self) -> Any:
        """Return a function from encoded JPEG or PNG, strings (n,), to {"probabilities": (n, K)}."""
        tf, size = self._tf, self.policy.size

        def square(data: Any) -> Any:
            return self._squares(decoded(data, size)[None])[0]

        def squares(image_bytes: Any) -> Any:
            return tf.map_fn(square, image_bytes, fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8))

        return self._traced(squares, tf.TensorSpec((None,), tf.string, name=IMAGE_BYTES))

    def operations(self) -> list[tuple[str, str]]:
        """List what TensorFlow makes of it: (name, kind) of each operation; a name begins with that of its layer."""
        return [(step.name, step.type) for step in self.of_squares().graph.get_operations()]

    def module(self) -> Any:
        """Return a tf.Module that owns the weights, so that what is saved with it has them."""
        module = self._tf.Module()
        module.weights = [variable.value for variable in self.network.variables]
        return module

    def _squares(self, pixels: Any, choose: in_graph_resizing.Choose | None = None) -> Any:
        from keras import ops

        planes = in_graph_resizing.resized(ops, pixels, self.policy, choose or self._one)
        return self._tf.cast(ops.transpose(planes, (0, 2, 3, 1)), self._tf.uint8)

    def _one(
        self, condition: Any, planes: Any, if_true: in_graph_resizing.Order, if_false: in_graph_resizing.Order
    ) -> Any:
        return self._tf.cond(condition[0, 0], lambda: if_true(planes), lambda: if_false(planes))

    def _traced(self, squares: Callable[[Any], Any], signature: Any) -> Any:
        """Trace the network behind a function that makes squares of what enters."""
        network = self.network  # built here: what is built within a trace is part of it

        def call(entering: Any) -> dict[str, Any]:
            return {PROBABILITIES: network(squares(entering), training=False)}

        return self._tf.function(call, input_signature=[signature], autograph=False).get_concrete_function()
