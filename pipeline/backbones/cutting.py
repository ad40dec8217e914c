"""Cut a base at a layer, and make the trunk: from pixels to the pooled activations at the cut."""

import difflib
import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import layer_graph
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.network import Network
from pipeline.backbones.settings import Pooling
from pipeline.errors import CutError, InputError

POOLINGS: tuple[str, ...] = get_args(Pooling)
OF_TOKENS = ("cls", "cls+mean")
LAST4 = "last4"
OF_MAPS = tuple(one for one in POOLINGS if one not in (*OF_TOKENS, LAST4))
GRIDS = {"grid2": 2, "grid3": 3}
NEAREST = 3  # how many cut points an error names


def cut_points(base: Any) -> list[str]:
    """Name the layers at which the network can be cut, from the image to the last one.

    They are the articulation points of the graph of layers of a model with one input and one output: a single tensor
    carries all that flows from below to above. Layers inside nested models count; nested models themselves do not.
    """
    steps = layer_graph.steps(base)
    points = layer_graph.articulation_points([step.parents for step in steps])
    return [steps[point].name for point in points if steps[point].shape]


def trunk(backbone: Backbone, base: Any, *, cut: str, pooling: str) -> Any:
    """Join the backbone's preprocessing, the base up to the cut, and the pooling into one frozen network.

    What is listed becomes a graph of OpenVINO. Of what Keras built, batch normalisation and dropout are in inference
    mode, and the layers are those of `base`, not copies. (Keras hands an explicit ``training=True`` of an outer call
    down to all layers: a trunk is called without it.)

    Parameters
    ----------
    backbone : Backbone
        Whose preprocessing applies.
    base : keras.Model, Network or OnnxGraph
        What `load` returned for it.
    cut : str
        Name of a layer among `cut_points`, or a word of ``backbone.cuts``. ``image`` gives the preprocessed pixels,
        which are what enters the base.
    pooling : str
        One of `POOLINGS`. ``avg`` and ``max`` give (B, C); ``grid2`` and ``grid3`` the area means over 2 by 2 and 3
        by 3 equal cells, (B, n·n·C), rows first, channels last; ``flatten`` gives (B, H·W·C); ``none`` the
        activations themselves.

    Returns
    -------
    keras.Model or openvino.Model
        From uint8 (B, size, size, 3), RGB, to float32 (B, …).

    Raises
    ------
    CutError
        If the network cannot be cut there, or what flows there has no height and width to pool.
    """
    if is_graph(base):
        return base.trunk([(backbone.cuts.get(cut, cut), pooling)])[0]
    name = f"{backbone.name}_trunk"
    if isinstance(base, Network):
        from pipeline.backbones.engines import operations

        pixels, (features,) = operations.features(backbone, base, [(_checked(backbone, base, cut), pooling)])
        return operations.model(pixels, features, name)
    from keras import Model

    pixels, (features,) = _features(backbone, base, [(cut, pooling)])
    return Model(pixels, features, name=name)


def trunks(backbone: Backbone, base: Any, *, cuts: Sequence[tuple[str, str]]) -> tuple[Any, list[int]]:
    """Join several trunks of one base into one network, which computes what they share once.

    Their outputs lie side by side in one row, since an engine hands back one tensor.

    Parameters
    ----------
    backbone, base
        As for `trunk`.
    cuts : sequence of (cut, pooling)
        Each as for `trunk`. A cut may come with several poolings.

    Returns
    -------
    model : keras.Model or openvino.Model
        From uint8 (B, size, size, 3), RGB, to float32 (B, D): what each trunk gives, flattened, in the order of `cuts`.
    widths : list of int
        How many of the D numbers belong to each of `cuts`.

    Raises
    ------
    CutError
        As for `trunk`.
    """
    if is_graph(base):
        return base.trunk([(backbone.cuts.get(cut, cut), pooling) for cut, pooling in cuts])  # type: ignore[no-any-return]
    name = f"{backbone.name}_trunks"
    if isinstance(base, Network):
        from openvino import opset8 as ops

        from pipeline.backbones.engines import operations

        named = [(_checked(backbone, base, cut), pooling) for cut, pooling in cuts]
        pixels, features = operations.features(backbone, base, named)
        row = operations.row(ops, features)
        return operations.model(pixels, row, name), [math.prod(part.shape[1:]) for part in features]
    from keras import Model, layers

    pixels, features = _features(backbone, base, cuts)
    rows = [layers.Flatten()(tensor) for tensor in features]
    row = layers.Concatenate()(rows) if len(rows) > 1 else rows[0]
    return Model(pixels, row, name=name), [int(part.shape[1]) for part in rows]


def is_graph(base: Any) -> bool:
    """Whether a base is a graph from a file."""
    from pipeline.backbones.engines.onnx_graph import OnnxGraph

    return isinstance(base, OnnxGraph)


def is_openvino(trunk: Any) -> bool:
    """Whether a trunk is a graph of OpenVINO, and not a network of Keras."""
    return type(trunk).__module__.partition(".")[0] == "openvino"


def _features(backbone: Backbone, base: Any, cuts: Sequence[tuple[str, str]]) -> tuple[Any, list[Any]]:
    """Return the tensors of a new graph: the pixels, and the features at each (cut, pooling)."""
    from keras import Input, ops

    layers = {cut: _checked(backbone, base, cut) for cut in dict.fromkeys(cut for cut, _ in cuts)}
    pixels = Input(base.input.shape[1:], dtype="uint8", name="pixels")
    maps = _maps(base, list(dict.fromkeys(layers.values())), backbone.preprocess(ops.cast(pixels, "float32")))
    return pixels, [ops.cast(_pool(maps[layers[cut]], pooling), "float32") for cut, pooling in cuts]


