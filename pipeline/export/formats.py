"""The formats that a graph is written in: a file or a folder each, what makes it, and what it takes to run it.

The same command on the same model writes the same bytes on one machine: dates, addresses and counts of what the
process did before are taken out of the files. In a SavedModel and in TFLite such counts stay, in names of functions, so
there bytes also depend on which formats were written before. The converter to ONNX gives the same graph in another
order of its nodes each time, which `onnx_names` settles.
"""

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import without_telemetry
from pipeline.backbones.engines.graphs import converted
from pipeline.backbones.engines.onnx_operations import OPSET
from pipeline.export import onnx_names, web_page
from pipeline.export.build_graph import IMAGE_BYTES, PIXELS, PROBABILITIES, Graph
from pipeline.export.settings import Quantization

ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP file can hold
Samples = Callable[[], Iterator[NDArray[np.uint8]]]


@dataclass(frozen=True)
class Materials:
    """What some formats are made of, besides the graph.

    Attributes
    ----------
    samples : callable or None
        For int8: yields the images (1, size, size, 3) to calibrate on.
    runtime : Path or None
        For web: of `pipeline.export.web_page.package`.
    """

    samples: Samples | None = None
    runtime: Path | None = None


@dataclass(frozen=True)
class Format:
    """One way to write a graph.

    Attributes
    ----------
    name : str
        As a user writes it; of a quantised TFLite file, with the kind behind a hyphen.
    path : str
        Of the file, or the folder, in the folder of an export.
    needs : tuple of str
        Modules that write it and run it, besides Keras and TensorFlow.
    runtime : str
        What runs it: a name in `pipeline.export.runtimes.MODULES`.
    write : callable
        Takes a Graph, the path and the materials.
    size : {"any", "model"}
        Whether it takes images of any size or only squares of the model's.
    exact : bool
        Whether its arithmetic is the model's, float32.
    of_list : tuple of str or None
        Modules that write it and run it, where the base lists its layers; None if it takes Keras all the same.
    """

    name: str
    path: str
    needs: tuple[str, ...]
    runtime: str
    write: Callable[[Graph, Path, Materials], None]
    size: Literal["any", "model"] = "any"
    exact: bool = True
    of_list: tuple[str, ...] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that is written, files and folders; OpenVINO's weights lie beside its graph."""
        return ("model.xml", "model.bin") if self.name == "openvino" else (Path(self.path).parts[0],)

    def modules(self, *, listed: bool) -> tuple[str, ...]:
        """Name what writes it and runs it, for a base that lists its layers or not."""
        return self.of_list if listed and self.of_list else ("keras", "tensorflow", *self.needs)


def _keras(graph: Graph, path: Path, materials: Materials) -> None:
    graph.functional().save(path)
    _undated(path)


