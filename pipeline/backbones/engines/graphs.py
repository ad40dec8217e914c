"""A trunk as an OpenVINO graph: built, kept in the cache, and read again."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pipeline.backbones import without_telemetry
from pipeline.errors import ArtefactError, HeadstartError
from pipeline.storage import digests
from pipeline.storage.atomic import published_folder
from pipeline.storage.json_files import SHA256, TEXT, Document, maybe

GRAPH_FILES: Final = ("model.xml", "model.bin")
DIGESTS_FILE: Final = "digests.json"
MADE_FOR: Final = "made_for"  # in the file of digests: the folder that the graph was made for
KEPT: Final = Document(
    "the digests of a graph", "`hs.extract`", {**dict.fromkeys(GRAPH_FILES, SHA256), MADE_FOR: maybe(TEXT)}
)
# Images in one run of a graph. The maps of four stay in a core's own cache, those of 32 do not: EfficientNet-Lite0 runs
# 1.2 times as fast so at float32 and 1.3 times at bfloat16; no network of the table was seen to lose.
GRAPH_IMAGES: Final = 4


def graph(build: Callable[[], Any], *, kept: Path | None) -> Any:
    """Return a trunk as an OpenVINO model: the one that was kept, or a new one, which is then kept.

    Converting what Keras built takes seconds and TensorFlow; reading takes neither.

    Parameters
    ----------
    build : callable
        Makes the trunk: a keras.Model from (n, size, size, 3) uint8 to (n, …) float32, or an openvino.Model that takes
        `GRAPH_IMAGES` images, or one.
    kept : Path or None
        A folder whose name stands for everything that shapes the graph; None keeps nothing.

    Returns
    -------
    openvino.Model
    """
    model = _read(kept) if kept else None
    if model is None:
        built = build()
        model = built if isinstance(built, without_telemetry.openvino().Model) else _convert(built)
        if kept:
            # A cache that is full or read-only costs seconds, not the run; OpenVINO says RuntimeError of a full disk.
            with contextlib.suppress(OSError, RuntimeError):
                _keep(model, kept)
    return model


def _convert(trunk: Any) -> Any:
    import tensorflow as tf

    signature = tf.TensorSpec((GRAPH_IMAGES, *trunk.input_shape[1:]), trunk.input.dtype)
    call = tf.function(lambda batch: trunk(batch, training=False), input_signature=[signature])
    return converted(call.get_concrete_function())


def converted(function: Any) -> Any:
    """Return a TensorFlow function, concrete and of one output, as an openvino.Model."""
    import tensorflow as tf

    openvino, convert_model = without_telemetry.openvino(), without_telemetry.converter()
    from openvino.frontend.tensorflow import node_decoder, utils

    decoder, values = node_decoder.TFGraphNodeDecoder, _values(function.graph)
    looked_up, searched = utils.get_environment_setup, vars(decoder)["get_variable"]
    # OpenVINO looks up TensorFlow's version by `exec`, whose names Python 3.13 does not keep.
    utils.get_environment_setup = lambda _: {"tensorflow": tf.__version__}
    # It searches all variables eleven times for each: of DenseNet121 three quarters of the time of converting it.
    decoder.get_variable = staticmethod(lambda operation: values.get(operation.outputs[0].name))
    try:
        # Weights that it shared would be gone once Keras' network is: features of other numbers.
        model = convert_model(function, share_weights=False)
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error):  # that of a user; OpenVINO takes it for a fault of the network
            raise KeyboardInterrupt from None
        raise
    finally:
        utils.get_environment_setup, decoder.get_variable = looked_up, searched
    # Activations with a gradient of their own (swish) leave outputs behind: keep the one the function returns.
    given = function.structured_outputs
    names = {function.outputs[0].name, *(given if isinstance(given, dict) else ())}
    (returned,) = (output.get_node() for output in model.outputs if names & output.names)
    return openvino.Model([returned], model.get_parameters())


def _values(graph: Any) -> dict[str, Any]:
    """Return what a TensorFlow graph takes from outside, by its name in the graph: the values of its variables."""
    read = {id(variable.handle): variable.read_value_no_copy for variable in graph.variables}
    captured = {inner.name: (id(outer), outer) for outer, inner in graph.captures}
    return {
        name: read[key]() if key in read else outer
        for name, (key, outer) in captured.items()
        if key in read or outer.dtype.name != "resource"
    }


def _keep(model: Any, folder: Path) -> None:
    openvino = without_telemetry.openvino()

    with published_folder(folder) as written:
        openvino.save_model(model, written / GRAPH_FILES[0], compress_to_fp16=False)
        found = {name: digests.of_file(written / name) for name in GRAPH_FILES}
        (written / DIGESTS_FILE).write_text(json.dumps({**found, MADE_FOR: _identity(folder)}))


def _read(folder: Path) -> Any:
    """Return the graph kept in a folder; None if there is none for this folder, as it was written: others go."""
    if not folder.exists():
        return None
    try:
        if KEPT.read(folder / DIGESTS_FILE).get(MADE_FOR) == _identity(folder) and not is_damaged(folder):
            return without_telemetry.openvino().Core().read_model(folder / GRAPH_FILES[0])
    except (HeadstartError, OSError, RuntimeError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return None


def is_damaged(folder: Path) -> bool:
    """Whether a kept graph is not as it was written, or was made for another folder. OpenVINO is not loaded.

    A graph from before folders were noted is sound by its digests, and made anew when it is wanted.
    """
    try:
        kept = KEPT.read(folder / DIGESTS_FILE)
        return kept.get(MADE_FOR) not in (None, _identity(folder)) or any(
            kept[name] != digests.of_file(folder / name) for name in GRAPH_FILES
        )
    except (ArtefactError, FileNotFoundError):
        return True


def _identity(folder: Path) -> str:
    """Return what tells one kept graph from another: the names of the trunk and of the engine with its version."""
    return f"{folder.parent.name}/{folder.name}"
