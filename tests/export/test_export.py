"""An exported file is the model: the same pixels, the same probabilities, by its own runtime, without us."""

import csv
import dataclasses
import errno
import hashlib
import importlib.util
import io
import json
import random
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial, partialmethod
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.backbones import cutting, weights
from pipeline.backbones.engines.onnx_operations import OnnxOperations
from pipeline.backbones.table import BACKBONES
from pipeline.errors import ArtefactError, HeadstartError, InputError
from pipeline.export import (
    build_graph,
    bundle,
    export,
    exported_model,
    formats,
    in_graph_resizing,
    onnx_names,
    parity,
    runtimes,
)
from pipeline.export.settings import ExportSettings, FormatName
from pipeline.inference.load import load
from pipeline.models import assemble, model, store
from pipeline.models.settings import Runtime
from pipeline.photos import decode, manifest, squares
from pipeline.photos.manifest import Row
from pipeline.storage.json_files import publish
from stages.export import export as command
from stages.predict import predict
from tests import fakes
from tests.models import test_store

CLASSES = ["a", "b", "c"]
SIZE = test_store.SIZE
SIDES = [(40, 30), (30, 95), (64, 64), (32, 32), (7, 50), (120, 41)]  # width, height; the second: rows first
FLOAT = ("saved_model", "tflite", "onnx", "openvino")  # and Keras, whose file is loaded in this process
MADE = ["saved_model", "tflite", "tflite-int8", "onnx", "openvino"]
ALL = ExportSettings(format=FLOAT, quantize=("none", "int8"), calibration_images=4, sample=6, cache=None)


@pytest.fixture(autouse=True, scope="module")
def small_base(table_of_backbones: None) -> None:
    fakes.register_tiny()


def photo(place: int, sides: tuple[int, int]) -> np.ndarray:
    coarse = np.random.default_rng(place).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(sides, Image.Resampling.BICUBIC))


class Data(NamedTuple):
    """Images to compare on and to calibrate on."""

    images: Path
    manifest: Path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Photos of several sizes, with their manifest: half of them to test, half to train."""
    root = tmp_path_factory.mktemp("photos")
    rows = []
    for place, sides in enumerate(SIDES * 2):
        path = root / f"{place:02}.png"
        Image.fromarray(photo(place, sides)).save(path)
        split = "test" if place < len(SIDES) else "train"
        rows.append(Row(path.name, decode.digest(path.read_bytes()), CLASSES[place % 3], split, *sides, "PNG"))
    manifest.write(manifest.from_rows(rows), root.parent / "manifest.csv")
    return Data(root, root.parent / "manifest.csv")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    test_store.save(path, calibrated={"temperature": 1.7})
    return path


@pytest.fixture(scope="module")
def exported(model_dir: Path, data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every format of one model, compared with it."""
    out = tmp_path_factory.mktemp("exported") / "out"
    run(model_dir, out, ALL, data)
    return out


def run(model_dir: Path, out: Path, settings: ExportSettings, data: Data | None = None) -> export.ExportResult:
    if data:
        settings = dataclasses.replace(settings, images=data.images, manifest=data.manifest)
    return export.export(model_dir, out, settings, progress=lambda done, total: None)


def only(name: str, **changes: Any) -> ExportSettings:
    return dataclasses.replace(ALL, format=(name,), quantize=("none",), **changes)


# The resize


def one(condition: Any, planes: Any, if_true: in_graph_resizing.Order, if_false: in_graph_resizing.Order) -> Any:
    return if_true(planes) if condition.numpy().all() else if_false(planes)