def _undated(path: Path) -> None:
    """Write a .keras file again without the dates and the addresses in memory that Keras puts into it."""
    with zipfile.ZipFile(path) as dated:
        parts = {name: dated.read(name) for name in dated.namelist()}
    metadata = json.loads(parts["metadata.json"])
    parts["metadata.json"] = json.dumps({**metadata, "date_saved": None}, sort_keys=True).encode()
    addresses: dict[bytes, int] = {}
    parts["config.json"] = re.sub(
        rb'("shared_object_id": )(\d+)',
        lambda found: b"%b%d" % (found[1], addresses.setdefault(found[2], len(addresses))),
        parts["config.json"],
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(parts):
            file.writestr(zipfile.ZipInfo(name, ZIP_DATE), parts[name])


def _saved_model(graph: Graph, path: Path, materials: Materials) -> None:
    import tensorflow as tf

    module = graph.module()
    signatures = {PIXELS: graph.of_one_or_more(), IMAGE_BYTES: graph.of_files()}
    tf.saved_model.save(module, str(path), signatures=signatures)
    (path / "fingerprint.pb").unlink(missing_ok=True)  # random, and needed by nobody


def _tflite(quantize: Quantization) -> Callable[[Graph, Path, Materials], None]:
    def write(graph: Graph, path: Path, materials: Materials) -> None:
        import tensorflow as tf

        module = graph.module()
        # In int8 the whole numbers of the resize would be rounded, too: the graph starts behind it.
        module.function = graph.of_squares() if quantize == "int8" else graph.of_pixels(branches=True)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([module.function], module)
        if quantize != "none":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "int8":
            if (samples := materials.samples) is None:
                raise ValueError("int8 without samples")
            converter.representative_dataset = lambda: ([batch] for batch in samples())
        path.write_bytes(converter.convert())

    return write


def _onnx(graph: Graph, path: Path, materials: Materials) -> None:
    import onnx

    written = graph.onnx() if graph.is_listed else _converted_to_onnx(graph)
    onnx.checker.check_model(written, full_check=graph.is_listed)
    path.write_bytes(written.SerializeToString(deterministic=True))


def _web(graph: Graph, path: Path, materials: Materials) -> None:
    if materials.runtime is None:
        raise ValueError("web without its runtime")
    path.parent.mkdir()
    _onnx(graph, path, materials)
    web_page.write(path.parent, graph.model, materials.runtime)


def _converted_to_onnx(graph: Graph) -> Any:
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # Frozen here: tf2onnx takes small constants of the trace, such as the mean colour of a preprocessing, for inputs.
    frozen = convert_variables_to_constants_v2(graph.of_pixels(branches=True), lower_control_flow=False)
    (output,) = frozen.outputs
    written, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name="headstart",
        input_names=[f"{PIXELS}:0"],
        output_names=[output.name],
        tensors_to_rename={f"{PIXELS}:0": PIXELS, output.name: PROBABILITIES},
        opset=OPSET,
    )
    onnx_names.settle(written)
    (entering,), (leaving,) = written.graph.input, written.graph.output
    _name_sides(entering, ("n", "height", "width"))
    _name_sides(leaving, ("n",))
    return written


def _name_sides(value: Any, names: Sequence[str]) -> None:
    for side, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
        side.dim_param = name


def _openvino(graph: Graph, path: Path, materials: Materials) -> None:
    openvino = without_telemetry.openvino()
    if graph.is_listed:
        model = openvino.Core().read_model(graph.onnx().SerializeToString())
    else:
        model = converted(graph.of_pixels(branches=False))
    model.inputs[0].set_names({PIXELS})
    model.outputs[0].set_names({PROBABILITIES})
    model.set_friendly_name("headstart")
    for place, step in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Z][A-Za-z]*_\d+", step.get_friendly_name()):
            step.set_friendly_name(f"{step.get_type_name()}_{place}")
    openvino.save_model(model, path, compress_to_fp16=False)


_LITE: Final = ("ai_edge_litert",)
_ONNX: Final = ("onnx", "onnxruntime", "tf2onnx")
FORMATS: Final[Mapping[str, Format]] = {
    row.name: row
    for row in (
        Format("keras", "model.keras", (), "keras", _keras),
        Format("saved_model", "saved_model", (), "tensorflow", _saved_model),
        Format("tflite", "model.tflite", _LITE, "litert", _tflite("none")),
        Format("tflite-dynamic", "model-dynamic.tflite", _LITE, "litert", _tflite("dynamic"), exact=False),
        Format("tflite-int8", "model-int8.tflite", _LITE, "litert", _tflite("int8"), exact=False, size="model"),
        Format("onnx", "model.onnx", _ONNX, "onnxruntime", _onnx, of_list=_ONNX[:2]),
        Format("web", "web/model.onnx", _ONNX, "onnxruntime", _web, of_list=_ONNX[:2]),
        Format("openvino", "model.xml", ("openvino",), "openvino", _openvino, of_list=("onnx", "openvino")),
    )
}
