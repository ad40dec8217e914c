"""A network as a graph of its layers, nested models opened, and the places where one tensor carries everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.backbones.network import Layer, Network


@dataclass(frozen=True)
class Step:
    """One operation of the network, in topological order.

    Attributes
    ----------
    operation : keras.Operation or Layer
        The layer (or bare operation, such as an addition written with ``+``).
    parents : tuple of int
        Positions of the steps whose outputs it takes.
    shape : tuple of (int or None)
        Shape of its output, the batch first; empty if it has several outputs.
    """

    operation: Any
    parents: tuple[int, ...]
    shape: tuple[int | None, ...]

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.operation.name)


def steps(model: Any) -> list[Step]:
    """List the operations of a functional or sequential model, inputs first, each after those it depends on.

    A nested model with one input and one output is replaced by its own operations; its input layer disappears.
    """
    if isinstance(model, Network):
        place = {layer: number for number, layer in enumerate(model.layers)}
        return [Step(layer, tuple(place[below] for below in layer.inputs), layer.shape) for layer in model.layers]
    found: list[Step] = []
    _append(found, model, feed=None)
    return found


def _append(found: list[Step], model: Any, feed: int | None) -> int:
    """Append the operations of `model`, fed by step `feed` (None: by its own input); return its output's position."""
    position: dict[Any, int] = {}
    for node in nodes(model):
        operation = node.operation
        parents = tuple(position[parent] for parent in node.parent_nodes)
        if node.is_input and feed is not None:
            position[node] = feed
            continue
        if is_nested(operation):
            position[node] = _append(found, operation, parents[0])
            continue
        shape = tuple(node.output_tensors[0].shape) if len(node.output_tensors) == 1 else ()
        found.append(Step(operation, parents, shape))
        position[node] = len(found) - 1
    (output,) = (node for node in position if any(tensor is model.outputs[0] for tensor in node.output_tensors))
    return position[output]


def functional(model: Any) -> Any:
    """Return the functional model inside a sequential one; any other model is returned as it is."""
    return getattr(model, "_functional", None) or model


def nodes(model: Any) -> list[Any]:
    """List the nodes of a model's graph, each after its parents.

    A layer may be called in several models. ``layer.input`` shows the first call only, and for a nested model its
    inner input; the nodes say what is connected in *this* model. Keras has no public name for them.
    """
    by_depth = functional(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def is_nested(operation: Any) -> bool:
    """Whether an operation is itself a graph with one input and one output."""
    inner = functional(operation)
    return hasattr(inner, "_nodes_by_depth") and len(inner.inputs) == len(inner.outputs) == 1


def kind(layer: Any) -> str:
    """Return the name of a layer's class in Keras."""
    return layer.kind if isinstance(layer, Layer) else type(layer).__name__


def articulation_points(parents: Sequence[Sequence[int]]) -> list[int]:
    """Find the nodes through which every path from the first to the last node passes, both ends included.

    If all paths pass through a node, then every other node lies before or behind it, in any topological order; so it is
    such a point exactly if no edge leads from before it to behind it. One sweep shows this: O(nodes + edges).

    `parents` holds for each node the positions of its parents, in topological order. Node 0 is the only one without
    parents, the last the only one without children.
    """
    children_end = list(range(len(parents)))
    for node, above in enumerate(parents):
        for parent in above:
            children_end[parent] = max(children_end[parent], node)
    points, reach = [], 0
    for node, end in enumerate(children_end):
        if reach <= node:
            points.append(node)
        reach = max(reach, end)
    return points


def leaves(model: Any) -> list[Any]:
    """Return the layers of a model, those of nested models in their place."""
    found: list[Any] = []
    for layer in functional(model).layers:
        found += leaves(layer) if is_nested(layer) else [layer]
    return found