def require_layers(field: str, names: Sequence[str], known: Sequence[str], what: str) -> None:
    """Raise InputError, naming the nearest, unless all names are among those that are known."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=NEAREST, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise InputError.of(field, f"{what}, of which there are {len(known)}", f"{name!r}{hint}")


def _checked(backbone: Backbone, base: Any, cut: str) -> str:
    return checked_cut(base, backbone.cuts.get(cut, cut))


def checked_cut(base: Any, cut: str) -> str:
    """Return `cut` if the base can be cut there; CutError, naming the nearest cuts, if not."""
    points = cut_points(base)
    if cut in points:
        return cut
    steps = layer_graph.steps(base)
    order = {step.name: position for position, step in enumerate(steps)}
    if cut in order:
        near = sorted(points, key=lambda point: abs(order[point] - order[cut]))[:NEAREST]
        near = sorted(near, key=lambda point: order[point])
        raise CutError(
            f"`cut`: expected a layer that all data passes through, received {cut!r}, which lies beside a branch; "
            f"the nearest such layers are {', '.join(near)}"
        )
    raise CutError(
        f"`cut`: expected one of the {len(points)} layers where {base.name} can be cut, received {cut!r}; "
        f"the topmost are {', '.join(points[-NEAREST:])}"
    )


def _maps(base: Any, names: Sequence[str], x: Any) -> dict[str, Any]:
    """Run the base on `x` up to each of the layers; return what leaves them, by name."""
    from keras import Model

    found = {name: _leaving(base, name) for name in names}
    above = {name: tensor for name, tensor in found.items() if tensor is not None}
    if above:
        computed = Model(layer_graph.functional(base).input, list(above.values()))(x, training=False)
        above = dict(zip(above, computed, strict=True))
    return {name: above.get(name, x) for name in names}


def _leaving(model: Any, name: str) -> Any:
    """Return the tensor that leaves the layer `name`, nested or not, in the model's graph; None for its input.

    Up to a cut inside a nested model, that model's layers are called once more: blocks of a few layers, not the base.
    """
    from keras import Model

    for node in layer_graph.nodes(layer_graph.functional(model)):
        if node.operation.name == name:
            return None if node.is_input else node.output_tensors[0]
        if layer_graph.is_nested(node.operation) and name in {step.name for step in layer_graph.steps(node.operation)}:
            inner = layer_graph.functional(node.operation)
            return Model(inner.input, _leaving(inner, name))(node.input_tensors[0])
    raise CutError.of("cut", f"a layer of {model.name}", repr(name))


def require_pooling(pooling: str, shape: Sequence[int | None]) -> None:
    """Raise CutError unless activations of this shape, the batch first, can be pooled so."""
    if pooling not in OF_MAPS:
        raise CutError.of("pooling", f"one of {', '.join(OF_MAPS)}", repr(pooling))
    if len(shape) != 4 and pooling not in ("none", "flatten"):
        raise CutError(f"`pooling`: expected activations (B, H, W, C) for {pooling!r}, received shape {tuple(shape)}")


def fitting(shape: Sequence[int | None], poolings: Sequence[str]) -> list[str]:
    """Return those poolings that fit activations of this shape, without the batch: a map, tokens, or a row already."""
    if len(shape) == 1:
        return [pooling for pooling in poolings if pooling == "avg"]
    count = shape[0] or 0
    has_class = len(shape) == 2 and count != math.isqrt(count) ** 2
    return [pooling for pooling in poolings if has_class or pooling not in OF_TOKENS]


def _pool(x: Any, pooling: str) -> Any:
    from keras import layers

    require_pooling(pooling, x.shape)
    if pooling == "none":
        return x
    if pooling == "flatten":
        return layers.Flatten()(x)
    if pooling == "avg":
        return layers.GlobalAveragePooling2D()(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D()(x)
    return _grid_pool(x, GRIDS[pooling])


def _grid_pool(x: Any, cells: int) -> Any:
    """Average over cells by cells equal rectangles: (B, H, W, C) to (B, cells·cells·C).

    Separable, so two matrix products do it, first over the rows, then over the columns::

        (n, H) @ (B, H, W·C) -> (B, n, W·C) -> (B, n, W, C);   (n, W) @ (B, n, W, C) -> (B, n, n, C)

    Products and reshapes convert to every engine, which resizing and adaptive pooling do not.
    """
    from keras import ops

    _, height, width, channels = x.shape
    x = ops.matmul(cell_weights(height, cells), ops.reshape(x, (-1, height, width * channels)))
    x = ops.matmul(cell_weights(width, cells), ops.reshape(x, (-1, cells, width, channels)))
    return ops.reshape(x, (-1, cells * cells * channels))


def cell_weights(length: int, cells: int) -> NDArray[np.float32]:
    """Weigh pixels by how much of each lies in each of `cells` equal intervals: (cells, length), float32.

    A bound may fall inside a pixel, which then counts in both intervals, by its share. Each row sums to 1: a product
    with it is the mean over an interval.
    """
    bounds = np.linspace(0.0, length, cells + 1)
    pixels = np.arange(length)
    overlap = np.minimum(bounds[1:, None], pixels + 1) - np.maximum(bounds[:-1, None], pixels)
    weights: NDArray[np.float32] = (np.clip(overlap, 0.0, None) * (cells / length)).astype(np.float32)
    return weights
