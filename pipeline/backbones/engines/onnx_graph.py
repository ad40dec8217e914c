"""An ONNX file as a base: cut at any tensor, and run by OpenVINO from photos to features.

A tensor with four axes is a map, one with three the tokens of a patch grid, with the class token and registers before
them, and one with two a row of features already.
"""

import difflib
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.backbones import onnx_file, without_telemetry
from pipeline.backbones.cutting import LAST4, NEAREST
from pipeline.backbones.engines import onnx_blocks, onnx_pooling, operations
from pipeline.backbones.engines.graphs import GRAPH_IMAGES
from pipeline.backbones.engines.onnx_graft import Graft
from pipeline.backbones.engines.onnx_operations import OnnxOperations
from pipeline.backbones.engines.operations import TO_CHANNELS_FIRST, TO_CHANNELS_LAST
from pipeline.backbones.layer_graph import articulation_points
from pipeline.backbones.scaling import Scaling
from pipeline.errors import CutError, WeightsError
from pipeline.wording import one_line

LARGEST_TENSOR: Final = 2**30  # bytes of one image; a map of 4,096 x 4,096 px in 16 channels
KINDS: Final = ("f32", "f16", "u8")


class OnnxGraph:
    """The graph of a file, for images of one size.

    Parameters
    ----------
    path : Path
    size : int
        Height and width of the images, px.
    scaling : Scaling
        How pixels enter.

    Attributes
    ----------
    images : int
        How many it takes at once.
    name : str
        Of the file.

    Raises
    ------
    WeightsError
        The file does more than compute, OpenVINO cannot take it, or not at that size, or it takes other than images.
    """

    def __init__(self, path: Path, *, size: int, scaling: Scaling) -> None:
        self._path, self._size, self._scaling = path, size, scaling
        self._data = onnx_file.read(path)
        self._model = self._read()
        self._entering = self._model.input(0)
        self.name = path.name

    def _read(self) -> Any:
        openvino = without_telemetry.openvino()
        try:
            model = openvino.Core().read_model(self._data)
            (entering,) = model.inputs
            shape = entering.get_partial_shape()
            self._channels_first = shape[1].is_static and shape[1].get_length() == 3
            images = GRAPH_IMAGES if shape[0].is_dynamic else shape[0].get_length()
            sides = [3, self._size, self._size] if self._channels_first else [self._size, self._size, 3]
            model.reshape([images, *sides])
        except (RuntimeError, ValueError) as error:
            raise WeightsError(
                f"{self._path}: OpenVINO cannot run it on images of {self._size} px: {one_line(error)}"
            ) from error
        if entering.get_element_type().get_type_name() not in KINDS:
            kind = entering.get_element_type().get_type_name()
            raise WeightsError(f"{self._path}: expected an input of {', '.join(KINDS)}, received one of {kind}")
        if images not in (1, GRAPH_IMAGES):
            raise WeightsError(
                f"{self._path}: expected a graph that takes any number of images, or one; it takes {images}"
            )
        self.images = images
        return model

    def ends(self) -> list[Any]:
        """Return the operations whose outputs leave the graph."""
        return [result.input_value(0).get_node() for result in self._model.get_results()]

    def shape_of(self, tensor: Any) -> tuple[int, ...] | None:
        """Return the shape of one image's part of a tensor, channels last; None if there is no such part.

        A map of one place counts as a row.
        """
        shape = tensor.get_partial_shape()
        if shape.is_dynamic or len(shape) not in (2, 3, 4) or shape[0].get_length() != self.images:
            return None
        sides = tuple(tensor.shape)[1:]
        if len(sides) == 3:
            first = onnx_pooling.is_channels_first(sides, self._channels_first)
            sides = (*sides[1:], sides[0]) if first else sides
        return sides[2:] if sides[:2] == (1, 1) else sides

    @cached_property
    def tensors(self) -> dict[str, Any]:
        """What depends on the image and has a name, the image first: openvino.Output."""
        return {name: output for output in self.depending for name in sorted(output.get_names())}

    @cached_property
    def depending(self) -> list[Any]:
        """All that depends on the image, each after what it is computed from. Its shape alone does not count."""
        found: list[Any] = []
        depending: set[Any] = set()
        for node in self._model.get_ordered_ops():
            kind = node.get_type_name()
            if kind == "Result" or not (
                kind == "Parameter"
                or (kind != "ShapeOf" and any(one.get_source_output() in depending for one in node.inputs()))
            ):
                continue
            found += node.outputs()
            depending |= set(node.outputs())
        return found

    def order(self) -> tuple[list[Any], set[int]]:
        """Return the operations on what depends on the image, and the places of those that all data passes through."""
        nodes = list(dict.fromkeys(output.get_node() for output in self.depending))
        place = {node: position for position, node in enumerate(nodes)}
        below = [[one.get_source_output().get_node() for one in node.inputs()] for node in nodes]
        parents = [[place[one] for one in each if one in place] for each in below]
        ends = sorted({place[node] for node in self.ends() if node in place})
        return nodes, set(articulation_points([*parents, ends]))

    def trunk(self, cuts: Sequence[tuple[str, str]]) -> tuple[Any, list[int]]:
        """Compute the features at each (cut, pooling), flattened and side by side if there are several.

        Returns
        -------
        model : openvino.Model
            From uint8 (n, size, size, 3), RGB, to float32 (n, …); n is 1 where the file has room for one image only.
        widths : list of int
            How many numbers of a row belong to each of `cuts`.

        Raises
        ------
        CutError
            There is no such tensor, or nothing to pool in it.
        """
        from openvino import opset8 as ops

        found = [self._tensor(cut) for cut, _ in cuts]
        if LAST4 in dict(cuts).values():
            found = [self._last_classes(cuts)]
        pixels = ops.parameter([self.images, self._size, self._size, 3], np.uint8, name="pixels")
        image = operations.scaled(
            ops, self._scaling, ops.transpose(ops.convert(pixels, np.float32), np.array(TO_CHANNELS_FIRST))
        )
        entering = image if self._channels_first else ops.transpose(image, np.array(TO_CHANNELS_LAST))
        kind = self._entering.get_element_type()
        if kind.get_type_name() != "f32":
            entering = ops.convert(entering, kind.get_type_name())
        taking = list(self._entering.get_target_inputs())
        for one in taking:
            one.replace_source_output(entering.output(0))
        leaving = []
        for output, (cut, pooling) in zip(found, cuts, strict=True):
            tensor = image.output(0) if output == self._entering else output
            if tensor.get_element_type().get_type_name() != "f32":
                tensor = ops.convert(tensor, np.float32).output(0)
            leaving.append(onnx_pooling.pooled(ops, tensor, tuple(tensor.shape), self._channels_first, cut, pooling))
        row = leaving[0] if len(leaving) == 1 else operations.row(ops, leaving)
        model = operations.model(pixels, row, f"{self.name}_trunk")
        model.validate_nodes_and_infer_types()
        require_bounded(model, self._path, self.images)
        return model, [math.prod((one if hasattr(one, "shape") else one.output(0)).shape[1:]) for one in leaving]

    def _tensor(self, cut: str) -> Any:
        output = self.tensors.get(cut)
        if output is None:
            near = difflib.get_close_matches(cut, self.tensors, n=NEAREST, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            expected = f"one of the {len(self.tensors):,} tensors of {self.name}, which `hs.backbones` lists"
            raise CutError.of("cut", expected, f"{cut!r}{hint}")
        shape = output.get_partial_shape()
        if shape.is_dynamic or len(shape) < 2 or shape[0].get_length() != self.images:
            raise CutError.of("cut", "a tensor with one row an image", f"{cut!r} of shape {shape}")
        return output

    def _last_blocks(self, cuts: Sequence[tuple[str, str]]) -> onnx_blocks.LastBlocks:
        if len(cuts) > 1 or not any(cuts[0][0] in node.output(0).get_names() for node in self.ends()):
            raise CutError.of("pooling", "another but at the top, alone", repr(LAST4))
        return onnx_blocks.last(self)

    def _last_classes(self, cuts: Sequence[tuple[str, str]]) -> Any:
        """Let what follows the last blocks follow their class tokens, (n, 4, C); return what comes of these."""
        from openvino import opset8 as ops

        blocks = self._last_blocks(cuts)
        following = list(self.tensors[blocks.ends[-1]].get_target_inputs())
        classes = onnx_pooling.classes(ops, [self.tensors[end] for end in blocks.ends]).output(0)
        for one in following:
            one.replace_source_output(classes)
        return self.tensors[blocks.normed] if blocks.normed else classes

    def in_onnx(self, ops: OnnxOperations, planes: Any, cut: str, pooling: str) -> Any:
        """Write what lies below the head in ONNX's operators: the file's own nodes up to the cut, and the pooling.

        Parameters
        ----------
        ops : OnnxOperations
        planes : Tensor
            Float32 (n, 3, size, size), 0…255.
        cut, pooling : str
            As for `trunk`.

        Returns
        -------
        Tensor
            Features, float32 (n, …).

        Raises
        ------
        CutError, WeightsError
            As for `trunk`; or the file takes one image at a time, or is too old.
        """
        if self.images == 1:
            raise WeightsError(
                f"{self._path}: expected a graph that takes any number of images, as an export does, received one that "
                "takes 1: write it anew with an open first axis"
            )
        output = self._tensor(cut)
        blocks = self._last_blocks([(cut, pooling)]) if pooling == LAST4 else None
        kinds = {name: one.get_element_type().to_dtype() for name, one in self.tensors.items()}
        shape, takes_first = tuple(output.shape), output == self._entering
        (entering, *_), kind = self._entering.get_names(), self._entering.get_element_type().to_dtype()
        self.trunk([(cut, pooling)])  # which tells what is wrong
        image = operations.scaled(ops, self._scaling, planes)
        placed = image if self._channels_first else ops.transpose(image, np.array(TO_CHANNELS_LAST))
        graft = Graft(ops, self._data, {entering: ops.convert(placed, kind)})
        if blocks:
            classes = onnx_pooling.classes(ops, [graft.tensor(end, kinds[end]) for end in blocks.ends])
            graft.known[blocks.ends[-1]] = classes
            tensor = graft.tensor(blocks.normed, kinds[blocks.normed]) if blocks.normed else classes
            shape = (shape[0], len(blocks.ends), 0)
        else:
            tensor = image if takes_first else graft.tensor(cut, kinds[cut])
            shape = (shape[0], 3, self._size, self._size) if takes_first else shape
        return onnx_pooling.pooled(ops, ops.convert(tensor, np.float32), shape, self._channels_first, cut, pooling)


def require_bounded(model: Any, path: Path, images: int) -> None:
    """Raise WeightsError if some tensor would have an unknown size, or more than a machine has room for."""
    for node in model.get_ordered_ops():
        for output in node.outputs():
            shape = output.get_partial_shape()
            if shape.is_dynamic:
                what = f"{shape}, which the image decides"
            elif math.prod(output.shape) * output.get_element_type().size > LARGEST_TENSOR * images:
                what = f"{shape}, more than {LARGEST_TENSOR:,} bytes an image"
            else:
                continue
            raise WeightsError(f"{path}: expected bounded tensors, received {node.get_friendly_name()} of shape {what}")
