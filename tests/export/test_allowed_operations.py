"""A graph that does more than compute is refused by its name before a runtime loads it, whatever the digests say."""

import hashlib
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner

from pipeline.errors import ArtefactError
from pipeline.export import allowed_operations, bundle, export, exported_model, formats
from pipeline.export.settings import ExportSettings
from pipeline.storage import strict_json
from pipeline.storage.json_files import publish
from stages.predict import predict
from tests import fakes
from tests.models import test_store

CLASSES = ["a", "b", "c"]
Make = Callable[[Path, Path], None]


@pytest.fixture(autouse=True, scope="module")
def small_base(table_of_backbones: None) -> None:
    fakes.register_tiny()


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of our own in every format whose file the cases below change."""
    place = tmp_path_factory.mktemp("ours")
    test_store.save(place / "model", calibrated=None)
    settings = ExportSettings(format=("saved_model", "onnx", "keras", "openvino"), quantize=("none",), cache=None)
    export.export(place / "model", place / "out", settings, progress=lambda done, total: None)
    return place / "out"


def mail(here: Path, name: str) -> Path:
    """Write export.json with the right digests, as one would who wants the file of this format to be taken."""
    row = formats.FORMATS[name]
    files = {
        file.relative_to(here).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in bundle.files_of(here, row)
    }
    document = {"format": 1, "classes": CLASSES, "size": test_store.SIZE, "resize": "squash", "threshold": None}
    publish(here / "export.json", document | {"formats": {name: {"files": files}}})
    return here / row.path


def a_saved_model(body: Callable[[Any, str], object]) -> Make:
    """A SavedModel whose signature does what `body` does with TensorFlow and a path, in a function in a function."""

    def make(here: Path, mark: Path) -> None:
        import tensorflow as tf

        @tf.function
        def inner() -> Any:
            body(tf, str(mark))
            return tf.constant(0.0)

        @tf.function
        def outer() -> Any:
            return tf.cond(tf.constant(True), inner, lambda: tf.constant(1.0))

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
        def call(pixels: Any) -> dict[str, Any]:
            return {"probabilities": tf.fill((tf.shape(pixels)[0], 3), outer() + 1 / 3)}

        module = tf.Module()
        module.call = call
        tf.saved_model.save(module, str(here / "saved_model"), signatures={"pixels": call})
        (here / "saved_model/fingerprint.pb").unlink()

    return make


def table_of_a_file(tf: Any, mark: str) -> object:
    Path(mark).with_name("read").write_text("a")
    kind = tf.lookup.TextFileIndex
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    return tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=mark, key_index=kind.WHOLE_LINE, value_index=kind.LINE_NUMBER
    )


def saved_by(change: Callable[[Any], None]) -> Make:
    """Our SavedModel with its protocol buffer changed."""

    def make(here: Path, mark: Path) -> None:
        from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

        path = here / "saved_model/saved_model.pb"
        document = SavedModel.FromString(path.read_bytes())
        change(document.meta_graphs[0])
        path.write_bytes(document.SerializeToString())

    return make


def call_the_saver(graph: Any) -> None:
    """Let the first function that calls another one call that which writes variables."""
    saver = next(f.signature.name for f in graph.graph_def.library.function if "traced_save" in f.signature.name)
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.attr["f"].func.name:
                node.attr["f"].func.name = saver
                return


def offer_the_saver(graph: Any) -> None:
    saver = next(f.signature.name for f in graph.graph_def.library.function if "traced_save" in f.signature.name)
    graph.object_graph_def.concrete_functions[saver].SetInParent()


def onnx_by(change: Callable[[Any, Any], None]) -> Make:
    def make(here: Path, mark: Path) -> None:
        import onnx

        model = onnx.load(here / "model.onnx")
        change(onnx, model.graph)
        (here / "model.onnx").write_bytes(model.SerializeToString())

    return make


def tensor_outside(onnx: Any, graph: Any) -> None:
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")


def tensor_outside_in_a_branch(onnx: Any, graph: Any) -> None:
    tensor = onnx.helper.make_tensor("hidden", onnx.TensorProto.FLOAT, [1], [1.0])
    tensor_outside(onnx, onnx.helper.make_graph([], "g", [], [], [tensor]))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    output = onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [1])
    branch = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["hidden"], ["o"])], "b", [], [output], [tensor])
    graph.node.append(onnx.helper.make_node("If", ["c"], ["r"], then_branch=branch, else_branch=branch))


def custom_operation(onnx: Any, graph: Any) -> None:
    graph.node.append(onnx.helper.make_node("PyOp", ["pixels"], ["x"], domain="ai.onnx.contrib"))


def a_tflite(flex: bool) -> Make:
    def make(here: Path, mark: Path) -> None:
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
        def call(pixels: Any) -> Any:
            with tf.control_dependencies([tf.io.write_file(str(mark), "x")]):
                return tf.cast(pixels, tf.float32)

        converter = tf.lite.TFLiteConverter.from_concrete_functions([call.get_concrete_function()], tf.Module())
        converter.allow_custom_ops = not flex
        if flex:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        (here / "model.tflite").write_bytes(converter.convert())

    return make


def keras_lambda(here: Path, mark: Path) -> None:
    import keras

    pixels = keras.Input((None, None, 3), dtype="uint8")
    keras.Model(pixels, keras.layers.Lambda(lambda x: x, output_shape=(3,))(pixels)).save(here / "model.keras")


def keras_by(change: Callable[[dict[str, bytes]], None]) -> Make:
    def make(here: Path, mark: Path) -> None:
        path = here / "model.keras"
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        change(members)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return make


def a_gadget(members: dict[str, bytes]) -> None:
    config = json.loads(members["config.json"])
    gadget = {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"}
    config["config"]["layers"][0]["config"]["initializer"] = gadget
    members["config.json"] = json.dumps(config).encode()


def an_asset(members: dict[str, bytes]) -> None:
    members["assets/../../../evil"] = b""


def a_bomb(members: dict[str, bytes]) -> None:
    members["metadata.json"] = bytes(strict_json.LARGEST + 1)


def a_link(members: dict[str, bytes]) -> None:
    import io

    data = io.BytesIO(members["model.weights.h5"])
    with h5py.File(data, "a") as file:
        file["layers/x"] = h5py.ExternalLink("/etc/passwd", "/")
    members["model.weights.h5"] = data.getvalue()


def xml_by(before: str, after: str) -> Make:
    def make(here: Path, mark: Path) -> None:
        path = here / "model.xml"
        path.write_text(path.read_text().replace(before, after, 1))

    return make


def another_format(here: Path, mark: Path) -> None:
    shutil.copyfile(here / "model.onnx", here / "model.xml")


def another_file(here: Path, mark: Path) -> None:
    (here / "saved_model/assets").mkdir(exist_ok=True)
    (here / "saved_model/assets/words.txt").write_text("a")


EVIL: dict[str, tuple[str, Make, str]] = {
    "writes": ("saved_model", a_saved_model(lambda tf, mark: tf.io.write_file(mark, "x")), "the operation WriteFile"),
    "reads": ("saved_model", a_saved_model(lambda tf, mark: tf.io.read_file("/etc/passwd")), "the operation ReadFile"),
    "Python": (
        "saved_model",
        a_saved_model(lambda tf, mark: tf.py_function(lambda: Path(mark).touch(), [], [])),
        "the operation EagerPyFunc",
    ),
    "saves": (
        "saved_model",
        a_saved_model(
            lambda tf, mark: tf.raw_ops.SaveV2(prefix=mark, tensor_names=["a"], shape_and_slices=[""], tensors=[1.0])
        ),
        "the operation SaveV2",
    ),
    "prints": (
        "saved_model",
        a_saved_model(lambda tf, mark: tf.print("x", output_stream=f"file://{mark}")),
        "the operation (StringFormat|PrintV2)",
    ),
    "lists": (
        "saved_model",
        a_saved_model(lambda tf, mark: tf.io.matching_files("/etc/*")),
        "the operation MatchingFiles",
    ),
    "a table": ("saved_model", a_saved_model(table_of_a_file), "the operation (HashTableV2|InitializeTable)"),
    "calls the saver": ("saved_model", saved_by(call_the_saver), "a call of __inference__traced_save"),
    "offers the saver": ("saved_model", saved_by(offer_the_saver), "the function __inference__traced_save"),
    "TensorFlow 1": ("saved_model", saved_by(lambda g: g.ClearField("object_graph_def")), "several graphs, or one of"),
    "an asset": ("saved_model", saved_by(lambda g: g.asset_file_def.add(filename="../x")), "other files to read"),
    "another file": ("saved_model", another_file, "the file assets/words.txt"),
    "ONNX, outside": ("onnx", onnx_by(tensor_outside), "the tensor .* in another file"),
    "ONNX, outside, nested": ("onnx", onnx_by(tensor_outside_in_a_branch), "the tensor hidden in another file"),
    "ONNX, custom": ("onnx", onnx_by(custom_operation), "the operation ai.onnx.contrib.PyOp"),
    "TFLite, flex": ("tflite", a_tflite(True), "the operation CUSTOM FlexWriteFile"),
    "TFLite, custom": ("tflite", a_tflite(False), "the operation CUSTOM WriteFile"),
    "Keras, Lambda": ("keras", keras_lambda, "an object of keras.layers.Lambda"),
    "Keras, a function": ("keras", keras_by(a_gadget), "an object of builtins.function"),
    "Keras, an asset": ("keras", keras_by(an_asset), "the file assets/"),
    "Keras, a bomb": ("keras", keras_by(a_bomb), "a description of more than 16,777,216 bytes"),
    "Keras, a link": ("keras", keras_by(a_link), r"a link \(ExternalLink\)"),
    "OpenVINO, an extension": (
        "openvino",
        xml_by('version="opset1"', 'version="extension"'),
        "the operation extension.",
    ),
    "OpenVINO, an element of another namespace": (
        "openvino",
        xml_by('version="opset1"', 'version="extension" xmlns="x"'),
        "the element {x}layer",
    ),
    "OpenVINO, a DOCTYPE": ("openvino", xml_by("<net", "<!DOCTYPE net><net"), "a DOCTYPE"),
    "OpenVINO, another format": ("openvino", another_format, "expected a file that its runtime can run"),
}


@pytest.mark.parametrize("name", ["saved_model", "onnx", "keras", "openvino"])
def test_what_we_export_passes(name: str, ours: Path) -> None:
    row = formats.FORMATS[name]
    allowed_operations.require_harmless(ours / row.path, row.runtime)


@pytest.mark.parametrize("what", EVIL)
def test_a_graph_that_does_more_than_compute_is_refused_by_its_name_and_nothing_is_written(
    what: str, ours: Path, tmp_path: Path
) -> None:
    name, make, message = EVIL[what]
    here, mark = tmp_path / "here", tmp_path / "written"
    here.mkdir()
    for path in (ours / formats.FORMATS[name].path, *(ours.glob("model.*"))):  # of ours, for those that change it
        if path.is_dir() and what not in ("writes", "reads", "Python", "saves", "prints", "lists", "a table"):
            shutil.copytree(path, here / path.name)
        elif path.is_file():
            shutil.copy(path, here)
    make(here, mark)
    file = mail(here, name)
    with pytest.raises(ArtefactError, match=rf"^{re.escape(str(file))}: .*{message}"):
        list(exported_model.ExportedEngine(*exported_model.chosen(file)).run([test_store.pixels(1)]))
    assert not mark.exists()


def test_predict_says_in_one_line_what_a_graph_wanted(tmp_path: Path) -> None:
    make = a_saved_model(lambda tf, mark: tf.io.write_file(mark, "x"))
    make(tmp_path, tmp_path / "written")
    mail(tmp_path, "saved_model")
    photo = fakes.write_photo(tmp_path / "photo.png", 1)
    ran = CliRunner().invoke(predict, [str(tmp_path), str(photo)])
    assert (ran.exit_code, ran.stderr.count("\n"), "the operation WriteFile" in ran.stderr) == (1, 1, True), ran.stderr
    assert not (tmp_path / "written").exists()
