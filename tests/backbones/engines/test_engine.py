"""Every engine gives the same features, in order, whatever the batches; what it cannot compute it refuses."""

import ctypes
import importlib.metadata
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.backbones import cutting, table
from pipeline.backbones.engines.engine import (
    NAMES,
    Engine,
    Precision,
    choose,
    described,
    open_engine,
    precisions,
    version_of,
)
from pipeline.backbones.engines.graphs import GRAPH_IMAGES, converted, graph
from pipeline.backbones.engines.openvino import _threads
from pipeline.backbones.engines.tensorflow import TensorFlowEngine
from pipeline.backbones.weights import find_weights, load
from pipeline.backbones.without_telemetry import openvino
from pipeline.errors import InputError
from tests import ROOT, fakes

SIZE, BATCH = 64, 4
# Up to a cut that has all kinds of their layers below it; the first two with all their depth, too.
FAMILIES = {
    "efficientnet_lite0": "top",
    "mobilenet_v2": "top",
    "resnet50": "conv3_block1_out",
    "convnext_tiny": "add_3",
    "efficientnet_v2_b0": "block4b_add",
    "densenet121": "pool2_pool",
}


@pytest.fixture(autouse=True, scope="module")
def small_base(table_of_backbones: None) -> None:
    fakes.register_tiny()


def builder(name: str, cut: str = "top", pooling: str = "avg", *, listed: bool = False):  # type: ignore[no-untyped-def]
    def build():  # type: ignore[no-untyped-def]
        backbone = table.find(name)
        kind = "imagenet" if name == "efficientnet_lite0" else "none"
        weights = find_weights(backbone, kind, size=SIZE, alpha=1.0, seed=0)

        def base():  # type: ignore[no-untyped-def]
            return load(backbone, size=SIZE, alpha=1.0, weights=weights, listed=listed)

        return cutting.trunk(backbone, base() if weights.path else fakes.quickly_drawn(base), cut=cut, pooling=pooling)

    return build