def in_onnx(policy: in_graph_resizing.Policy) -> Callable[[np.ndarray], np.ndarray]:
    """The resize as a graph of its own."""
    import onnxruntime
    from onnx import TensorProto, helper

    ops = OnnxOperations()
    in_graph_resizing.resized(ops, ops.parameter("in", np.uint8), policy, in_graph_resizing.shortened)
    entering = helper.make_tensor_value_info("in", TensorProto.UINT8, ("n", "h", "w", 3))
    model = ops.model(entering, helper.make_tensor_value_info("out", TensorProto.FLOAT, ("n", 3, SIZE, SIZE)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["out"], {"in": pixels})[0]


@pytest.mark.parametrize("geometry", ["squash", "crop", "pad"])
@pytest.mark.parametrize(
    ("decoder", "choose"),
    [
        ("pillow", in_graph_resizing.both),
        ("pillow", one),
        ("pillow", in_graph_resizing.shortened),
        ("turbo", one),
        ("pillow", None),
        ("turbo", None),
    ],
)
def test_the_resize_gives_the_pixels_of_the_decoder_bit_for_bit(
    geometry: str, decoder: str, choose: in_graph_resizing.Choose | None
) -> None:
    described = fakes.plan(size=SIZE, backbone="tiny", resize=geometry, decoder=decoder).spec
    policy = in_graph_resizing.policy_of(described)
    resized = in_onnx(policy) if choose is None else partial(in_keras, policy, choose)
    for place, sides in enumerate([*SIDES, (1, 1), (1, 9), (500, 11), (33, 700), (31, 33), (640, 410), (66, 131)]):
        pixels = photo(place, sides)
        pixels = np.where(pixels > 128, 255, 0).astype(np.uint8) if place % 2 else pixels
        found = resized(pixels[None])[0].transpose(1, 2, 0)
        assert np.array_equal(found, squares.square(pixels, size=SIZE, geometry=geometry, decoder=decoder)), sides


@pytest.mark.parametrize("geometry", ["squash", "crop", "pad"])
@pytest.mark.parametrize(("interpolation", "keras"), [("bicubic", False), ("bicubic", True), ("lanczos", False)])
def test_by_another_filter_one_pixel_in_ten_thousand_is_a_level_off(
    geometry: str, interpolation: str, keras: bool
) -> None:
    described = fakes.plan(size=SIZE, backbone="tiny", resize=geometry, interpolation=interpolation).spec
    policy = in_graph_resizing.policy_of(described)
    resized = partial(in_keras, policy, one) if keras else in_onnx(policy)
    apart = []
    for place, sides in enumerate([*SIDES, (1, 1), (500, 11), (33, 700), (31, 33), (640, 410), (66, 131)]):
        pixels = photo(place, sides)
        pixels = np.where(pixels > 128, 255, 0).astype(np.uint8) if place % 2 else pixels
        expected = squares.square(pixels, size=SIZE, geometry=geometry, interpolation=interpolation)
        apart.append(np.abs(resized(pixels[None])[0].transpose(1, 2, 0) - expected))
    assert np.max(apart) <= 1 and np.mean(apart) < 1e-4


def in_keras(policy: in_graph_resizing.Policy, choose: in_graph_resizing.Choose, pixels: np.ndarray) -> np.ndarray:
    from keras import ops

    return np.asarray(in_graph_resizing.resized(ops, pixels, policy, choose))


def test_an_export_of_a_model_of_turbo_sees_what_it_sees(model_dir: Path, data: Data, tmp_path: Path) -> None:
    test_store.save(tmp_path / "model", decoder="turbo")
    (row,) = run(tmp_path / "model", tmp_path / "out", only("openvino"), data).parity
    assert row.largest_difference < 2e-6
    jpeg = encoded(Image.fromarray(photo(1, (90, 70))), "JPEG")
    seen = [
        load(path, Runtime(None, "auto", None, 8, None)).fit(jpeg) for path in (tmp_path / "model", tmp_path / "out")
    ]
    expected = decode.fit(jpeg, size=SIZE, geometry="squash", decoder="turbo")
    assert [np.array_equal(found, expected) for found in seen] == [True, True]
    assert not np.array_equal(expected, load(model_dir, Runtime(None, "auto", None, 8, None)).fit(jpeg))


def test_an_older_pillow_resized_columns_first_always() -> None:
    spec = fakes.plan(size=SIZE, backbone="tiny").spec
    assert in_graph_resizing.policy_of({**spec, "decoder": {"name": "pillow", "version": "13.0.0"}}).rows_first
    assert not in_graph_resizing.policy_of({**spec, "decoder": {"name": "pillow", "version": "11.3.0"}}).rows_first
    with pytest.raises(InputError, match="`interpolation`: expected bilinear or bicubic or lanczos, as the graph of"):
        in_graph_resizing.policy_of({**spec, "interpolation": "nearest"})
    with pytest.raises(InputError, match="`interpolation`: expected bilinear, as the graph of an export resizes"):
        in_graph_resizing.policy_of({**spec, "interpolation": "bicubic", "decoder": {"name": "turbo"}})


# The formats


def test_every_float_format_is_the_model_by_its_own_runtime(exported: Path) -> None:
    report = json.loads((exported / bundle.PARITY_JSON).read_text())
    rows = {row["format"]: row for row in report["formats"]}
    assert list(rows) == MADE
    for name in FLOAT:
        assert rows[name]["images"] == len(SIDES)
        assert rows[name]["agreeing"] == rows[name]["clear"] > 0
        assert rows[name]["largest_difference"] < 2e-6
    assert rows["saved_model"]["largest_difference_from_files"] < 2e-6
    quantised = rows["tflite-int8"]
    assert 2e-6 < quantised["largest_difference"] < 0.1
    assert 0 <= quantised["agreeing"] <= quantised["clear"] <= quantised["images"]
    with (exported / bundle.PARITY_CSV).open() as file:
        assert [row["format"] for row in csv.DictReader(file)] == list(rows)


@pytest.mark.parametrize("name", MADE)
def test_the_snippet_of_the_card_runs_alone_and_names_the_classes(
    name: str, exported: Path, data: Data, model_dir: Path, tmp_path: Path
) -> None:
    card = (exported / bundle.CARDS["markdown"]).read_text()
    code = card.split(f"\n{name}:\n\n```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 6
    here = Path(shutil.copytree(exported, tmp_path / "here"))
    shutil.copy(data.images / "01.png", here / "photo.jpg")  # what it is, is read from the bytes
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = eval(done.stdout)
    assert list(found) == CLASSES
    square = decode.fit((data.images / "01.png").read_bytes(), size=SIZE, geometry="squash")
    expected = np.asarray(store.read(model_dir).network()(square[None]))[0]
    np.testing.assert_allclose(list(found.values()), expected, atol=0.02 if "int8" in name else 2e-6)


@pytest.fixture(scope="module")
def keras_file(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("keras") / "out"
    run(model_dir, out, only("keras"))
    return out / "model.keras"


def test_a_keras_file_loads_in_safe_mode_has_no_class_of_ours_and_is_the_model(
    keras_file: Path, model_dir: Path
) -> None:
    config = zipfile.ZipFile(keras_file).read("config.json").decode()
    assert '"pipeline' not in config
    assert "Lambda" not in config
    judged, network = runtimes.opened(keras_file), store.read(model_dir).network()
    for place, sides in enumerate(SIDES):
        pixels = photo(place, sides)
        square = squares.square(pixels, size=SIZE, geometry="squash")
        np.testing.assert_allclose(judged(pixels[None]), np.asarray(network(square[None])), atol=1e-6)


def test_a_saved_model_takes_one_image_or_several_and_files_as_they_are(exported: Path, data: Data) -> None:
    pixels = photo(1, SIDES[1])
    judged = runtimes.opened(exported / "saved_model")
    alone = judged(pixels)
    assert alone.shape == (1, 3)
    np.testing.assert_allclose(judged(np.stack([pixels] * 3)), np.repeat(alone, 3, axis=0), atol=1e-6)
    of_files = runtimes.opened_for_files(exported / "saved_model")
    files = [(data.images / f"{place:02}.png").read_bytes() for place in range(3)]
    assert of_files(files).shape == (3, 3)
    np.testing.assert_allclose(of_files(files)[1], alone[0], atol=1e-6)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(number: int, order: str = "<", kind: str = "H") -> bytes:
    """A block of EXIF: the maker's name, then an orientation, short or long."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2)
    maker = struct.pack(f"{order}HHI4s", 0x010F, 2, 2, b"a\0\0\0")
    value = struct.pack(f"{order}{kind}", number).ljust(4, b"\0")
    return b"Exif\0\0" + head + maker + struct.pack(f"{order}HHI", 0x0112, 3 if kind == "H" else 4, 1) + value


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(photo(3, (500, 333))), "JPEG", quality=90),
        encoded(Image.fromarray(photo(3, (150, 133))), "JPEG", quality=80, progressive=True),
        encoded(Image.fromarray(photo(3, (60, 50))).convert("L"), "JPEG"),
        encoded(Image.fromarray(np.dstack([photo(3, (60, 50)), photo(4, (60, 50))[..., :1]])), "PNG"),
        encoded(Image.fromarray(photo(3, (60, 50))).convert("P"), "PNG"),
        encoded(Image.fromarray(photo(3, (60, 50))).convert("CMYK"), "JPEG"),
        encoded(Image.fromarray(photo(3, (60, 50)).astype(np.uint16)[..., 0] * 251), "PNG"),
        *[encoded(Image.fromarray(photo(3, (60, 50))), "JPEG", exif=turned(number)) for number in range(10)],
        encoded(Image.fromarray(photo(3, (500, 333))), "JPEG", exif=turned(8)),
        encoded(Image.fromarray(photo(3, (60, 50))), "JPEG", exif=turned(6, ">")),
        encoded(Image.fromarray(photo(3, (60, 50))), "JPEG", exif=turned(6, ">", "L")),
        encoded(Image.fromarray(photo(3, (60, 50))), "JPEG", exif=turned(6)[:-8]),
        encoded(Image.fromarray(photo(3, (60, 50))), "JPEG", exif=turned(6)[:10] + b"\xff" * 8),
        encoded(Image.fromarray(photo(3, (60, 50))), "JPEG", xmp=b'<a tiff:Orientation="6"/>'),
        encoded(Image.fromarray(photo(3, (60, 50))), "PNG", exif=turned(5)),
    ],
    ids=[
        "large JPEG",
        "progressive JPEG",
        "grey JPEG",
        "PNG with alpha",
        "PNG with a palette",
        "CMYK JPEG",
        "PNG of 16 bits",
        *[f"orientation {number}" for number in range(10)],
        "large turned JPEG",
        "big-endian EXIF",
        "EXIF with a long number",
        "EXIF that is cut off",
        "EXIF that leads nowhere",
        "XMP",
        "turned PNG",
    ],
)
def test_files_decode_in_the_graph_as_they_do_here(data: bytes) -> None:
    from pipeline.export.in_graph_decoding import decoded

    assert np.array_equal(np.asarray(decoded(data, SIZE)), decode.decode_near(data, size=SIZE))


def test_a_graph_refuses_what_is_no_image_and_what_is_too_large() -> None:
    import tensorflow as tf

    from pipeline.export.in_graph_decoding import decoded

    small = encoded(Image.new("RGB", (4, 4)), "PNG")
    bomb = small[:16] + (20_000).to_bytes(4, "big") * 2 + small[24:]
    dark = encoded(Image.new("1", (4, 4), 1), "PNG")
    for hostile in (b"", b"GIF", b"no image at all, but longer than the head of a PNG", small[:40], bomb, dark):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoded(hostile, SIZE)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
        decoded(bomb, SIZE)


def test_what_the_process_did_before_does_not_show_in_a_keras_or_openvino_file(model_dir: Path, tmp_path: Path) -> None:
    for name in ("keras", "openvino"):
        for folder_name in ("first", "second"):
            run(model_dir, tmp_path / folder_name, only(name))
        for file in formats.FORMATS[name].files:
            assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file


def test_a_base_that_lists_its_layers_is_written_as_keras_would_have_it_and_alike_each_time(
    model_dir: Path, data: Data, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    monkeypatch.setitem(BACKBONES, "tiny", dataclasses.replace(fakes.TINY, layers="tests.fakes:tiny_network"))  # type: ignore[arg-type]
    monkeypatch.setattr(model.Model, "network", partialmethod(without_keras, model.Model.network))
    both = dataclasses.replace(ALL, format=("onnx", "openvino"))
    report = run(model_dir, tmp_path / "first", both, data).parity
    assert [row.format for row in report] == ["onnx", "openvino"]
    assert max(row.largest_difference for row in report) < 2e-6
    run(model_dir, tmp_path / "second", both)
    for file in ("model.onnx", "model.xml", "model.bin"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    ours, converted = (onnx.load(path / "model.onnx") for path in (tmp_path / "first", exported))
    for side in ("input", "output"):
        assert getattr(ours.graph, side) == getattr(converted.graph, side)
    assert (ours.ir_version, ours.opset_import[0]) == (converted.ir_version, converted.opset_import[0])
    assert set(json.loads((tmp_path / "first" / bundle.DOCUMENT).read_text())["made"]["versions"]) == {
        *("onnx", "onnxruntime", "openvino", "python")
    }


def without_keras(self: model.Model, build: Callable[..., Any], **options: Any) -> Any:
    assert options["listed"]
    return build(self, **options)


# The folder


def test_reading_an_export_tells_what_was_written(exported: Path) -> None:
    found = bundle.read(exported)
    assert (found.classes, found.threshold) == (CLASSES, None)
    assert found.square == {
        "size": SIZE,
        "resize": "squash",
        "interpolation": "bilinear",
        "decoder": {"name": "pillow"},
    }
    assert sorted(found.formats) == sorted(MADE)
    assert (exported / bundle.CLASSES_TEXT).read_text() == "a\nb\nc\n"
    assert json.loads((exported / bundle.CLASSES_JSON).read_text()) == CLASSES


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda here: damaged(here / "model.onnx"), "model.onnx: expected sha256"),
        (lambda here: damaged(here / "saved_model" / "saved_model.pb"), "saved_model.pb: expected sha256"),
        (lambda here: (here / "model.bin").unlink(), "model.bin: expected sha256 .* received no file"),
        (lambda here: (here / "saved_model" / "more").touch(), "more: expected no file"),
        (lambda here: (here / "export.json").write_text("{"), "expected an export in JSON"),
        (lambda here: (here / "export.json").unlink(), "expected an export, received no such file"),
        (lambda here: edited(here, classes=["a"]), "two labels or more"),
        (lambda here: edited(here, formats={"coreml": {"files": {}}}), "formats among keras"),
        (lambda here: edited(here, threshold={"positive": "x"}), "expected a threshold"),
        (lambda here: edited(here, format=0), "expected an export of format 1"),
    ],
)
def test_a_damaged_export_is_refused_by_the_name_of_the_file(
    change: Callable[[Path], None], message: str, exported: Path, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(exported, tmp_path / "here"))
    change(here)
    with pytest.raises(ArtefactError, match=message):
        bundle.read(here)


def edited(here: Path, **changes: Any) -> None:
    document = json.loads((here / "export.json").read_text())
    publish(here / "export.json", {**document, **changes})


def kept(out: Path) -> Path:
    """An export that stands there already, as far as it shows."""
    out.mkdir()
    (out / bundle.DOCUMENT).write_text("{}")
    return out


def is_untouched(out: Path) -> bool:
    return [path.name for path in out.parent.iterdir()] == [out.name] and (out / bundle.DOCUMENT).read_text() == "{}"


def test_a_full_disk_leaves_the_old_export(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle, "write_classes", full)
    out = kept(tmp_path / "out")
    with pytest.raises(OSError, match="No space left"):
        run(model_dir, out, only("keras"))
    assert is_untouched(out)


def test_a_format_that_is_not_the_model_is_an_error_and_leaves_the_old_export(
    model_dir: Path, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = model.Model.network

    def other(model: model.Model) -> Any:
        network = read(model)
        network.get_layer("head_dense_1").kernel.assign_add(0.2 * np.eye(5, 3))
        return network

    monkeypatch.setattr(model.Model, "network", other)
    graph = build_graph.Graph(store.read(model_dir))
    assert graph.network  # built while it is another
    monkeypatch.setattr(model.Model, "network", read)
    monkeypatch.setattr(export, "Graph", lambda model: graph)
    out = kept(tmp_path / "out")
    with pytest.raises(ArtefactError, match=r"model.xml: expected the probabilities of the model to 0.001, received"):
        run(model_dir, out, only("openvino"), data)
    assert is_untouched(out)


def test_a_file_that_its_runtime_cannot_run_is_an_error(
    model_dir: Path, data: Data, exported: Path, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(exported, tmp_path / "here"))
    (here / "model.onnx").write_bytes(b"no model")
    model, table = store.read(model_dir), manifest.read(data.manifest).distinct("test")
    with (
        parity.reference(model, data.images, table, cache=None) as expected,
        pytest.raises(ArtefactError, match=r"model.onnx: expected its runtime to run it, received .*Protobuf"),
    ):
        parity.compare(model, here, formats.FORMATS["onnx"], expected)


def scrambled(graph: Any, names: dict[str, str], drawn: random.Random) -> None:
    """Give everything in an ONNX graph another name, and its nodes and constants another order."""
    known = {value.name for value in graph.input} | set(names)
    for tensor in graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"t{drawn.random()}")
    known |= set(names)
    waiting, nodes = list(graph.node), []
    made = {name for node in waiting for name in node.output}
    while waiting:
        drawn.shuffle(waiting)
        node = next(one for one in waiting if not (set(onnx_names._taken(one)) & made) - known)
        waiting.remove(node)
        known.update(node.output)
        nodes.append(node)
    for node in nodes:
        for name in node.output:
            names.setdefault(name, f"t{drawn.random()}")
        for inner in onnx_names._graphs(node):
            inner.name = f"g{drawn.random()}"
            scrambled(inner, names, drawn)
        node.name = ""
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in graph.output:
        value.name = names.get(value.name, value.name)
    for field, messages in ((graph.node, nodes), (graph.initializer, [*graph.initializer][::-1])):
        kept = [type(one).FromString(one.SerializeToString()) for one in messages]
        del field[:]
        field.extend(kept)


def test_the_names_and_the_order_in_onnx_follow_from_the_graph_alone(exported: Path) -> None:
    import onnx

    data = (exported / "model.onnx").read_bytes()
    model = onnx.load_from_string(data)
    scrambled(model.graph, {value.name: value.name for value in model.graph.output}, random.Random(0))
    assert model.SerializeToString(deterministic=True) != data
    onnx_names.settle(model)
    assert model.SerializeToString(deterministic=True) == data


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_converter_that_cannot_take_a_layer_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    shrinking = dataclasses.replace(fakes.TINY, name="shrinking", builder="tests.fakes:shrinking_base")
    BACKBONES["shrinking"] = dataclasses.replace(shrinking, cuts={**fakes.TINY.cuts, "top": "shrink"})  # type: ignore[index]
    plan, stack = fakes.plan(size=SIZE, backbone="shrinking"), test_store.stack(16, 3)
    base = weights.load(plan.backbone, size=SIZE, alpha=1.0, weights=plan.weights)
    trunk = assemble.flat(cutting.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling="avg"))
    rest = {"classes": CLASSES, "threshold": None, "new_conv": (), "layers": [], "history": [], "made": {}}
    store.save(tmp_path / "m", trunk, assemble.head_network(stack), stack, store.Record(spec=plan.spec, **rest))  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=rf"`format={name!r}`: .* layer shrink \(Resizing, operation ScaleAndTranslate\)"
    ):
        run(tmp_path / "m", tmp_path / "out", only(name))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_files_is_not_replaced(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="expected an export to replace"):
        run(model_dir, tmp_path, only("onnx"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_missing_package_is_named_with_its_extra(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else name)
    with pytest.raises(InputError, match=r"received no tf2onnx: pip install 'headstart\[export\]'"):
        run(model_dir, tmp_path / "out", only("onnx"))


def test_what_cannot_be_exported_is_said_at_once(model_dir: Path, data: Data, tmp_path: Path) -> None:
    int8 = dataclasses.replace(ALL, format=("tflite",), quantize=("int8",))
    with pytest.raises(InputError, match="`quantize='int8'`: expected `images` and `manifest`"):
        run(model_dir, tmp_path / "out", int8)
    with pytest.raises(InputError, match="`format`: expected some of keras"):
        run(model_dir, tmp_path / "out", only("coreml"))
    with pytest.raises(ArtefactError, match="expected the folder of a head or a model, received nothing of that name"):
        run(tmp_path / "a head", tmp_path / "out", only("onnx"))
    strange = manifest.read(data.manifest)
    manifest.write(dataclasses.replace(strange, labels=["z"] * len(strange)), tmp_path / "strange.csv")
    with pytest.raises(InputError, match=r"expected classes of .*, received z"):
        run(model_dir, tmp_path / "out", only("keras"), Data(data.images, tmp_path / "strange.csv"))


def test_the_margin_of_a_threshold_is_twice_the_way_to_it(model_dir: Path) -> None:
    model = dataclasses.replace(store.read(model_dir), classes=["a", "b"], threshold=None)
    rows = np.array([[0.2, 0.8], [0.5, 0.5]])
    np.testing.assert_allclose(parity._margins(rows, model), [0.6, 0.0])
    model = dataclasses.replace(model, threshold={"positive": "b", "value": 0.7})
    np.testing.assert_allclose(parity._margins(rows, model), [0.2, 0.4])


def test_an_evaluation_of_another_model_is_refused_before_anything_is_converted(
    model_dir: Path, tmp_path: Path
) -> None:
    from pipeline.evaluation import predictions_file

    predictions_file.write_evaluated(tmp_path, predictions_file.Subject("of another", None))
    with pytest.raises(
        ArtefactError, match=f"{tmp_path}: expected an evaluation of {model_dir}, received one of anoth"
    ):
        export.export(
            model_dir,
            tmp_path / "out",
            only("onnx", evaluation=tmp_path),
            progress=lambda done, total: pytest.fail("something was converted"),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("identity", "head", "best_epoch"), [(None, None, 1), ("h", "h", 0), ("joined again", "h", 0)])
def test_the_evaluation_of_a_model_is_taken_and_that_of_the_head_that_it_is(
    identity: str | None, head: str | None, best_epoch: int, model_dir: Path, tmp_path: Path
) -> None:
    from pipeline.evaluation import predictions_file
    from pipeline.export import model_card

    model = store.read(model_dir)
    model = dataclasses.replace(model, document=model.document | {"made": {"head": "h", "best_epoch": best_epoch}})
    predictions_file.write_evaluated(tmp_path, predictions_file.Subject(identity or model.identity, head))
    model_card.require_its_evaluation(model, tmp_path)
    predictions_file.write_evaluated(tmp_path, predictions_file.Subject("another", "another"))
    with pytest.raises(ArtefactError, match="received one of another head or model"):
        model_card.require_its_evaluation(model, tmp_path)


def test_the_card_tells_data_metrics_calibration_and_threshold(model_dir: Path, data: Data, tmp_path: Path) -> None:
    from pipeline.evaluation import predictions_file
    from pipeline.export import model_card

    numbers = dict(zip(predictions_file.RANKED, (0.5, 0.2, 0.8, 0.7, 0.6, 0.9), strict=True))
    predictions_file.write_metrics(tmp_path, {"images": 6, **numbers})
    model = store.read(model_dir)
    model = dataclasses.replace(
        model,
        threshold={"positive": "b", "value": 0.7},
        document={**model.document, "calibration": {"temperature": 1.25}},
    )
    text = model_card.written(model, model_card.Facts(data.manifest, tmp_path, [formats.FORMATS["onnx"]], [], None))
    for line in (
        "12 images, by a manifest with sha256 `",
        "| b | 2 | 0 | 2 |",
        "| accuracy | 0.500 [0.200, 0.800] |",
        "calibrated with the temperature 1.2500",
        "the label b from a probability of 0.7000 on",
        "They were not compared with the model on images.",
    ):
        assert line in text


def test_the_hub_reads_license_formats_and_metrics_with_their_intervals_before_the_card(
    model_dir: Path, tmp_path: Path
) -> None:
    import yaml

    from pipeline.evaluation import predictions_file

    named = Path(shutil.copytree(model_dir, tmp_path / 'a "name": #1'))
    numbers = {"macro_f1": 0.00001, "macro_f1_low": 0.0, "macro_f1_high": 1.0, "temperature": 2.0}
    numbers |= dict(zip(predictions_file.RANKED, (0.5, 0.2, 0.8, 0.7, 0.6, 0.9), strict=True))
    predictions_file.write_metrics(tmp_path / "of", {"images": 6, **numbers})
    predictions_file.write_evaluated(tmp_path / "of", predictions_file.Subject(store.read(named).identity, None))
    settings = only("openvino", card="hugging-face", license="cc-by-4.0", evaluation=tmp_path / "of")
    run(named, tmp_path / "out", settings)
    assert not (tmp_path / "out" / "MODEL_CARD.md").exists()
    before, metadata, card = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert (before, card[:9]) == ("", "\n# Image ")
    found = yaml.safe_load(metadata)
    (index,) = found.pop("model-index")
    assert found == {
        "license": "cc-by-4.0",
        "library_name": "headstart",
        "pipeline_tag": "image-classification",
        "tags": ["headstart", "openvino", "tiny"],
        "metrics": ["f1", "accuracy", "log_loss"],
    }
    (result,) = index["results"]
    assert index["name"] == 'a "name": #1'
    assert result["dataset"] == {
        "type": "imagefolder",
        "name": "test images",
        "split": "test",
        "args": {"images": 6},
    }
    assert [(one["type"], one["value"], one["args"]["interval_95"]) for one in result["metrics"]] == [
        ("f1", 0.0, [0.0, 1.0]),
        ("accuracy", 0.5, [0.2, 0.8]),
        ("log_loss", 0.7, [0.6, 0.9]),
    ]


def test_a_name_is_text_on_the_card_and_no_markup(model_dir: Path) -> None:
    from pipeline.export import model_card

    name = "<img src=x onerror=alert(1)>`|[a](javascript:b)\n\n# c\x1b"
    model = store.read(model_dir)
    threshold = {"positive": name, "value": 0.7}
    model = dataclasses.replace(model, classes=[name, "b", "c"], threshold=threshold)
    text = model_card.written(model, model_card.Facts(None, None, [], [], None))
    shown = "&lt;img src=x onerror=alert&#40;1&#41;&gt;&#96;&#124;&#91;a&#93;&#40;javascript&#58;b&#41; # c\\x1b"
    assert text.count(shown.replace("\\", "&#92;")) == 2
    assert not {"<", "\x1b"} & set(text)


# Running it


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model-int8.tflite", "model.xml", ""])
def test_an_export_runs_as_an_engine_over_batches(name: str, exported: Path, model_dir: Path) -> None:
    found, row = exported_model.chosen(exported / name)
    assert row.path == name or (not name and row.name == "onnx")
    engine = exported_model.ExportedEngine(found, row)
    squares = test_store.pixels(5)
    expected = np.asarray(store.read(model_dir).network()(squares))
    rows = np.concatenate(list(engine.run([squares[:3], squares[3:]])))
    assert engine.row_shape == rows.shape[1:]
    np.testing.assert_allclose(rows, expected, atol=0.05 if "int8" in name else 2e-6)


def test_what_is_no_format_of_an_export_is_refused(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exported_model.is_export(exported)
    assert exported_model.is_export(exported / "model.onnx")
    assert not exported_model.is_export(exported.parent)
    with pytest.raises(InputError, match=r"MODEL_CARD.md: expected one of .*model.onnx"):
        exported_model.chosen(exported / "MODEL_CARD.md")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"expected onnxruntime and onnx to run it, received none: pip install"):
        exported_model.chosen(exported / "model.onnx")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no graph", None], ids=["empty", "other", "half"])
@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.xml", "model.bin", "saved_model/saved_model.pb"])
def test_a_file_that_its_runtime_refuses_is_named_and_the_runtime_s_exception_never_seen(
    name: str, content: bytes | None, exported: Path, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(exported, tmp_path / "here"))
    data = (here / name).read_bytes()
    (here / name).write_bytes(data[: len(data) // 2] if content is None else content)
    document = json.loads((here / "export.json").read_text())
    for entry in document["formats"].values():  # as one would who wants it to be taken
        if name in entry["files"]:
            entry["files"][name] = hashlib.sha256((here / name).read_bytes()).hexdigest()
    publish(here / "export.json", document)
    file = here / name.split("/")[0].replace(".bin", ".xml")
    with pytest.raises(
        ArtefactError,
        match=rf"{file.name}: expected (a file that its runtime can run|a graph that only computes), received",
    ) as error:
        list(exported_model.ExportedEngine(*exported_model.chosen(file)).run([test_store.pixels(2)]))
    assert "\n" not in str(error.value)


def test_an_engine_notices_that_a_file_has_other_classes(exported: Path) -> None:
    found, row = exported_model.chosen(exported)
    fewer = dataclasses.replace(found, classes=found.classes[:2])
    with pytest.raises(ArtefactError, match=r"model.onnx: expected probabilities of shape \(5, 2\), received \(5, 3\)"):
        list(exported_model.ExportedEngine(fewer, row).run([test_store.pixels(5)]))


@pytest.mark.parametrize("name", ["", "model.xml"])
def test_predict_takes_an_export_or_a_file_of_it(
    name: str, exported: Path, model_dir: Path, data: Data, tmp_path: Path
) -> None:
    network = store.read(model_dir).network()
    result = CliRunner().invoke(predict, [str(exported / name), str(data.images), "--cache", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["path"] for row in rows] == [str(path) for path in sorted(data.images.iterdir())]
    for row in rows:
        square = decode.fit(Path(row["path"]).read_bytes(), size=SIZE, geometry="squash")
        expected = np.asarray(network(square[None]))[0]
        np.testing.assert_allclose([float(row[f"p_{label}"]) for label in CLASSES], expected, atol=2e-6)
        assert row["label"] == CLASSES[expected.argmax()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "none"], "--weights: expected none, since .* is an export, received 'none'"),
        (["--engine", "openvino"], "--engine: expected none, since .* is an export"),
        (["--explain", "maps"], "expected a head or a model to tell more than probabilities, received an export"),
    ],
)
def test_predict_refuses_what_an_export_cannot_do(
    options: list[str], message: str, exported: Path, data: Data, tmp_path: Path
) -> None:
    result = CliRunner().invoke(predict, [str(exported), str(data.images), *options, "--cache", str(tmp_path)])
    assert result.exit_code == 1
    assert re.search(message, result.stderr)


# The command


def test_the_command_prints_the_parity_and_where_the_files_are(model_dir: Path, data: Data, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--format", "openvino", "--images", str(data.images), "--manifest", str(data.manifest)]
    result = CliRunner().invoke(command, [str(model_dir), str(out), *options, "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 0, result.output
    assert "6 test images, each format by its own runtime" in result.stdout
    assert result.stdout.splitlines()[-1] == f"model.xml -> {out}"
    assert bundle.read(out).classes == CLASSES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "coreml"], "expected among keras, saved_model, tflite, onnx, web, openvino, received coreml"),
        (["--images", "photos"], "expected --images and --manifest together"),
        (["--quantize", "int4"], "expected among none, dynamic, int8, received int4"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(options: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["m", str(tmp_path / "out"), *options])
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_command_knows_the_formats_of_the_library() -> None:
    assert get_args(FormatName) == export.NAMES
    assert issubclass(InputError, HeadstartError)
