"""A trunk and a head joined into one graph of OpenVINO's own operations, or of ONNX's, up to probabilities."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from pipeline.backbones.engines import operations
from pipeline.heads.activations import SELU_ALPHA, SELU_SCALE
from pipeline.heads.dense_layers import Stack


def joined(entering: Any, features: Any, stack: Stack, *, temperature: float) -> Any:
    """Join what OpenVINO computes, as `pipeline.backbones.engines.operations.features` gives it, with a head."""
    from openvino import opset8 as ops

    return operations.model(entering, probabilities(ops, features, stack, temperature=temperature), "headstart")


def probabilities(ops: Any, features: Any, stack: Stack, *, temperature: float) -> Any:
    """Put a head on features, as `pipeline.models.assemble.join` does with Keras.

    Parameters
    ----------
    ops : module or OnnxOperations
        As for `pipeline.backbones.engines.operations`.
    features : node
        Of any shape (B, …), float32.
    stack : Stack
    temperature : float
        What the logits are divided by last.

    Returns
    -------
    node
        Probabilities, float32 (B, K).
    """
    shift = (-stack.mean / stack.scale).astype(np.float32)
    x = ops.add(ops.multiply(operations.row(ops, [features]), (1.0 / stack.scale).astype(np.float32)), shift)
    for i, (kernel, bias) in enumerate(zip(stack.kernels, stack.biases, strict=True)):
        if i:
            x = ACTIVATIONS[stack.activation](ops, x)
        x = ops.add(ops.matmul(x, kernel, False, False), bias)
    logits = ops.multiply(x, np.float32(1.0 / temperature))
    if len(stack.biases[-1]) > 1:
        return ops.softmax(logits, 1)
    return ops.sigmoid(ops.concat([ops.negative(logits), logits], 1))


def joined_to(trunk: Any, stack: Stack, *, temperature: float) -> Any:
    """Join a trunk, an openvino.Model from pixels to features, with a head; as `joined`."""
    (entering,), (leaving,) = trunk.get_parameters(), trunk.get_results()
    features = leaving.input_value(0)
    return joined(entering, features, stack, temperature=temperature)


ACTIVATIONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "relu": lambda ops, x: ops.relu(x),
    "tanh": lambda ops, x: ops.tanh(x),
    "sigmoid": lambda ops, x: ops.sigmoid(x),
    "gelu": lambda ops, x: ops.gelu(x, "erf"),
    "silu": lambda ops, x: ops.swish(x),
    "elu": lambda ops, x: ops.elu(x, 1.0),
    "selu": lambda ops, x: ops.selu(x, SELU_ALPHA, SELU_SCALE),
}
"""Those of `pipeline.heads.activations`, as operations."""
