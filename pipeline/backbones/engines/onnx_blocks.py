"""The last blocks of a transformer in an ONNX file, told by what they are and not by what somebody called them.

A block begins with attention, which is where a softmax is, and ends with the last sum of its tokens and of what was
made of them before the next block begins. So blocks with one such sum are found as those with two are.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CutError

COUNT: Final = 4
NAMED: Final = tuple(f"block-{place}" for place in reversed(range(COUNT)))  # in files of `pipeline.backbones.hub`
ATTENTION: Final = ("Softmax", "ScaledDotProductAttention")
ALONG: Final = ("MVN", "ReduceMean")  # which read the numbers of a token together, or those of other axes
PER_TOKEN: Final = (*ALONG, "Add", "Subtract", "Multiply", "Divide", "Negative", "Power", "Sqrt", "Convert")


class LastBlocks(NamedTuple):
    """Where the last blocks end.

    Attributes
    ----------
    ends : tuple of str
        The tensors that leave them, (n, N, C) each, the class token first.
    normed : str or None
        The tensor that the norm above them makes of the last; None if no norm takes in all tokens.
    """

    ends: tuple[str, ...]
    normed: str | None


def last(graph: Any) -> LastBlocks:
    """Find the last four blocks of an OnnxGraph; CutError if there are none with a class token."""
    nodes, through = graph.order()
    known = set(graph.depending)
    ends: list[Any] = []
    begun, summed = False, None
    for place, node in enumerate(nodes):
        if node.get_type_name() in ATTENTION:
            ends += [summed] if begun and summed is not None else []
            begun, summed = True, None
        elif begun and place in through and _is_sum(graph, node, known):
            summed = node
    ends += [summed] if summed is not None else []
    named = [graph.tensors[name].get_node() for name in NAMED if name in graph.tensors]
    found = named if len(named) == COUNT else ends[-COUNT:]
    shapes = {graph.shape_of(node.output(0)) for node in found}
    if len(found) < COUNT or len(shapes) > 1:
        expected = f"another for {graph.name}, where no {COUNT} blocks of tokens with a class token were found"
        raise CutError.of("pooling", expected, "'last4'")
    if found is named and "top" in graph.tensors and graph.shape_of(graph.tensors["top"]) in shapes:
        return LastBlocks(NAMED, "top")
    above = nodes[nodes.index(found[-1]) + 1 :]
    normed = [node for node in _normalising(above) if graph.shape_of(node.output(0)) in shapes and _name(node)]
    return LastBlocks(tuple(map(_name, found)), _name(normed[-1]) if normed else None)


def _is_sum(graph: Any, node: Any, known: set[Any]) -> bool:
    shape = graph.shape_of(node.output(0))
    if shape is None or len(shape) != 2 or node.get_type_name() != "Add" or not _name(node):
        return False
    has_class = shape[0] != math.isqrt(shape[0]) ** 2
    return has_class and all(one.get_source_output() in known for one in node.inputs())


def _normalising(nodes: list[Any]) -> list[Any]:
    """Return the first nodes that treat each token by itself, up to one that does not."""
    found = []
    for node in nodes:
        kind = node.get_type_name()
        if kind not in PER_TOKEN or (kind in ALONG and not _is_along_tokens(node)):
            break
        found.append(node)
    return found


def _is_along_tokens(node: Any) -> bool:
    axes = _constant(node.input_value(1).get_node())
    return axes is not None and axes.ravel().tolist() in ([-1], [2])


def _constant(node: Any) -> NDArray[Any] | None:
    """Return the numbers of a constant, also of one that is written as a range, as the axes of a norm are."""
    if node.get_type_name() == "Constant":
        return np.asarray(node.get_data())
    if node.get_type_name() != "Range":
        return None
    bounds = [_constant(one.get_source_output().get_node()) for one in node.inputs()]
    return None if any(one is None for one in bounds) else np.arange(*(int(one) for one in bounds if one is not None))


def _name(node: Any) -> str:
    return min(node.output(0).get_names(), default="")
