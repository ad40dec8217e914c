"""Names and an order for what is in an ONNX graph that follow from the graph alone.

The converter numbers constants as it meets them, and it walks through sets: the same graph comes out with other names,
in another order, each time. Here each node gets its place on the way from the outputs back to the inputs.
"""

from collections.abc import Iterator
from itertools import count
from typing import Any


def settle(model: Any) -> None:
    """Rename and order the nodes and constants of an onnx.ModelProto in place; inputs and outputs keep their names."""
    graph = model.graph
    _settle(graph, {value.name: value.name for value in (*graph.input, *graph.output)}, count())


def _settle(graph: Any, names: dict[str, str], numbers: Iterator[int]) -> None:
    """Settle a graph, or one within a node; `names` has those of the tensors that are known outside of it."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ordered = _ordered(graph)
    for value in graph.input:
        names.setdefault(value.name, f"input_{next(numbers)}")
    used = {}
    for node in ordered:
        for name in _taken(node):
            if name in constants and name not in used:
                names.setdefault(name, f"constant_{next(numbers)}")
                used[name] = constants[name]
        for name in filter(None, node.output):
            names.setdefault(name, f"{node.op_type}_{next(numbers)}")
        for inner in _graphs(node):
            inner.name = f"graph_{next(numbers)}"
            _settle(inner, dict(names), numbers)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        node.name = next(filter(None, node.output))
    used |= {value.name: constants[value.name] for value in graph.output if value.name in constants}
    for value in (*graph.input, *graph.output, *used.values()):
        value.name = names.get(value.name, value.name)
    # What is replaced goes first, and copies come back: the fields own their messages.
    for field, messages in ((graph.node, ordered), (graph.initializer, [*used.values()])):
        kept = [type(one).FromString(one.SerializeToString()) for one in messages]
        del field[:]
        field.extend(kept)
    del graph.value_info[:]


def _ordered(graph: Any) -> list[Any]:
    """Return the nodes that the outputs need, each after those whose tensors it takes."""
    makers = {name: node for node in graph.node for name in node.output if name}
    for node in graph.node:
        for inner in _graphs(node):
            kept = [type(one).FromString(one.SerializeToString()) for one in _ordered(inner)]
            del inner.node[:]
            inner.node.extend(kept)
    found: dict[str, Any] = {}  # by the first output
    entered: set[str] = set()
    waiting = [value.name for value in reversed(graph.output)]
    while waiting:
        node = makers.get(waiting[-1])
        first = next(filter(None, node.output)) if node is not None else ""
        if node is None or first in found:
            waiting.pop()
        elif first in entered:
            found[first] = node
        else:
            entered.add(first)
            waiting.extend(reversed(_taken(node)))
    return list(found.values())


def _taken(node: Any) -> list[str]:
    """Return the tensors that a node takes, and those that graphs within it take, perhaps from outside of them."""
    inner = _graphs(node)
    return [
        name
        for name in (
            *node.input,
            *(name for graph in inner for step in graph.node for name in _taken(step)),
            *(value.name for graph in inner for value in graph.output),
        )
        if name
    ]


def _graphs(node: Any) -> list[Any]:
    """Return the graphs within a node, as the branches of a choice, in the order of their names."""
    return [one.g for one in sorted(node.attribute, key=lambda one: one.name) if one.HasField("g")]
