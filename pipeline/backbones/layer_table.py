"""What each layer of a base is, holds and costs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.backbones import layer_graph
from pipeline.backbones.cutting import checked_cut, cut_points, is_graph, require_layers

BYTES = 4  # of one float32
FEWEST_RUNGS = 8


@dataclass(frozen=True)
class LayerRow:
    """One layer, nested ones included, in the order in which the network computes them.

    Attributes
    ----------
    index : int or None
        Its place in Keras' ``base.layers``, from 0; None inside a nested model.
    name, kind : str
        The layer's name and its class.
    output_shape : tuple of (int or None)
        Without the batch; empty if there are several outputs.
    parameters, trained : int
        Numbers in its weights, and how many of them training changes.
    trainable, frozen : int
        Weight arrays that training changes, and that it does not. Moving statistics never train.
    can_cut : bool
        Whether all data passes through this layer's one output.
    multiply_adds : int
        Of this layer, for one image. Products of convolutions and dense layers count, as in the papers; biases,
        normalisation, activations and pooling do not.
    multiply_adds_below : int
        Of all layers up to this one, itself included: where the network can be cut, what its trunk costs for one
        image.
    bytes : int
        Of the activations of one image, float32 and not pooled.
    """

    index: int | None
    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    trained: int
    trainable: int
    frozen: int
    can_cut: bool
    multiply_adds: int
    multiply_adds_below: int
    bytes: int


def layer_table(base: Any) -> list[LayerRow]:
    """Describe every layer of a functional model with one input of known size and one output."""
    if is_graph(base):
        from pipeline.backbones.engines import onnx_layers

        return onnx_layers.rows(base)
    cuts = set(cut_points(base))
    index = {layer.name: place for place, layer in enumerate(base.layers)}
    rows: list[LayerRow] = []
    below = 0
    for step in layer_graph.steps(base):
        weights = getattr(step.operation, "weights", [])
        trained = getattr(step.operation, "trainable_weights", [])
        here = _multiply_adds(step)
        below += here
        rows.append(
            LayerRow(
                index=index.get(step.name),
                name=step.name,
                kind=layer_graph.kind(step.operation),
                output_shape=step.shape[1:],
                parameters=sum(math.prod(weight.shape) for weight in weights),
                trained=sum(math.prod(weight.shape) for weight in trained),
                trainable=len(trained),
                frozen=len(weights) - len(trained),
                can_cut=step.name in cuts,
                multiply_adds=here,
                multiply_adds_below=below,
                bytes=BYTES * math.prod(side or 0 for side in step.shape[1:]) if step.shape else 0,
            )
        )
    return rows


def freeze(base: Any, *, up_to: str | None, names: Sequence[str]) -> None:
    """Let training change neither the layers up to a cut nor those of some names, as fine-tuning does.

    Parameters
    ----------
    base : keras.Model or Network
    up_to : str or None
        The layer at which the network is cut, itself included; None freezes none of them.
    names : sequence of str
        Layers with weights.

    Raises
    ------
    CutError
        The network cannot be cut there.
    InputError
        There is no such layer with weights; the message names the nearest.
    """
    steps = layer_graph.steps(base)
    weighted = [step.name for step in steps if getattr(step.operation, "weights", [])]
    require_layers("freeze", names, weighted, "layers with weights")
    below = 0 if up_to is None else 1 + [step.name for step in steps].index(checked_cut(base, up_to))
    for place, step in enumerate(steps):
        if step.name in names or place < below:
            step.operation.trainable = False


def rungs(table: Sequence[LayerRow], *, blocks: Iterable[str], most: int) -> list[LayerRow]:
    """Choose the cuts worth comparing, from below: the image is none of them, the topmost cut always one.

    They are the ends of the blocks, if there are enough of these for a picture of the whole depth. Otherwise any cut
    counts, but of those that cost the same multiply-adds only the topmost: after a convolution come its normalisation
    and activation, for nothing.

    Parameters
    ----------
    table : sequence of LayerRow
        From `layer_table`.
    blocks : iterable of str
        The layers at which blocks end, as ``backbone.cuts.values()`` lists them.
    most : int
        Beyond so many, evenly spread ones are taken.

    Returns
    -------
    list of LayerRow
        Maps, and of a graph tokens and rows; `most` of them at most.
    """
    layers = any(row.index is not None for row in table)  # of Keras; the operations of a graph have no index
    maps = [row for row in table if row.can_cut and row.multiply_adds_below]
    maps = [row for row in maps if not layers or len(row.output_shape) == 3]
    ends = set(blocks)
    found = [row for row in maps if row.name in ends]
    if len(found) < FEWEST_RUNGS:
        found = list({(row.multiply_adds_below, len(row.output_shape)): row for row in maps}.values())
    spread = {round(place * (len(found) - 1) / max(1, most - 1)) for place in range(most)}
    return [row for place, row in enumerate(found) if len(found) <= most or place in spread]


def _multiply_adds(step: layer_graph.Step) -> int:
    """Count the products: each number of a kernel is used once for each position of the output.

    This holds for plain, grouped, depthwise and separable convolutions, whose kernels have (input channels / groups)
    on one axis, and for dense layers, whose positions are all axes but the last.
    """
    kernels = [weight for weight in getattr(step.operation, "weights", []) if weight.name.endswith("kernel")]
    positions: int = math.prod(side or 0 for side in step.shape[1:-1])
    products: int = sum(math.prod(kernel.shape) for kernel in kernels)
    return positions * products
