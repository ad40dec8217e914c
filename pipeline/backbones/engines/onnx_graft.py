"""Nodes of an ONNX file, put into a graph that is being written: those that a tensor takes, and no others."""

from collections.abc import Mapping
from typing import Any

from pipeline.backbones.engines.onnx_operations import OPSET, OnnxOperations, Tensor
from pipeline.backbones.onnx_file import DOMAINS
from pipeline.errors import WeightsError
from pipeline.wording import one_line


class Graft:
    """A file's graph on tensors of another.

    Parameters
    ----------
    ops : OnnxOperations
        Which gets the opset of the file, if that is later.
    data : bytes
        Of a file that was looked through.
    entering : mapping of str to Tensor
        What stands in the place of its tensors, by their names; more may be put there between calls.

    Raises
    ------
    WeightsError
        The file is for an opset before `OPSET`, and ONNX cannot bring it up to that.
    """

    def __init__(self, ops: OnnxOperations, data: bytes, entering: Mapping[str, Tensor]) -> None:
        import onnx

        model = onnx.load_model_from_string(data)
        version = max(one.version for one in model.opset_import if one.domain in DOMAINS)
        if version < OPSET:
            model = _converted(model, version)
        self._ops, self.known = ops, dict(entering)
        ops.opset = max(version, OPSET)
        self._nodes = list(model.graph.node)
        self._constants = {one.name: one for one in model.graph.initializer}
        self._makers = {name: place for place, node in enumerate(self._nodes) for name in node.output if name}

    def tensor(self, name: str, dtype: Any) -> Tensor:
        """Return a tensor of the file, after all that it takes and that is not there yet was put in."""
        needed, waiting = set(), [name]
        while waiting:
            place = self._makers.get(one := waiting.pop())
            if one in self.known or place is None or place in needed:
                continue
            needed.add(place)
            waiting += self._nodes[place].input
        for place in sorted(needed):
            self._put(self._nodes[place])
        return Tensor(self._ops, self._named(name), dtype)

    def _put(self, node: Any) -> None:
        """Copy a node, without what its writer noted of where it came from."""
        entering = [self._named(name) for name in node.input]
        copied = type(node)(op_type=node.op_type, input=entering, output=[self._named(name) for name in node.output])
        copied.attribute.extend(node.attribute)
        copied.name = next(filter(None, copied.output))
        self._ops.nodes.append(copied)

    def _named(self, name: str) -> str:
        from onnx import numpy_helper

        if name and name not in self.known:
            self.known[name] = Tensor(self._ops, f"base_{len(self.known)}", "float32")
            if name in self._constants:
                self._ops.constants[self.known[name].name] = numpy_helper.to_array(self._constants[name])
        return self.known[name].name if name else ""


def _converted(model: Any, version: int) -> Any:
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises anything
        said = one_line(error)[:200]
        raise WeightsError(
            f"expected a graph of opset {OPSET} or later, received one of {version} that ONNX cannot convert: {said}"
        ) from error
