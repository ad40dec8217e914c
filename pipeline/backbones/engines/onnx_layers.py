"""What each operation of a graph is, holds and costs, as `pipeline.backbones.layer_table` tells it of layers."""

import math
from typing import Any, Final

from pipeline.backbones.engines.onnx_graph import OnnxGraph
from pipeline.backbones.layer_table import BYTES, LayerRow

KERNELS: Final = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")


def rows(graph: OnnxGraph) -> list[LayerRow]:
    """Describe the operations on what depends on the image, each after those it takes from; errors as for `OnnxGraph`.

    One can be cut at if all data passes through it and it gives each image a row, tokens or a map. What one that has a
    name is made of, as a convolution and its bias, counts as one.
    """
    nodes, cuts = graph.order()
    place = {node: position for position, node in enumerate(nodes)}
    found: list[LayerRow] = []
    held: list[Any] = []
    counted: set[Any] = set()
    here = below = 0
    for node in nodes:
        held += [one for one in dict.fromkeys(_constants(node, place)) if one not in counted]
        counted |= set(held)
        here += _multiply_adds(node, graph.images)
        named = [output for output in node.outputs() if output.get_names()]
        if not named:
            continue
        shape = graph.shape_of(named[0])
        below += here
        found.append(
            LayerRow(
                index=None,
                name=min(named[0].get_names()),
                kind=node.get_type_name(),
                output_shape=shape or (),
                parameters=sum(math.prod(one.output(0).shape) for one in held),
                trained=0,
                trainable=0,
                frozen=len(held),
                can_cut=place[node] in cuts and shape is not None,
                multiply_adds=here,
                multiply_adds_below=below,
                bytes=BYTES * math.prod(shape) if shape else 0,
            )
        )
        held, here = [], 0
    return found


def _below(node: Any) -> list[Any]:
    return [one.get_source_output().get_node() for one in node.inputs()]


def _constants(node: Any, depending: dict[Any, int]) -> list[Any]:
    """List the numbers that an operation takes, whatever brings them into their form."""
    found, waiting = [], _below(node)
    while waiting:
        one = waiting.pop()
        if one in depending:
            continue
        if one.get_type_name() == "Constant" and one.output(0).get_element_type().is_real():
            found.append(one)
        if one.get_type_name() != "ShapeOf":
            waiting += _below(one)
    return found


def _multiply_adds(node: Any, images: int) -> int:
    """Count the products for one image: as in the papers, those of convolutions and of matrices."""
    kind = node.get_type_name()
    if kind != "MatMul" and kind not in KERNELS:
        return 0
    leaving, entering = (one.get_partial_shape() for one in (node.output(0), node.input(0)))
    if leaving.is_dynamic or entering.is_dynamic:
        return 0
    leaving, entering = (tuple(one.to_shape()) for one in (leaving, entering))
    if kind == "MatMul":
        summed = entering[-2 if node.get_attributes().get("transpose_a") else -1]
        return int(math.prod(leaving) * summed // images)
    places = leaving if not kind.endswith("BackpropData") else entering
    return int(math.prod(places[2:]) * math.prod(node.input(1).get_shape()))
