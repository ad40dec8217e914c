"""Trunk, tail and head joined into one network of plain layers, from pixels to probabilities."""

from typing import Any

import numpy as np

from pipeline.backbones import layer_graph, tails
from pipeline.backbones.network import Layer, Network
from pipeline.heads.dense_layers import Stack


def head_network(stack: Stack) -> Any:
    """Build a head out of Keras layers, from features (B, d) float32 to logits, (B, 1) for two classes, else (B, K).

    Its layers with weights are ``head_dense_0``, ``head_dense_1``, …; dropout and penalties of the head come along. Its
    standardisation is a layer without weights, and stays so in training.
    """
    from keras import Input, Model, layers, regularizers

    penalty = regularizers.L1L2(l1=stack.l1, l2=stack.l2) if stack.l1 or stack.l2 else None
    features = Input((len(stack.mean),), name="features")
    shift = (-stack.mean / stack.scale).astype(np.float32)
    x = layers.Rescaling((1.0 / stack.scale).astype(np.float32), shift, name="head_scale")(features)
    top = len(stack.kernels) - 1
    for i, (kernel, bias) in enumerate(zip(stack.kernels, stack.biases, strict=True)):
        if stack.dropout and (i > 0 or i == top):
            x = layers.Dropout(stack.dropout, seed=i, name=f"head_dropout_{i}")(x)
        dense = layers.Dense(
            len(bias),
            activation=None if i == top else stack.activation,
            kernel_regularizer=penalty,
            name=f"head_dense_{i}",
        )
        x = dense(x)
        dense.set_weights([kernel, bias])
    return Model(features, x, name="head")


def listed_head(stack: Stack) -> Network:
    """List the layers with weights that `head_network` builds, with their arrays."""
    head = Network("head", [Layer("features", "InputLayer", {"shape": (len(stack.mean),)}, ())])
    for i, arrays in enumerate(zip(stack.kernels, stack.biases, strict=True)):
        head.add("Dense", f"head_dense_{i}", units=len(arrays[1])).set_weights(arrays)
    return head


def flat(trunk: Any) -> Any:
    """Append to a trunk a layer that makes its features one row, if they are not."""
    from keras import Model, layers

    if len(trunk.output.shape) == 2:
        return trunk
    return Model(trunk.input, layers.Flatten(name="features_flatten")(trunk.output), name=trunk.name)


def join(trunk: Any, head: Any, *, temperature: float = 1.0) -> Any:
    """Join a trunk and a head into one network.

    Parameters
    ----------
    trunk : keras.Model
        From `flat`: uint8 pixels (B, size, size, 3) to features (B, d). Or its tail, from activations.
    head : keras.Model
        From `head_network`.
    temperature : float
        What the logits are divided by last, as `pipeline.heads.calibration.calibrate` says; 1 leaves no layer.

    Returns
    -------
    keras.Model
        From pixels, or activations, to probabilities, float32 (B, K). Its layers are those of trunk and head, not
        copies, and none is of a kind that Keras would not load in its safe mode.
    """
    from keras import Input, Model, layers

    _name_bare_operations(trunk)
    inputs = Input(trunk.input.shape[1:], dtype=trunk.input.dtype, name=trunk.input.name)
    logits = tails.replayed(head, tails.replayed(trunk, inputs))
    if temperature != 1.0:
        logits = layers.Rescaling(1.0 / temperature, dtype="float32", name="temperature")(logits)
    if logits.shape[1] > 1:
        probabilities = layers.Softmax(dtype="float32", name="probabilities")(logits)
    else:
        mirrored = layers.Rescaling(-1.0, dtype="float32", name="odds_of_first")(logits)
        both = layers.Concatenate(dtype="float32", name="odds")([mirrored, logits])
        probabilities = layers.Activation("sigmoid", dtype="float32", name="probabilities")(both)
    return Model(inputs, probabilities, name="headstart")


def weighted_layers(network: Any) -> list[Any]:
    """List the layers of a network that have weights, from below, nested ones included."""
    return [step.operation for step in layer_graph.steps(network) if getattr(step.operation, "weights", [])]


def _name_bare_operations(trunk: Any) -> None:
    """Name what preprocessing and pooling are made of, whose automatic names depend on what the process built before.

    They could even be those of layers of the base.
    """
    for place, node in enumerate(layer_graph.nodes(trunk)):
        operation = node.operation
        named = operation.name.startswith("new_conv") or operation.name == "features_flatten"
        if not (node.is_input or named or layer_graph.is_nested(operation)):
            operation.name = f"trunk_{place}_{type(operation).__name__.lower()}"
