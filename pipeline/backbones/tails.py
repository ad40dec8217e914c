"""What stands on a cut: the tail, which is the base's own layers above it, or fresh convolutions in their place."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.backbones import layer_graph
from pipeline.backbones.backbone import IMAGE, Backbone
from pipeline.backbones.cutting import _pool, checked_cut, trunk
from pipeline.backbones.network import Network
from pipeline.errors import CutError


def tail(backbone: Backbone, base: Any, *, cut: str) -> Any:
    """Join the layers above a cut into a network.

    What `pipeline.backbones.cutting.trunk` gives at the cut, unpooled, is what it takes: trunk and tail together are
    the base. Nested models are opened, and an explicit ``training`` with which `base` called one is dropped: who calls
    the tail says whether its batch normalisation learns.

    Parameters
    ----------
    backbone : Backbone
        Whose words for cuts apply.
    base : keras.Model
        What `load` returned; or a trunk of it, whose preprocessing lies below every cut and whose pooling above.
    cut : str
        Name of a layer among `cut_points`, or a word of ``backbone.cuts``. ``top`` of a base gives the identity,
        ``image`` the whole base.

    Returns
    -------
    keras.Model
        From the activations at the cut, float32 (B, …), to the output of `base`. Its layers are those of `base`.

    Raises
    ------
    CutError
        If the network cannot be cut there.
    """
    from keras import Input, Model

    layer = backbone.cuts.get(cut, cut)
    if layer != IMAGE:  # in a trunk it lies inside, where it is no step of its own
        checked_cut(base, layer)
    shape, dtype = _entering(base, layer)
    inputs = Input(shape[1:], dtype=dtype, name="activations")
    return Model(inputs, _replayed(base, {}, layer, inputs), name=f"{backbone.name}_tail")


def topped(backbone: Backbone, base: Any, *, cut: str, pooling: str, widths: Sequence[int], seed: int) -> Any:
    """Put fresh convolutions on a trunk, in place of the base's layers above the cut.

    Each is a block as in VGG: 3 by 3 kernels, a bias, a rectifier, and the maximum over 2 by 2 pixels where there are
    as many. They have no batch normalisation, so nothing in them depends on its mode.

    Parameters
    ----------
    backbone, base, cut, pooling
        As for `pipeline.backbones.cutting.trunk`; the pooling follows the last convolution.
    widths : sequence of int
        Channels of each convolution, from below.
    seed : int
        Of the random kernels (He et al., 2015); biases are zero.

    Returns
    -------
    keras.Model
        From uint8 (B, size, size, 3), RGB, to float32 (B, …). The layers are ``new_conv_1``, ``new_conv_1_pool``, ….

    Raises
    ------
    CutError
        The network cannot be cut there, or what flows there has no height and width.
    """
    from keras import Model, initializers, layers, ops

    below = trunk(backbone, base, cut=cut, pooling="none")
    x = below.output
    _require_maps(cut, x.shape)
    seeds = np.random.SeedSequence(seed).generate_state(len(widths)).tolist()
    for number, (width, drawn) in enumerate(zip(widths, seeds, strict=True), start=1):
        kernels = initializers.HeNormal(seed=drawn)
        x = layers.Conv2D(
            width, 3, padding="same", activation="relu", kernel_initializer=kernels, name=f"new_conv_{number}"
        )(x)
        if min(x.shape[1:3]) > 1:
            x = layers.MaxPooling2D(name=f"new_conv_{number}_pool")(x)
    return Model(below.input, ops.cast(_pool(x, pooling), "float32"), name=f"{backbone.name}_topped")


def grown(network: Network, widths: Sequence[int]) -> Network:
    """Append to a listed network the fresh convolutions that `topped` puts on a trunk; their arrays are yet to come.

    CutError if what flows there has no height and width.
    """
    for number, width in enumerate(widths, start=1):
        _require_maps(network.layers[-1].name, network.layers[-1].shape)
        window = {"kernel_size": 3, "padding": "same", "activation": "relu"}
        network.add("Conv2D", f"new_conv_{number}", filters=width, **window)
        if min(side or 0 for side in network.layers[-1].shape[1:3]) > 1:
            network.add("MaxPooling2D", f"new_conv_{number}_pool")
    return network


def _require_maps(cut: str, shape: Sequence[int | None]) -> None:
    if len(shape) != 4:
        raise CutError(f"`new_conv`: expected activations (B, H, W, C) at {cut!r}, received shape {tuple(shape)}")


def replayed(model: Any, x: Any) -> Any:
    """Run every layer of a network on another tensor, nested models opened, and return what comes out.

    `model` has one input and one output; `x` has the shape and dtype that it takes.
    """
    inner = layer_graph.functional(model)
    return _replayed(inner, {id(inner.inputs[0]): x}, None, None)


def _entering(model: Any, name: str) -> tuple[tuple[int | None, ...], str]:
    """Return shape and dtype of the tensor that leaves the layer `name`, which may lie in a nested model."""
    for node in layer_graph.nodes(model):
        if node.operation.name == name:
            tensor = node.output_tensors[0]
            return tuple(tensor.shape), str(tensor.dtype)
        if layer_graph.is_nested(node.operation) and _holds(node.operation, name):
            return _entering(node.operation, name)
    raise CutError.of("cut", f"a layer of {model.name}", repr(name))


def _holds(model: Any, name: str) -> bool:
    return any(
        node.operation.name == name or (layer_graph.is_nested(node.operation) and _holds(node.operation, name))
        for node in layer_graph.nodes(model)
    )


def _replayed(model: Any, known: dict[int, Any], cut: str | None, start: Any) -> Any:
    """Run the layers of `model` whose inputs are known, with `start` in place of what leaves the layer `cut`.

    `known` maps the identity of a tensor of the old graph to that of the new one. Below a cut nothing is known, and
    above it everything is, since all paths lead through it. Return the model's output, or None if it lies below.
    """
    for node in layer_graph.nodes(model):
        operation = node.operation
        tensor = node.output_tensors[0]
        if operation.name == cut:
            known[id(tensor)] = start
        elif node.is_input:
            continue
        elif layer_graph.is_nested(operation):
            entry = known.get(id(node.input_tensors[0]))
            inner = layer_graph.functional(operation)
            fed = {} if entry is None else {id(inner.inputs[0]): entry}
            output = _replayed(inner, fed, cut, start)
            if output is not None:
                known[id(tensor)] = output
        elif all(id(entering) in known for entering in node.input_tensors):
            arguments, options = node.arguments.fill_in(known)
            known[id(tensor)] = operation(*arguments, **options)
    return known.get(id(layer_graph.functional(model).outputs[0]))
