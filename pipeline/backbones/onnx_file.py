"""An ONNX file, read as data: what is in it, and whether it does no more than compute.

A file from anywhere may name libraries as operations, keep its tensors in other files, or loop without end. So it is
looked through before any runtime reads it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.backbones import graph_notes
from pipeline.backbones.scaling import Scaling
from pipeline.errors import WeightsError

LARGEST: Final = 2**31  # bytes: a message of protocol buffers holds no more
DOMAINS: Final = ("", "ai.onnx")
# Of photos in 0…255: what ONNX calls the range that an image is brought to, and scale and offset for it.
RANGES: Final = {
    "NominalRange_0_255": (1.0, 0.0),
    "Normalized_0_1": (1 / 255, 0.0),
    "Normalized_1_1": (2 / 255, -1.0),
    "NominalRange_16_235": (219 / 255, 16.0),
}
ORDERS: Final = {"Rgb8": "rgb", "Bgr8": "bgr"}
ONE_FILE: Final = "write it as one file: torch.onnx.export(..., external_data=False), or onnx.save(onnx.load(...), ...)"


@dataclass(frozen=True)
class Described:
    """What a file says of itself.

    Attributes
    ----------
    input, outputs : str, tuple of str
        Names of tensors.
    size : int or None
        Height and width of the images, px; None if the file leaves them open.
    scaling : Scaling or None
        How pixels enter: a file may say it in its metadata, in our words or ONNX's, and a graph of bytes takes them as
        they are.
    resize, interpolation : str or None
        How photos become squares; None if the file does not say it.
    """

    input: str
    outputs: tuple[str, ...]
    size: int | None
    scaling: Scaling | None
    resize: str | None
    interpolation: str | None


def read(path: Path) -> bytes:
    """Return the bytes of a file whose graph only computes, as `faults` tells.

    WeightsError, which names what it is, if it is not there, no ONNX, or does more.
    """
    return _read(path)[0]


def describe(path: Path) -> Described:
    """Return what a file says of its one image input and of its outputs; errors as for `read`, and for other inputs."""
    from onnx import TensorProto

    model = _read(path)[1]
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        found = ", ".join(value.name for value in inputs) or "none"
        raise WeightsError(f"{path}: expected a graph with one input, an image, received inputs {found}")
    tensor = inputs[0].type.tensor_type
    sides = [side.dim_value if side.dim_value > 0 else None for side in tensor.shape.dim]
    if len(sides) != 4 or 3 not in (sides[1], sides[3]):
        shape = ", ".join("?" if side is None else str(side) for side in sides)
        raise WeightsError(
            f"{path}: expected an input of shape (n, 3, height, width) or (n, height, width, 3), received ({shape})"
        )
    height, width = sides[2:] if sides[1] == 3 else sides[1:3]
    if height and width and height != width:
        raise WeightsError(f"{path}: expected an input of square images, received {height} x {width} px")
    outputs = tuple(value.name for value in model.graph.output)
    told = {entry.key: entry.value for entry in model.metadata_props}
    notes = graph_notes.read(told)
    scale = RANGES.get(told.get("Image.NominalPixelRange", ""))
    order = ORDERS.get(told.get("Image.BitmapPixelFormat", "Rgb8"))
    scaling = Scaling.of(*scale, order) if scale and order else None
    if tensor.elem_type == TensorProto.UINT8 and order:
        scaling = scaling or Scaling.of(1.0, 0.0, order)
    return Described(
        inputs[0].name, outputs, height or width, notes.scaling or scaling, notes.resize, notes.interpolation
    )


def _read(path: Path) -> tuple[bytes, Any]:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError as error:
        raise WeightsError(
            f"{path}: the package onnx looks through it, and is not installed; the extra export"
        ) from error
    if path.stat().st_size > LARGEST:
        raise WeightsError(f"{path}: expected an ONNX file of at most {LARGEST:,} bytes, received a larger one")
    data = path.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise WeightsError(f"{path}: expected an ONNX file, received another kind, or a part of one") from error
    if not model.graph.node:
        raise WeightsError(f"{path}: expected an ONNX file with a graph, received none")
    for fault in (*faults(model), *_of_control(model)):
        remedy = f"; {ONE_FILE}" if fault.endswith("in another file") else ""
        raise WeightsError(f"{path}: expected a graph that only computes, received {fault}; it was not loaded{remedy}")
    return data, model


def faults(model: Any) -> Iterator[str]:
    """Yield whatever in an onnx.ModelProto is more than ONNX's own operations on tensors of its own."""
    import onnx

    for part in _messages(model):
        if isinstance(part, onnx.NodeProto) and part.domain not in DOMAINS:
            yield f"the operation {part.domain}.{part.op_type}"
        elif isinstance(part, onnx.TensorProto) and (part.external_data or part.data_location):
            yield f"the tensor {part.name} in another file"


def _of_control(model: Any) -> Iterator[str]:
    """Yield what decides how often something is computed: nobody could tell memory and time beforehand."""
    import onnx

    if model.functions:
        yield f"a function of its own, {model.functions[0].name}"
    for part in _messages(model):
        if isinstance(part, onnx.NodeProto) and any(each.HasField("g") or each.graphs for each in part.attribute):
            yield f"the operation {part.op_type}, which repeats or chooses"


def _messages(message: Any) -> Iterator[Any]:
    """Yield a message of ONNX and all that are in it, those of graphs in attributes of operations too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(each)
