"""What a user can ask of the engine that runs a base."""

from typing import Any, Final, Literal

from pipeline.setting import setting

EngineName = Literal["auto", "tensorflow", "openvino"]
Arithmetic = Literal["float32", "bfloat16", "float16"]
Precision = Literal[Arithmetic, "int8"]
Pooling = Literal["avg", "max", "grid2", "grid3", "flatten", "none", "cls", "cls+mean", "last4"]
GRAPHS: Final = ("onnx",)


def graph_file(backbone: str) -> tuple[str, str] | None:
    """Return the kind of graph and the file that a name such as ``onnx:FILE`` means; None for any other name."""
    kind, _, file = backbone.partition(":")
    return (kind, file) if kind in GRAPHS and file else None


def engine_setting() -> Any:
    """Return the setting that says what runs a network, of all stages that run one."""
    return setting("auto", "Library that runs the network; auto is OpenVINO on a CPU, TensorFlow on a GPU.")


def batch_size_setting(**more: Any) -> Any:
    """Return the setting of the images that run at once; it changes speed and memory only."""
    return setting(32, "Images per batch.", least=1, **more)