def opened(engine: str, name: str = "efficientnet_lite0", precision: Precision = "float32") -> Engine:
    build = builder(name, listed=engine == "openvino")
    return open_engine(engine, build, batch_size=BATCH, precision=precision, kept=None)


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def batched(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (images[start : start + size] for start in range(0, len(images), size))


def features(engine: Engine, images: np.ndarray, size: int = BATCH) -> np.ndarray:
    return np.concatenate(list(engine.run(batched(images, size))))


@pytest.fixture(scope="module", params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return opened(request.param)


@pytest.mark.parametrize("name", FAMILIES)
def test_at_float32_the_engines_agree_to_1e_4_of_the_largest_feature(name: str) -> None:
    images, trunk = pixels(6), builder(name, FAMILIES[name])()
    one, other = (
        features(open_engine(engine, lambda: trunk, batch_size=BATCH, precision="float32", kept=None), images)
        for engine in NAMES
    )
    assert one.shape == other.shape == (6, trunk.output.shape[1])
    assert np.abs(one).max() > 0
    assert np.abs(one - other).max() <= 1e-4 * np.abs(one).max()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_row_is_the_same_to_the_bit_whatever_batch_it_fell_into(engine: Engine, size: int) -> None:
    images = pixels(9)
    whole = features(engine, images)
    np.testing.assert_array_equal(features(engine, images, size), whole)
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(features(engine, images[order], size), whole[order])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the graph of a real base stays, once it was converted."""
    return tmp_path_factory.mktemp("graphs") / "mobilenet_v2"


@pytest.mark.parametrize(("name", "apart"), [("openvino", 0.0), ("tensorflow", 1e-6)])
def test_a_row_is_the_same_whatever_the_batch_size(name: str, apart: float, kept: Path) -> None:
    """OpenVINO gives the same bits; TensorFlow does on some processors, and on others the same up to rounding."""
    images, build = pixels(20), cache(builder("mobilenet_v2"))
    found = []
    for size in (1, 7, 16):
        running = open_engine(name, build, batch_size=size, precision="float32", kept=kept)
        found.append(features(running, images, size))
    for rows in found[1:]:
        assert np.abs(rows - found[0]).max() <= apart * np.abs(found[0]).max()


def test_an_engine_for_single_images_gives_the_same_features(kept: Path) -> None:
    images, build = pixels(5), builder("mobilenet_v2")
    usual, prompt = (
        open_engine("openvino", build, batch_size=BATCH, precision="float32", kept=kept, prompt=prompt)
        for prompt in (False, True)
    )
    expected = features(usual, images)
    np.testing.assert_allclose(features(prompt, images), expected, atol=1e-5 * float(np.abs(expected).max()))
    np.testing.assert_array_equal(features(prompt, images, 1), features(prompt, images))
    assert [engine._images for engine in (usual, prompt)] == [4, 1]  # type: ignore[attr-defined]


def test_batches_come_back_in_order_and_as_long_as_they_went_in(engine: Engine) -> None:
    images = pixels(4 * 30 + 1)
    found = list(engine.run(batched(images, BATCH)))
    assert [len(rows) for rows in found] == [4] * 30 + [1]
    np.testing.assert_array_equal(np.concatenate(found)[-9:], features(engine, images[-9:]))


def test_pixels_are_left_as_they_were(engine: Engine) -> None:
    images = pixels(4)
    before = images.copy()
    features(engine, images)
    np.testing.assert_array_equal(images, before)


def test_no_batches_give_no_features(engine: Engine) -> None:
    assert list(engine.run([])) == []


def test_an_error_of_the_source_is_raised_and_the_engine_still_works(engine: Engine) -> None:
    images = pixels(8)

    def failing() -> Iterator[np.ndarray]:
        yield images[:4]
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(engine.run(failing()))
    assert len(features(engine, images)) == 8


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_near_float32_and_is_not_it(engine: Engine, name: str) -> None:
    if "bfloat16" not in precisions(name):
        pytest.skip("this processor has no bfloat16 arithmetic, which the engine refuses")
    images = pixels(8)
    full, half = features(engine, images), features(opened(name, precision="bfloat16"), images)
    assert half.dtype == np.float32
    cosine = (full * half).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(half, axis=1)
    assert cosine.min() > 0.98
    assert np.abs(full - half).max() > 1e-4 * np.abs(full).max()


@pytest.mark.parametrize("name", NAMES)
def test_a_precision_that_would_silently_run_as_another_is_refused(name: str) -> None:
    if "float16" in precisions(name):
        pytest.skip("this device has float16 arithmetic")
    with pytest.raises(
        InputError, match=rf"`precision`: this processor has no float16 arithmetic for {name}: expected f"
    ):
        open_engine(name, no_trunk, batch_size=BATCH, precision="float16", kept=None)


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What OpenVINO says that this processor can do, for a test to change."""
    listed = ["FP32"]
    monkeypatch.setattr("pipeline.backbones.engines.openvino.capabilities", lambda: listed)
    precisions.cache_clear()
    yield listed
    precisions.cache_clear()


def test_a_precision_that_the_processor_lacks_is_refused_before_the_network_is_built(reported: list[str]) -> None:
    assert precisions("openvino") == ("float32",)
    message = "^`precision`: this processor has no bfloat16 arithmetic for openvino: expected float32$"
    with pytest.raises(InputError, match=message):
        open_engine("openvino", no_trunk, batch_size=BATCH, precision="bfloat16", kept=None)


def test_a_precision_that_is_reported_and_does_not_compile_is_one_that_the_processor_lacks(
    reported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    compile_model = openvino.Core.compile_model

    def unable(core: object, model: object, device: str, hints: dict[str, str]) -> object:
        if hints["INFERENCE_PRECISION_HINT"] == "bf16":
            raise RuntimeError("[CPU] could not create a primitive")
        return compile_model(core, model, device, hints)

    monkeypatch.setattr(openvino.Core, "compile_model", unable)
    reported.append("BF16")
    assert precisions("openvino") == ("float32",)
    reported.append("FP16")
    precisions.cache_clear()
    assert precisions("openvino") == ("float32", "float16")


def test_the_policy_of_keras_is_put_back() -> None:
    import keras

    opened("tensorflow", "tiny", "bfloat16")
    assert keras.config.dtype_policy().name == "float32"


def no_trunk() -> None:
    raise AssertionError("no trunk is needed")


def test_a_kept_graph_starts_without_the_network_and_gives_the_same_bits(tmp_path: Path) -> None:
    images, kept = pixels(5), tmp_path / "graphs" / "identity"
    first = open_engine("openvino", builder("tiny"), batch_size=4, precision="float32", kept=kept)
    second = open_engine("openvino", no_trunk, batch_size=4, precision="float32", kept=kept)
    np.testing.assert_array_equal(features(second, images), features(first, images))


def test_a_graph_has_weights_of_its_own_and_not_the_memory_of_the_network_it_was_made_of() -> None:
    import keras

    class Scale(keras.layers.Layer):  # type: ignore[misc]  # as ConvNeXt has: what is taken as it is, and not turned
        def build(self, shape: tuple[int | None, ...]) -> None:
            self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones")

        def call(self, x: Any) -> Any:
            return keras.ops.tanh(x) * self.gamma

    entering = keras.Input((SIZE, SIZE, 3), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 255)(entering)
    trunk = keras.Model(entering, Scale()(keras.layers.GlobalAveragePooling2D()(scaled)))
    images, made = pixels(GRAPH_IMAGES), graph(lambda: trunk, kept=None)

    def computed() -> np.ndarray:
        return np.array(openvino().Core().compile_model(made, "CPU")(images)[0])

    before = computed()
    for variable in trunk.weights:
        held = np.asarray(variable.value.read_value_no_copy())
        ctypes.memset(held.ctypes.data, 0, held.nbytes)
    assert not np.any(trunk.predict(images, verbose=0))  # so that was Keras' own memory
    np.testing.assert_array_equal(computed(), before)
    assert np.any(before)


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "digests.json"])
def test_a_damaged_graph_is_made_anew(tmp_path: Path, name: str) -> None:
    build = builder("tiny")
    open_engine("openvino", build, batch_size=4, precision="float32", kept=tmp_path / "k")
    path = next(tmp_path.rglob(name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssertionError, match="no trunk is needed"):
        open_engine("openvino", no_trunk, batch_size=4, precision="float32", kept=tmp_path / "k")
    open_engine("openvino", build, batch_size=4, precision="float32", kept=tmp_path / "k")
    open_engine("openvino", no_trunk, batch_size=4, precision="float32", kept=tmp_path / "k")


def test_a_cache_that_cannot_be_written_does_not_stop_an_engine(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where a folder would be")
    engine = open_engine("openvino", builder("tiny"), batch_size=4, precision="float32", kept=tmp_path / "file" / "k")
    assert len(features(engine, pixels(3))) == 3


def test_a_disk_that_is_full_when_a_graph_is_kept_does_not_stop_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    def full(model: object, path: Path, **_: object) -> None:
        path.write_text("half of it")
        raise RuntimeError("basic_ios::clear: iostream error")  # what OpenVINO raises then

    monkeypatch.setattr(openvino, "save_model", full)
    kept = tmp_path / "graphs" / "k"
    engine = open_engine("openvino", builder("tiny"), batch_size=4, precision="float32", kept=kept)
    assert len(features(engine, pixels(3))) == 3
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_auto_is_openvino_on_a_cpu_and_tensorflow_on_a_gpu_or_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backbones.engines.engine._has_gpu", lambda: False)
    assert choose("auto") == "openvino"
    monkeypatch.setattr("pipeline.backbones.engines.engine._has_gpu", lambda: True)
    assert choose("auto") == "tensorflow"
    monkeypatch.setattr("pipeline.backbones.engines.engine.version_of", lambda name: "" if name == "openvino" else "2")
    monkeypatch.setattr("pipeline.backbones.engines.engine._has_gpu", lambda: False)
    assert choose("auto") == "tensorflow"
    with pytest.raises(InputError, match="`engine`: openvino is not installed here"):
        choose("openvino")


def test_an_unknown_engine_names_the_choices() -> None:
    with pytest.raises(InputError, match="expected auto, tensorflow or openvino, received torch"):
        choose("torch")


def test_batches_dealt_out_to_several_devices_come_back_in_order_with_the_same_bits() -> None:
    """Run in a process of its own, since a processor is divided into devices before TensorFlow starts."""
    program = """
import numpy as np
from pipeline.backbones.engines.tensorflow import TensorFlowEngine, devices
from tests.backbones.engines.test_engine import batched, builder, pixels
from tests.fakes import register_tiny
import tensorflow as tf
register_tiny()
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
assert devices() == ["CPU:0"]
build, images = builder("tiny"), pixels(29)
engines = [TensorFlowEngine(build, batch_size=4, devices=names) for names in (["CPU:0"], ["CPU:0", "CPU:1", "CPU:2"])]
one, several = ([*engine.run(batched(images, 4))] for engine in engines)
assert [len(rows) for rows in several] == [4] * 7 + [1]
np.testing.assert_array_equal(np.concatenate(several), np.concatenate(one))
weights = [weight.value for trunk in engines[1]._trunks for weight in trunk.weights]
where = {weight.device.rpartition("/")[2] for weight in weights}
assert where == {"device:CPU:0", "device:CPU:1", "device:CPU:2"}, where
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr


def test_compiled_by_xla_as_on_a_gpu_the_features_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    build, images = cache(builder("tiny")), pixels(6)
    plain = features(TensorFlowEngine(build, batch_size=8, devices=["CPU:0"]), images, 8)
    monkeypatch.setattr("pipeline.backbones.engines.tensorflow._is_gpu", lambda device: True)
    compiled = features(TensorFlowEngine(build, batch_size=8, devices=["CPU:0"]), images, 8)
    assert np.abs(compiled - plain).max() <= 1e-4 * np.abs(plain).max()


def test_a_source_that_fails_with_several_devices_leaves_no_thread_behind() -> None:
    engine = TensorFlowEngine(builder("tiny"), batch_size=4, devices=["CPU:0", "CPU:0"])

    def failing() -> Iterator[np.ndarray]:
        yield from batched(pixels(20), 4)
        raise OSError(5, "Input/output error")

    before = threading.active_count()
    with pytest.raises(OSError, match="Input/output"):
        list(engine.run(failing()))
    assert threading.active_count() == before


def test_below_float32_a_gpu_shows_in_the_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.backbones.engines.engine._has_gpu", lambda: False)
    assert described("tensorflow") == {"name": "tensorflow", "version": version_of("tensorflow")}
    monkeypatch.setattr("pipeline.backbones.engines.engine._has_gpu", lambda: True)
    assert described("tensorflow")["device"] == "GPU"
    assert "device" not in described("openvino")


def test_a_process_with_a_share_of_the_cores_keeps_to_it_and_pins_no_thread_to_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.backbones.engines.openvino.cores", lambda: 2)
    for limit, expected in (
        ("", {}),
        ("1", {"INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}),
        ("2", {"INFERENCE_NUM_THREADS": 2, "ENABLE_CPU_PINNING": True}),
    ):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", limit)
        monkeypatch.setattr("joblib.cpu_count", lambda limit=limit: int(limit))
        assert _threads() == expected


def test_the_version_is_that_of_the_installed_package() -> None:
    assert version_of("openvino") == importlib.metadata.version("openvino")
    assert version_of("tensorflow").startswith("2.")
    assert version_of("nothing of that name") == ""


def test_ctrl_c_while_openvino_converts_is_no_fault_of_the_network_and_leaves_openvino_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from openvino.frontend.tensorflow import node_decoder, utils
    from openvino.tools import ovc

    def stopped(function: object, share_weights: bool) -> None:
        raise RuntimeError("Check 'false' failed: Converting input model KeyboardInterrupt: <EMPTY MESSAGE> At: ...")

    def failed(function: object, share_weights: bool) -> None:
        raise RuntimeError("Check 'false' failed: no rule for Foo")

    function = SimpleNamespace(graph=SimpleNamespace(variables=(), captures=()))
    before = dict(vars(node_decoder.TFGraphNodeDecoder)), dict(vars(utils))
    monkeypatch.setattr(ovc, "convert_model", stopped)
    with pytest.raises(KeyboardInterrupt):
        converted(function)
    monkeypatch.setattr(ovc, "convert_model", failed)
    with pytest.raises(RuntimeError, match="no rule for Foo"):
        converted(function)
    assert before == (dict(vars(node_decoder.TFGraphNodeDecoder)), dict(vars(utils)))


def test_a_graph_that_was_kept_for_another_trunk_is_not_used(tmp_path: Path) -> None:
    """Its digests are right, since whoever copied it copied them, too."""
    build, theirs, ours = builder("tiny"), tmp_path / "theirs", tmp_path / "ours"
    open_engine("openvino", build, batch_size=4, precision="float32", kept=theirs)
    shutil.copytree(theirs, ours)
    with pytest.raises(AssertionError, match="no trunk is needed"):
        open_engine("openvino", no_trunk, batch_size=4, precision="float32", kept=ours)
    open_engine("openvino", no_trunk, batch_size=4, precision="float32", kept=theirs)
