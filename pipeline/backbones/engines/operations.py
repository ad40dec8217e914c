"""A `Network` as a graph of OpenVINO's own operations, or of ONNX's: neither Keras nor TensorFlow is loaded.

Inside, channels come before height and width, as OpenVINO computes: photos are transposed as they enter, and maps as
they leave, unless all of a map is pooled to one place. Features are those of the same network in TensorFlow, to some
1e-5 of the largest.

`ops` is what makes the operations: the module ``openvino.opset8``, or a `pipeline.backbones.engines.onnx_operations`
that knows them by the same names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import without_telemetry
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.cutting import GRIDS, cell_weights, checked_cut, require_pooling
from pipeline.backbones.engines.graphs import GRAPH_IMAGES
from pipeline.backbones.network import Layer, Network, Shape
from pipeline.backbones.scaling import Scaling

TO_CHANNELS_FIRST: Final = (0, 3, 1, 2)
TO_CHANNELS_LAST: Final = (0, 2, 3, 1)


def features(
    backbone: Backbone, network: Network, cuts: Sequence[tuple[str, str]], *, above: str | None = None
) -> tuple[Any, list[Any]]:
    """Compute the features at each (cut, pooling) as `pipeline.backbones.cutting` does with Keras.

    Parameters
    ----------
    backbone : Backbone
        Whose preprocessing applies.
    network : Network
        With its arrays.
    cuts : sequence of (str, str)
        Layers' names, and poolings.
    above : str, optional
        A layer at which the network can be cut, or a word for one: its activations are given in place of pixels.

    Returns
    -------
    entering : openvino.Node
        The parameter of the graph: pixels, uint8 (GRAPH_IMAGES, size, size, 3), RGB; or activations, float32.
    features : list of openvino.Node
        Float32 (GRAPH_IMAGES, …).
    """
    without_telemetry.openvino()
    from openvino import opset8 as ops

    names = [layer.name for layer in network.layers]
    first = 0 if above is None else names.index(checked_cut(network, backbone.cuts.get(above, above)))
    shape = [GRAPH_IMAGES, *(side or 0 for side in network.layers[first].shape[1:])]
    entering = ops.parameter(shape, np.uint8 if above is None else np.float32, name="entering")
    maps = ops.transpose(ops.convert(entering, np.float32), np.array(TO_CHANNELS_FIRST))
    return entering, computed(ops, backbone, network, cuts, maps, first=first)


def computed(
    ops: Any, backbone: Backbone, network: Network, cuts: Sequence[tuple[str, str]], maps: Any, *, first: int = 0
) -> list[Any]:
    """Compute the features at each (cut, pooling) from what leaves the layer `first`, (n, C, H, W): pixels of layer 0.

    Pixels are float32 (n, 3, size, size), RGB in 0…255.
    """
    names = [layer.name for layer in network.layers]
    last = max(names.index(cut) for cut, _ in cuts)
    found = {names[first]: maps if first else _preprocessed(ops, backbone, maps)}
    for layer in network.layers[first + 1 : last + 1]:
        found[layer.name] = OPERATIONS[layer.kind](ops, layer, *(found[below.name] for below in layer.inputs))
    shapes = {layer.name: layer.shape for layer in network.layers}
    return [pooled(ops, found[cut], shapes[cut], pooling) for cut, pooling in cuts]


def model(entering: Any, leaving: Any, name: str) -> Any:
    """Return the graph from its parameter to one node: an openvino.Model."""
    return without_telemetry.openvino().Model([leaving], [entering], name)


def row(ops: Any, parts: Sequence[Any]) -> Any:
    """Lay features side by side in one row an image."""
    rows = [ops.reshape(part, np.array([0, -1]), special_zero=True) for part in parts]
    return ops.concat(rows, 1) if len(rows) > 1 else rows[0]


def _preprocessed(ops: Any, backbone: Backbone, image: Any) -> Any:
    """Scale and shift each channel: the preprocessing of a base whose layers are listed does no more."""
    if isinstance(backbone.preprocessing, Scaling):
        return scaled(ops, backbone.preprocessing, image)
    black, white = (backbone.preprocess(np.full((1, 1, 1, 3), level, np.float32)) for level in (0, 255))
    unit, shift = (part.reshape(1, 3, 1, 1).astype(np.float32) for part in (255 / (white - black), black))
    return ops.add(ops.divide(image, unit), shift)


def scaled(ops: Any, scaling: Scaling, image: Any) -> Any:
    """Scale, shift, and order channels: float32 (n, 3, H, W)."""
    scale, offset = (np.array(one, np.float32).reshape(1, -1, 1, 1) for one in (scaling.scale, scaling.offset))
    image = ops.add(ops.multiply(image, scale), offset)
    return ops.gather(image, np.array([2, 1, 0]), np.array(1)) if scaling.channels == "bgr" else image


def pooled(ops: Any, maps: Any, shape: Shape, pooling: str) -> Any:
    """Pool maps (n, C, H, W) of which `shape` is (n, H, W, C), or None in place of n; `none` gives the latter."""
    require_pooling(pooling, shape)
    if pooling == "avg":
        return ops.reduce_mean(maps, np.array([2, 3]))
    if pooling == "max":
        return ops.reduce_max(maps, np.array([2, 3]))
    last = ops.transpose(maps, np.array(TO_CHANNELS_LAST))
    if pooling == "none":
        return last
    if pooling == "flatten":
        return row(ops, [last])
    # Channels last, as OpenVINO keeps maps: with channels first it would lay each one out anew.
    cells = GRIDS[pooling]
    height, width, channels = (side or 0 for side in shape[1:])
    cell = ops.reshape(last, np.array([0, height, width * channels]), special_zero=True)
    cell = ops.matmul(cell_weights(height, cells), cell, False, False)
    cell = ops.reshape(cell, np.array([0, cells, width, channels]), special_zero=True)
    cell = ops.matmul(cell_weights(width, cells), cell, False, False)
    return row(ops, [cell])


def _convolution(ops: Any, layer: Layer, maps: Any) -> Any:
    arrays, stride = _values(layer), layer.options.get("strides", 1)
    kernel = np.ascontiguousarray(arrays[0].transpose(3, 2, 0, 1))
    same = "same_upper" if layer.options.get("padding") == "same" else "valid"
    maps = ops.convolution(maps, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1], auto_pad=same)
    if arrays[1:]:
        maps = ops.add(maps, arrays[1][None, :, None, None])
    return ops.relu(maps) if layer.options.get("activation") == "relu" else maps


def _depthwise(ops: Any, layer: Layer, maps: Any) -> Any:
    stride = layer.options.get("strides", 1)
    kernel = np.ascontiguousarray(_values(layer)[0].transpose(2, 3, 0, 1)[:, None])
    same = "same_upper" if layer.options.get("padding") == "same" else "valid"
    return ops.group_convolution(maps, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1], auto_pad=same)


def _values(layer: Layer) -> list[NDArray[np.float32]]:
    return [np.asarray(variable) for variable in layer.weights]


OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _depthwise,
    "BatchNormalization": lambda ops, layer, maps: ops.batch_norm_inference(
        maps, *_values(layer), layer.options["epsilon"]
    ),
    "ReLU": lambda ops, layer, maps: ops.clamp(maps, 0.0, layer.options["max_value"]),
    "MaxPooling2D": lambda ops, _, maps: ops.max_pool(maps, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0),
    "Add": lambda ops, _, first, second: ops.add(first, second),
}
"""Kind of a layer to what makes its operation of `ops`, the layer and the nodes below."""
