"""A trunk in int8: calibrated on photos by NNCF, and kept in one file, whose sha256 is its identity.

The file is an archive of three, not compressed::

    model.xml, model.bin    OpenVINO's graph from pixels to the activations at the cut
    calibration.json        {"photos": [sha256, ...], "nncf": version}

The pooling is put on top when the graph is read: one graph serves every pooling, and maps of places.
"""

import contextlib
import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import openvino_file, without_telemetry
from pipeline.backbones.engines import onnx_pooling, operations
from pipeline.backbones.engines.graphs import GRAPH_FILES, GRAPH_IMAGES
from pipeline.backbones.engines.onnx_graph import require_bounded
from pipeline.errors import ArtefactError, InputError
from pipeline.storage import digests
from pipeline.storage.json_files import SHA256, TEXT, Document, each

CALIBRATION_FILE: Final = "calibration.json"
CALIBRATION: Final = Document("the calibration of a graph", "`hs.extract`", {"photos": each(SHA256), "nncf": TEXT})
LARGEST: Final = 2**31  # bytes; the largest base of the table has 0.4 GB in int8
_MADE: Final = (1980, 1, 1, 0, 0, 0)  # of each file in the archive: the same graph has the same sha256


def require_quantiser() -> None:
    """Raise InputError if NNCF is not installed."""
    try:
        without_telemetry.quantiser()
    except ImportError as error:
        raise InputError(
            "`precision`: int8 is calibrated by NNCF, which is not installed here: pip install 'headstart[int8]'"
        ) from error


def quantised(model: Any, pixels: NDArray[np.uint8]) -> Any:
    """Return a graph in int8: scales of its activations are read off photos, those of weights off the weights.

    Weights take half the range of int8. A processor without VNNI adds products in pairs of 16 bits, and larger ones
    would overflow there; so a graph says nearly the same on any processor.

    `model` goes from uint8 (b, size, size, 3) to activations, float32; the last batch of `pixels` (n, size, size, 3) is
    filled up with the first of them.
    """
    nncf = without_telemetry.quantiser()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from openvino._offline_transformations import apply_moc_transformations

    # A batch normalisation goes into the weights below it, as a compiler has it: else NNCF corrects no bias.
    apply_moc_transformations(model, cf=False, smart_reshape=False)
    images = int(model.input(0).shape[0])
    batches = -(-len(pixels) // images)
    filled = np.take(pixels, range(batches * images), axis=0, mode="wrap")
    with contextlib.redirect_stdout(io.StringIO()):  # its bars
        found = nncf.quantize(
            model,
            nncf.Dataset(list(filled.reshape(batches, images, *pixels.shape[1:]))),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=batches,
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix.ENABLE),
        )
    for place, node in enumerate(found.get_ordered_ops()):  # names count what the process made before
        node.set_friendly_name(f"{node.get_type_name()}_{place}")
    found.output(0).get_tensor().set_names({"activations"})
    return found


def write(model: Any, photos: Sequence[bytes], path: Path) -> None:
    """Write a graph, with the sha256 of each photo that it was calibrated on, to a file of its own.

    A disk that fails or is full is an OSError; of the graph's two files OpenVINO says it, as RuntimeError.
    """
    openvino, nncf = without_telemetry.openvino(), without_telemetry.quantiser()
    made = {"photos": [digest.hex() for digest in photos], "nncf": nncf.__version__}
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, zipfile.ZipFile(path, "w") as archive:
        openvino.save_model(model, Path(folder, GRAPH_FILES[0]), compress_to_fp16=False)
        members = {name: Path(folder, name).read_bytes() for name in GRAPH_FILES}
        for name, data in {**members, CALIBRATION_FILE: json.dumps(made).encode()}.items():
            member = zipfile.ZipInfo(name, _MADE)
            member.create_system = 3  # that of no machine in particular
            archive.writestr(member, data)


def photos(path: Path) -> list[bytes]:
    """Return the sha256 of each photo that a graph was calibrated on; ArtefactError if it is no such file."""
    made = CALIBRATION.parse(_members(path)[CALIBRATION_FILE], path)
    return [bytes.fromhex(digest) for digest in made["photos"]]


def read(path: Path, *, sha256: str, pooling: str) -> Any:
    """Return the graph of a file, from uint8 (n, size, size, 3), RGB, to float32 (n, …), with a pooling on top.

    ArtefactError if it is not the file of that sha256, or does more than compute; CutError if there is nothing to pool
    so at the cut.
    """
    if (received := digests.of_file(path)) != sha256:
        raise ArtefactError(f"{path}: expected a graph with sha256 {sha256}, received {received}")
    members = _members(path)
    described, weights = (members[name] for name in GRAPH_FILES)
    for fault in openvino_file.faults(described, repeats=False):
        raise ArtefactError(f"{path}: expected a graph that only computes, received {fault}; it was not loaded")
    try:
        model = without_telemetry.openvino().Core().read_model(described, weights)
        (entering,), (leaving,) = model.inputs, model.outputs
        takes_pixels = entering.get_element_type().get_type_name() == "u8" and entering.shape[0] in (1, GRAPH_IMAGES)
    except (RuntimeError, ValueError) as error:
        raise ArtefactError(f"{path}: OpenVINO cannot read it: {' '.join(str(error).split())}") from error
    require_bounded(model, path, entering.shape[0])
    if not takes_pixels or leaving.shape[0] != entering.shape[0]:
        raise ArtefactError(f"{path}: expected a graph from pixels to activations, received another")
    from openvino import opset8 as ops

    activations = leaving.get_node().input_value(0)
    pooled = onnx_pooling.pooled(ops, activations, tuple(activations.shape), False, "the cut", pooling)
    return operations.model(entering.get_node(), pooled, "trunk")


def _members(path: Path) -> dict[str, bytes]:
    """Return the files in an archive: these three, none of them compressed, so that what they take is seen before."""
    try:
        if path.stat().st_size > LARGEST:
            raise ArtefactError(f"{path}: expected a graph of at most {LARGEST:,} bytes, received a larger one")
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
            names = sorted(member.filename for member in found)
            if names != sorted((*GRAPH_FILES, CALIBRATION_FILE)) or any(member.compress_type for member in found):
                raise ArtefactError(f"{path}: expected a graph in int8 as `hs.extract` keeps it, received {names}")
            return {member.filename: archive.read(member) for member in found}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArtefactError(f"{path}: expected a graph in int8 as `hs.extract` keeps it: {error}") from error
