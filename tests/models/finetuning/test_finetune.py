"""Training from cached activations is training the whole network: the same losses, the same weights, sooner."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.backbones.engines import keras_process
from pipeline.backbones.settings import EngineName
from pipeline.backbones.table import resolve_cut
from pipeline.backbones.weights import load as load_base
from pipeline.errors import ArtefactError, BusyError, CutError, InputError, SpecError, WeightsError
from pipeline.evaluation import evaluate, predictions_file
from pipeline.evaluation.results import EvaluateResult
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.features import extract, resolve
from pipeline.features.features_file import Features
from pipeline.heads import train
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense import DenseHead
from pipeline.heads.head import Head
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.resolve import Training
from pipeline.heads.settings import PlateauSettings
from pipeline.heads.store import HEAD_FILE, save
from pipeline.heads.store import load as load_head
from pipeline.inference import predict
from pipeline.models import assemble, classifier, joined_head, model, store
from pipeline.models.finetuning import checkpoints, devices, finetune, setup
from pipeline.models.finetuning.settings import FinetuneSettings, TuningSettings
from pipeline.models.settings import Runtime
from pipeline.photos import manifest, splits
from pipeline.photos.manifest import Manifest
from pipeline.photos.settings import Policy
from pipeline.storage.json_files import publish
from stages.finetune import _outcome
from stages.finetune import finetune as command
from tests import ROOT, fakes

pytestmark = pytest.mark.usefixtures("undrawn")

SIZE = 32
FEWEST_VAL = splits.FEWEST_VAL
COUNTS = {"dark": 9, "grey": 9, "light": 9}
CHOSEN = TuningSettings(epochs=2, optimizer="sgd", learning_rate=0.01, batch_size=4, patience=0, seed=3)


@pytest.fixture(scope="module", autouse=True)
def a_single_validation_image_chooses() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.photos.manifest.FEWEST_VAL", 1)
        yield


class Project:
    """Photos, manifest, features of a small random base, and a head, in a folder."""

    def __init__(self, root: Path, counts: dict[str, int] = COUNTS, backbone: str = "tiny", **chosen: object) -> None:
        fakes.register_tiny()
        self.root, self.images, self.manifest = root, root / "images", root / "manifest.csv"
        self.features, self.head, self.model, self.cache = (root / n for n in ("f.h5", "head", "model", "cache"))
        fakes.write_classes(self.images, counts)
        manifest.write(self._table(counts), self.manifest)
        self.plan = fakes.plan(size=SIZE, backbone=backbone, **chosen)
        extract.extract(
            self.images,
            self.manifest,
            self.features,
            fakes.settings(**{"size": SIZE, "backbone": backbone, "cache": self.cache, "batch_size": 8} | chosen),
            progress=lambda done, total: None,
        )
        self.train(LogisticHead(C=0.01, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=0))

    def _table(self, counts: dict[str, int]) -> Manifest:
        import hashlib

        rows = []
        for label, count in counts.items():
            for number in range(count):
                path = self.images / label / f"{number:03}.png"
                split = "val" if number % 4 == 1 else "test" if number % 4 == 2 else "train"
                digest = hashlib.sha256(path.read_bytes()).digest()
                rows.append(manifest.Row(f"{label}/{path.name}", digest, label, split, 40, 30, "PNG"))
        return manifest.from_rows(rows)

    def train(self, head: Head) -> Head:
        train.fit(self.manifest, self.features, self.head, Training(head=head))
        return load_head(self.head)[0]

    def finetune(
        self,
        told: Callable[[dict[str, float]], None] = lambda row: None,
        weights: str | None = None,
        engine: EngineName = "tensorflow",
        **changes: Any,
    ) -> finetune.FinetuneResult:
        settings = FinetuneSettings(tuning=replace(CHOSEN, **changes), weights=weights, engine=engine, cache=self.cache)
        paths = self.images, self.manifest, self.features, self.head, self.model
        return finetune.finetune(*paths, settings, finetune.Callbacks(told=told))

    def weights(self) -> dict[str, np.ndarray]:
        """The stored arrays, by name."""
        import h5py

        with h5py.File(self.model / model.WEIGHTS_FILE) as file:
            return {name: file[name][...] for name in file}

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and codes of a split, in the order of the digests."""
        from pipeline.photos import decode

        table = manifest.read(self.manifest).distinct(name)
        read = [decode.fit((self.images / path).read_bytes(), size=SIZE, geometry="squash") for path in table.paths]
        return np.stack(read), np.array([table.classes.index(label) for label in table.labels])


def dense(**changes: Any) -> DenseHead:
    chosen: dict[str, Any] = {
        "hidden": (8,),
        "activation": "relu",
        "dropout": 0.0,
        "l1": 0.0,
        "l2": 0.0,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "batch_size": 8,
        "epochs": 3,
        "patience": 0,
        "class_weight": None,
        "standardize": "standard",
        "seed": 0,
    }
    return DenseHead(**chosen | changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Project(tmp_path_factory.mktemp("project")).root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Iterator[Project]:
    """A copy of a project whose base is tiny."""
    copy = Project.__new__(Project)
    shutil.copytree(made, tmp_path / "p")
    root = tmp_path / "p"
    copy.root, copy.images, copy.manifest = root, root / "images", root / "manifest.csv"
    copy.features, copy.head, copy.model, copy.cache = (root / n for n in ("f.h5", "head", "model", "cache"))
    copy.plan = fakes.plan(size=SIZE, backbone="tiny")
    yield copy


# What must have TensorFlow to itself runs in a fork of a process that has imported it with oneDNN's kernels, as the
# command does, and has not started it. The import takes longer than what is run.
SERVER = """
import json, os, sys
from pipeline.models.finetuning import devices
devices.import_tensorflow()
import keras, sklearn.model_selection, stages.finetune, tests.models.finetuning.test_finetune
for line in sys.stdin:
    program, folder, out, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os.chdir(folder)
        sys.argv = ["-c", *arguments]
        exec(program, {"__name__": "__main__"})
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Forked = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    """Run a program in a folder with arguments; return its exit status and what it wrote."""
    command, pipe = [sys.executable, "-c", SERVER], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as server:
        assert server.stdin
        assert server.stdout

        def run(program: str, folder: Path, *arguments: str) -> tuple[int, str]:
            out = tmp_path_factory.mktemp("forked") / "out"
            print(json.dumps([program, str(folder), str(out), *arguments]), file=server.stdin, flush=True)
            return int(server.stdout.readline()), out.read_text()

        yield run


# --- the same function


def ordinary(
    project: Project, cut: str, optimizer: Any, epochs: int, batch_size: int
) -> tuple[list[str], list[Any], list[float], list[Any]]:
    """Train the whole model as Keras' own guide does: lower layers not trainable, the base called in inference mode.

    Return the names of all weights of the base, the weights before, the mean loss of each epoch, and the weights after.
    """
    import keras
    import tensorflow as tf

    plan = project.plan
    base = load_base(plan.backbone, size=SIZE, alpha=plan.spec["backbone"]["alpha"], weights=plan.weights)
    layers = [layer.name for layer in base.layers]
    weighted = assemble.weighted_layers(base)
    names = [f"{layer.name}.{place}" for layer in weighted for place in range(len(layer.weights))]
    before = [np.array(variable) for layer in weighted for variable in layer.weights]
    for layer in base.layers[: layers.index(resolve_cut(plan.backbone, cut)) + 1]:
        layer.trainable = False
    head = assemble.head_network(load_head(project.head)[0].stack())
    inputs = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.GlobalAveragePooling2D()(base(plan.backbone.preprocess(inputs), training=False))
    model = keras.Model(inputs, head(features))
    pixels, codes = project.split("train")
    losses = []
    for epoch in range(1, epochs + 1):
        order = np.random.default_rng((CHOSEN.seed, epoch)).permutation(len(codes))
        total = 0.0
        for start in range(0, len(order), batch_size):
            taken = order[start : start + batch_size]
            with tf.GradientTape() as tape:
                logits = model(pixels[taken].astype(np.float32))
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(codes[taken], logits))
            values = [variable.value for variable in model.trainable_variables]
            optimizer.apply(tape.gradient(loss, values), model.trainable_variables)
            total += float(loss) * len(taken)
        losses.append(total / len(order))
    return names, before, losses, [np.array(variable) for layer in weighted for variable in layer.weights]


def test_cached_and_ordinary_training_give_the_same_losses_and_weights(tmp_path: Path) -> None:
    import keras

    cut, rate = "block-2", 0.01
    project = Project(tmp_path, backbone="efficientnet_lite0", weights="imagenet", dtype="float32")
    project.train(dense(standardize="none"))  # the scales of so few images would make the smallest step a leap
    summary = project.finetune(cut=cut, learning_rate=rate, batch_size=8)
    names, before, losses, expected = ordinary(project, cut, keras.optimizers.SGD(rate), 2, batch_size=8)
    np.testing.assert_allclose([row["loss"] for row in summary.history], losses, rtol=1e-5)
    assert max(losses) < 10, "where training diverges, rounding grows"
    stored = project.weights()
    moved = 0
    for name, old, new in zip(names, before, expected, strict=True):
        size, step = np.linalg.norm(new), np.linalg.norm(new - old)
        assert np.linalg.norm(stored[name] - new) <= 1e-5 * max(size, 1e-3), name
        moved += step >= 1e-3 * size > 0  # a hundred times the tolerance
    assert moved >= 4
    trained = {layer.name for layer in summary.layers if layer.place == "tail" and layer.trained}
    normalised = [name for name in stored if name.split(".")[0] in trained and name.endswith((".2", ".3"))]
    assert normalised, "the tail has batch normalisation, whose statistics are"
    for name in normalised:
        assert np.array_equal(stored[name], before[names.index(name)])


# --- join


@pytest.mark.parametrize("counts", [COUNTS, {"dark": 9, "light": 9}])
@pytest.mark.parametrize("kind", ["logistic", "dense"])
def test_without_epochs_the_model_predicts_what_trunk_and_head_predict(
    tmp_path: Path, counts: dict[str, int], kind: str
) -> None:
    project = Project(tmp_path, counts, pooling="grid2", dtype="float32")
    head = project.train(dense()) if kind == "dense" else load_head(project.head)[0]
    summary = project.finetune(epochs=0)
    assert (summary.trained, summary.history) == (0, [])
    curve = classifier.load(project.model, Runtime(engine="tensorflow", cache=project.cache)).history
    assert curve == classifier.load(project.head, Runtime()).history
    assert [row["phase"] for row in curve] == ["head"] * len(head.history_)
    table = manifest.read(project.manifest).distinct("test")
    with Features(project.features) as features:
        expected = head.predict_proba(features.gather(table.digests))
    pixels, _ = project.split("test")
    network = store.read(project.model).network()
    np.testing.assert_allclose(store.normalised(network(pixels, training=False).numpy()), expected, atol=2e-6)


def test_a_joined_model_decides_as_its_head_and_a_trained_one_says_if_no_threshold_can_be_chosen(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path, {"dark": 12, "light": 12})
    head, record = load_head(project.head)
    threshold = {"positive": "light", "value": 0.0}
    save(head, project.head, record | {"threshold": threshold})
    joined = project.finetune(epochs=0)
    assert (store.read(project.model).threshold, joined.warnings) == (threshold, [])
    for folder in (project.head, project.model):
        how = Runtime(engine="tensorflow", batch_size=8, cache=None)
        given = predict.Predictor(folder, how)
        found = given.predict(predict.expand([project.images / "dark"]).paths, progress=lambda done, total: None)
        assert {one.label for one in found} == {"light"}
    trained = project.finetune(epochs=1)
    assert store.read(project.model).threshold is None
    (warning,) = trained.warnings
    assert warning.startswith("the threshold of the head was chosen for its probabilities, which training changes, and")


def test_training_chooses_temperature_and_threshold_anew_on_validation(tmp_path: Path) -> None:
    project = Project(tmp_path, {"dark": 120, "light": 120})
    wish = thresholds.Wish("recall", 0.9, "dark")
    head = LogisticHead(C=0.01, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=0)
    chosen = Training(head=head, calibrate="temperature", wish=wish)
    train.fit(project.manifest, project.features, project.head, chosen)
    _, record = load_head(project.head)
    summary = project.finetune(epochs=1)
    model = store.read(project.model)
    assert summary.warnings == thresholds.unshown(model.threshold)
    assert model.temperature != record["calibration"]["temperature"]
    assert model.threshold != record["threshold"]
    pixels, codes = project.split("val")
    probabilities = store.normalised(np.array(model.network()(pixels)))
    raw = calibrate.apply(probabilities, 1 / model.temperature)
    assert model.document["calibration"]["rows"] == len(codes) == 60
    assert model.temperature == pytest.approx(calibrate.fit(raw, codes), rel=1e-3)
    chosen = thresholds.choose(probabilities, codes, model.classes, wish)
    assert {**model.threshold, "value": pytest.approx(model.threshold["value"], rel=1e-4)} == chosen


@pytest.mark.parametrize("counts", [{"dark": 12, "light": 12}, {"dark": 12, "grey": 12, "light": 12}])
def test_a_joined_model_is_as_sure_as_its_calibrated_head(tmp_path: Path, counts: dict[str, int]) -> None:
    project = Project(tmp_path, counts)
    head, record = load_head(project.head)
    calibrated = {"method": "temperature", "temperature": 0.4}
    save(head, project.head, record | {"calibration": calibrated})
    project.finetune(epochs=0)
    model = store.read(project.model)
    assert (model.temperature, model.document["calibration"]) == (0.4, calibrated)
    found = []
    for folder in (project.head, project.model):
        how = Runtime(engine="tensorflow", batch_size=8, cache=None)
        given = predict.Predictor(folder, how).predict(
            predict.expand([project.images]).paths, progress=lambda done, total: None
        )
        found.append([list(one.probabilities.values()) for one in given])
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def test_joining_reads_neither_manifest_nor_images(project: Project) -> None:
    project.manifest.unlink()
    shutil.rmtree(project.images)
    project.finetune(epochs=0)
    assert store.read(project.model).classes == ["dark", "grey", "light"]


def test_joining_without_tensorflow_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.weights.h5"
    random = fakes.plan(alpha=0.35)
    load_base(random.backbone, size=SIZE, alpha=0.35, weights=random.weights).save_weights(file)
    project = Project(tmp_path, backbone="mobilenet_v2", alpha=0.35, weights=str(file), dtype="float32")
    project.finetune(epochs=0)
    here = {path.name: path.read_bytes() for path in project.model.iterdir()}
    monkeypatch.setattr(finetune, "Job", None)  # in this process
    project.finetune(epochs=0, engine="openvino")
    assert {path.name: path.read_bytes() for path in project.model.iterdir()} == here


def test_joining_to_listed_layers_gives_the_bytes_of_those_that_keras_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, backbone="efficientnet_lite0", weights="imagenet", dtype="float32")
    project.train(dense(standardize="none"))  # the scales of so few images would make the smallest step a leap
    monkeypatch.setattr(keras_process, "call", None)  # in this process
    project.finetune(epochs=0, engine="openvino")
    listed = {path.name: path.read_bytes() for path in project.model.iterdir()}
    monkeypatch.setattr(setup, "load_base", lambda *base, listed, **how: load_base(*base, **how))
    project.finetune(epochs=0)
    assert {path.name: path.read_bytes() for path in project.model.iterdir()} == listed


def test_the_same_model_has_the_same_bytes(project: Project) -> None:
    project.finetune(epochs=1)
    first = {path.name: path.read_bytes() for path in project.model.iterdir()}
    shutil.rmtree(project.model)
    project.finetune(epochs=1)
    assert first == {path.name: path.read_bytes() for path in project.model.iterdir()}
    assert set(first) == {"model.json", "weights.h5", "history.csv"}


# --- what trains


def changed(project: Project, **chosen: Any) -> set[str]:
    """The layers whose stored weights differ from those of the joined, untrained model."""
    project.finetune(epochs=0)
    before = project.weights()
    project.finetune(**chosen)
    after = project.weights()
    assert before.keys() == after.keys()
    return {name.rpartition(".")[0] for name in before if not np.array_equal(before[name], after[name])}


def test_layers_frozen_by_name_and_those_below_the_cut_stay(project: Project) -> None:
    found = changed(project, cut="block-1", freeze=("top_conv",))
    assert found == {"block3_conv", "block3_bn", "top_bn", "head_dense_0"}


def test_the_cut_at_the_image_trains_all_but_what_is_frozen_by_name(project: Project) -> None:
    summary = project.finetune(cut="image", freeze=("stem_conv", "block2_bn"), epochs=1)
    assert {layer.name for layer in summary.layers if not layer.trained} == {"stem_conv", "block2_bn"}
    assert {layer.place for layer in summary.layers} == {"tail", "head"}


def test_the_table_counts_every_number_once(project: Project) -> None:
    summary = project.finetune(epochs=1)
    stored = {name: array.size for name, array in project.weights().items() if not name.startswith("head.")}
    assert summary.trained + summary.frozen == sum(stored.values())
    in_inference = {layer.name: (layer.parameters, layer.trained) for layer in summary.layers}
    assert in_inference["top_bn"] == (4 * 16, 2 * 16)
    assert store.read(project.model).document["layers"][0]["name"] == "stem_conv"


def test_batch_normalisation_learns_statistics_only_if_asked(project: Project) -> None:
    project.finetune(epochs=0)
    before = project.weights()["top_bn.2"]
    project.finetune(epochs=1)
    assert np.array_equal(project.weights()["top_bn.2"], before)
    project.finetune(epochs=1, batch_norm="train")
    assert not np.allclose(project.weights()["top_bn.2"], before)


def test_a_new_head_starts_from_random_weights(project: Project) -> None:
    before = load_head(project.head)[0].arrays_["coef_"].T
    project.finetune(epochs=1, new_head=True, learning_rate=1e-12)
    assert "head_history" not in store.read(project.model).document["made"]
    kernel = project.weights()["head_dense_0.0"]
    limit = math.sqrt(6 / sum(kernel.shape))
    assert 0.8 * limit < np.abs(kernel).max() <= limit
    assert abs(np.corrcoef(kernel.ravel(), before.ravel())[0, 1]) < 0.5


def test_new_convolutions_take_the_place_of_the_layers_above_the_cut(project: Project) -> None:
    summary = project.finetune(cut="block1_add", new_conv=(8, 4), epochs=2)
    trained = {layer.name: layer.trained for layer in summary.layers if layer.trained}
    assert trained == {
        "new_conv_1": 9 * 8 * 8 + 8,
        "new_conv_2": 9 * 8 * 4 + 4,
        "head_dense_0": 4 * 3 + 3,
    }
    model = store.read(project.model)
    assert (model.spec["cut"], model.document["new_conv"]) == ("block1_add", [8, 4])
    pixels, _ = project.split("test")
    assert model.network()(pixels).shape == (len(pixels), 3)


def test_layers_below_move_less_under_layer_decay(project: Project) -> None:
    def steps(**chosen: Any) -> dict[str, float]:
        project.finetune(epochs=0)
        before = project.weights()
        project.finetune(epochs=1, batch_size=64, cut="block-3", **chosen)
        return {name: float(np.linalg.norm(array - before[name])) for name, array in project.weights().items()}

    plain, decayed = steps(), steps(layer_decay=0.1)
    for name, blocks in (("head_dense_0.0", 0), ("top_conv.0", 1), ("block2_conv.0", 2)):
        assert decayed[name] == pytest.approx(plain[name] * 0.1**blocks, rel=1e-3)


# Two devices must be told of before TensorFlow starts.
ON_TWO_DEVICES = """
import sys
from pathlib import Path
import numpy as np
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from pipeline.models.finetuning import devices
from tests.models.finetuning.test_finetune import Project, dense
project = Project(Path(sys.argv[1]), {"dark": 9, "grey": 10, "light": 12})
project.train(dense(l2=0.01))
alone = devices.strategy()
assert alone.num_replicas_in_sync == 1
several = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
chosen = {"cut": "image", "batch_size": 3, "learning_rate": 1e-4, "layer_decay": 0.5, "weight_decay": 0.1}
found = []
for strategy in (alone, several):
    devices.strategy = lambda: strategy
    found.append((project.finetune(**chosen, class_weight="balanced", label_smoothing=0.1), project.weights()))
(one, one_weights), (two, two_weights) = found
for row, other in zip(one.history, two.history, strict=True):
    np.testing.assert_allclose([*other.values()], [*row.values()], rtol=1e-5)
moved = {name: np.abs(one_weights[name]).max() for name in one_weights}
for name, weights in one_weights.items():
    np.testing.assert_allclose(two_weights[name], weights, rtol=1e-4, atol=1e-4 * moved[name], err_msg=name)
"""


def test_two_devices_train_as_one_does(tmp_path: Path, forked: Forked) -> None:
    assert forked(ON_TWO_DEVICES, tmp_path, "p") == (0, "")


def test_tensorflow_is_imported_with_onednn_and_the_environment_is_as_it_was(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorflow.py").write_text("import os\nONEDNN = os.environ['TF_ENABLE_ONEDNN_OPTS']\n")
    monkeypatch.syspath_prepend(tmp_path)
    for chosen, taken in ((None, "1"), ("0", "0")):
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "tensorflow", raising=False)
            patch.delenv(devices.ONEDNN, raising=False) if chosen is None else patch.setenv(devices.ONEDNN, chosen)
            devices.import_tensorflow()
            assert (sys.modules.pop("tensorflow").ONEDNN, os.environ.get(devices.ONEDNN)) == (taken, chosen)
    imported: list[None] = []
    monkeypatch.setattr(devices, "import_tensorflow", lambda: imported.append(None))
    project.train(dense())
    project.finetune(epochs=1)
    assert len(imported) == 1


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_every_optimizer_lowers_the_loss(project: Project, optimizer: str) -> None:
    rate = 0.01 if optimizer == "sgd" else 1e-3
    history = project.finetune(optimizer=optimizer, learning_rate=rate, new_head=True, epochs=4).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_the_schedule_warms_up_and_falls_along_a_cosine() -> None:
    settings = replace(CHOSEN, epochs=4, schedule="cosine", warmup_epochs=1.0, learning_rate=1.0)
    rates = [settings.rate(step, 10) for step in range(40)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[25] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert replace(settings, schedule="constant").rate(39, 10) == 1.0


def test_weight_decay_shrinks_kernels_and_spares_biases(project: Project) -> None:
    project.finetune(epochs=1, weight_decay=0.0)
    plain = project.weights()
    project.finetune(epochs=1, weight_decay=5.0)
    decayed = project.weights()
    assert np.linalg.norm(decayed["top_conv.0"]) < 0.95 * np.linalg.norm(plain["top_conv.0"])
    assert np.linalg.norm(decayed["top_bn.0"]) > 0.99 * np.linalg.norm(plain["top_bn.0"])


def test_smoothed_labels_and_class_weights_enter_the_loss(project: Project) -> None:
    quiet = {"epochs": 1, "learning_rate": 1e-12}
    pixels, codes = project.split("val")
    project.finetune(epochs=0)
    p = np.log(store.normalised(store.read(project.model).network()(pixels).numpy()))
    smoothed = project.finetune(**quiet, label_smoothing=0.3).history[0]["val_loss"]
    targets = 0.7 * np.eye(3)[codes] + 0.1
    assert smoothed == pytest.approx(-(targets * p).sum(axis=1).mean(), rel=1e-4)
    train = project.split("train")[1]
    weights = len(train) / (3 * np.bincount(train))
    balanced = project.finetune(**quiet, class_weight="balanced").history[0]["val_loss"]
    assert balanced == pytest.approx(-(weights[codes] * p[np.arange(len(codes)), codes]).mean(), rel=1e-4)


# --- stop and go on


def test_early_stopping_keeps_the_best_weights(project: Project) -> None:
    summary = project.finetune(epochs=30, patience=2, optimizer="adam", learning_rate=0.05, new_head=True)
    losses = [row["val_loss"] for row in summary.history]
    assert summary.best_epoch == 1 + int(np.argmin(losses))
    assert len(losses) == summary.best_epoch + 2
    pixels, codes = project.split("val")
    found = store.normalised(store.read(project.model).network()(pixels).numpy())
    assert -np.log(found[np.arange(len(codes)), codes]).mean() == pytest.approx(min(losses), rel=1e-4)


def test_the_head_is_kept_where_no_epoch_is_better(project: Project) -> None:
    project.finetune(epochs=0)
    joined = project.weights()
    summary = project.finetune(epochs=2, patience=2, optimizer="adam", learning_rate=0.5)
    assert summary.best_epoch == 0
    assert summary.scores["val_loss"] < min(row["val_loss"] for row in summary.history)
    for name, array in project.weights().items():
        np.testing.assert_array_equal(array, joined[name])
    kept = store.read(project.model)
    assert kept.joined_from == hashlib.sha256((project.head / HEAD_FILE).read_bytes()).hexdigest()
    assert (kept.temperature, "finetuned" in kept.spec["weights"]) == (1.0, False)
    pixels, _ = project.split("val")
    alone = joined_head.read(project.head, weights=None, cache=project.cache)
    assert (alone.joined_from, alone.spec) == (kept.joined_from, kept.spec)
    np.testing.assert_array_equal(alone.network()(pixels), kept.network()(pixels))


def judged(project: Project, trained: Path, **changes: Any) -> tuple[EvaluateResult, predictions_file.Subject]:
    settings = replace(EvaluateSettings(resamples=100, engine="tensorflow", cache=project.cache), **changes)
    out = project.root / "evaluation"
    found = evaluate.evaluate(project.images, project.manifest, project.features, trained, out, settings)
    return found, predictions_file.read_evaluated(out)


def test_a_joined_model_is_evaluated_by_the_features_as_its_head(project: Project) -> None:
    shutil.rmtree(project.images)
    metrics = project.root / "evaluation" / "metrics.json"
    _, head = judged(project, project.head)
    of_head = metrics.read_text()
    project.finetune(epochs=0)
    found, joined = judged(project, project.model)
    assert (metrics.read_text(), joined.head) == (of_head, head.identity)
    assert head.identity == head.head != joined.identity
    assert (found.forwarded, found.reused) == (0, 6)


def test_a_photo_is_forwarded_once_for_all_models_that_are_trained_above_a_cut_or_one_higher_up(
    project: Project,
) -> None:
    head = hashlib.sha256((project.head / HEAD_FILE).read_bytes()).hexdigest()
    pixels, _ = project.split("test")

    def tuned(cut: str, **chosen: Any) -> tuple[int, int]:
        project.finetune(epochs=1, cut=cut, **chosen)
        found, subject = judged(project, project.model)
        assert subject == predictions_file.Subject(store.read(project.model).identity, None, started_from=head)
        told = predictions_file.read_predictions(project.root / "evaluation")
        digests = [bytes.fromhex(digest) for digest in told.digests]
        rows = told.probabilities[sorted(range(len(digests)), key=digests.__getitem__)]
        network = store.read(project.model).network()
        np.testing.assert_allclose(rows, store.normalised(network(pixels, training=False).numpy()), atol=1e-5)
        assert not [warning for warning in found.warnings if "network" in warning]
        return found.forwarded, found.reused

    assert tuned("block-2") == (6, 0)
    assert tuned("block-2", learning_rate=0.02, batch_norm="train") == (0, 6)
    from_photos = project.finetune(epochs=1, cut="block-1").history
    for rows in (project.cache / "rows").iterdir():
        if json.loads((rows / "spec.json").read_text())["cut"] == "block2_add":
            shutil.rmtree(rows)
    shutil.rmtree(project.images)
    from_rows = project.finetune(epochs=1, cut="block-1").history
    assert [row["loss"] for row in from_rows] == pytest.approx([row["loss"] for row in from_photos], rel=1e-5)
    assert tuned("block-1", learning_rate=0.03) == (0, 6)


def test_a_model_whose_rows_cannot_be_kept_or_computed_is_evaluated_by_its_whole_network_and_that_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def whole(cache: Path) -> float:
        found, _ = judged(project, project.model, cache=cache)
        assert (found.forwarded, found.reused) == (6, 0)
        (warning,) = (one for one in found.warnings if one.startswith("the photos ran through the whole network: "))
        assert reason in warning
        return float(found.metrics["log_loss"]["value"])

    def nowhere(*_: Any, **__: Any) -> None:
        raise WeightsError(reason)

    project.finetune(epochs=1)
    file, reason = project.root / "file", "cannot lock the cache"
    file.touch()
    unkept = whole(file)
    monkeypatch.setattr(resolve, "find_weights", nowhere)
    reason = "the weights are on another machine"
    assert whole(project.cache) == pytest.approx(unkept, rel=1e-5)


class Killed(BaseException):
    """Stands for a kill between two epochs."""


def test_a_run_that_stopped_goes_on_at_its_epoch(project: Project) -> None:
    expected = project.finetune(epochs=4, optimizer="adam", learning_rate=1e-3)
    stored = project.weights()

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        project.finetune(stop, epochs=4, optimizer="adam", learning_rate=1e-3)
    again = project.finetune(epochs=4, optimizer="adam", learning_rate=1e-3)
    assert (again.resumed_after, expected.resumed_after) == (2, 0)
    np.testing.assert_allclose([r["loss"] for r in again.history], [r["loss"] for r in expected.history], rtol=1e-5)
    for name, array in project.weights().items():
        np.testing.assert_allclose(array, stored[name], rtol=1e-4, atol=1e-5)
    assert list((project.cache / "finetuning").glob("*/*")) == []


def test_a_rate_that_fell_on_a_plateau_is_as_low_in_a_run_that_goes_on(project: Project) -> None:
    chosen: dict[str, Any] = {"epochs": 4, "patience": 0, "optimizer": "adam", "learning_rate": 1e-3}
    chosen["plateau"] = PlateauSettings(plateau_patience=1, plateau_delta=10.0, plateau_factor=1e-9)
    whole = project.finetune(**chosen).history
    assert whole[1]["val_loss"] != pytest.approx(whole[0]["val_loss"], rel=1e-4)
    assert [row["val_loss"] for row in whole[2:]] == pytest.approx([whole[1]["val_loss"]] * 2, rel=1e-5)

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        project.finetune(stop, **chosen)
    rates: list[float] = []
    again = project.finetune(lambda row: rates.append(row["learning_rate"]), **chosen)
    assert rates == pytest.approx([1e-3, 1e-3, 1e-12, 1e-21])
    assert "learning_rate" not in again.history[0]
    assert again.resumed_after >= 1
    np.testing.assert_allclose([r["val_loss"] for r in again.history], [r["val_loss"] for r in whole], rtol=1e-5)
    made = store.read(project.model).document["made"]["finetuning"]
    assert made["plateau"]["plateau_patience"] == 1
    project.finetune(epochs=1)
    assert "plateau" not in store.read(project.model).document["made"]["finetuning"]


def test_a_damaged_checkpoint_is_as_good_as_none(tmp_path: Path) -> None:
    state = checkpoints.State([np.arange(3.0)], [np.ones(2)], [np.zeros(3)], 1, [{"epoch": 1, "loss": 0.1}])
    path = tmp_path / checkpoints.CHECKPOINT
    assert checkpoints.found(path, state) is None
    checkpoints.keep(path, state)
    kept = checkpoints.found(path, state)
    assert kept is not None
    assert (kept.best_epoch, kept.history, kept.epoch) == (1, state.history, 1)
    assert np.array_equal(kept.weights[0], state.weights[0])
    assert checkpoints.found(path, replace(state, weights=[np.arange(4.0)])) is None
    path.write_bytes(path.read_bytes()[:-40])
    assert checkpoints.found(path, state) is None


def test_a_second_run_of_the_same_model_says_who_is_at_it(project: Project) -> None:
    def meanwhile(row: dict[str, float]) -> None:
        project.finetune(epochs=1)

    with pytest.raises(BusyError, match=rf"process {os.getpid()} on .* trains this model"):
        project.finetune(meanwhile, epochs=1)


# Trains models one after the other, and is killed in the step that is named.
KILLABLE = """
import glob, os, signal, sys, time
from tests.fakes import register_tiny
register_tiny()
from pipeline.models.finetuning import trainer
from stages.finetune import finetune
steps, kill_at, take = 0, int(sys.argv[1]), trainer.Tuner.train
def counted(self, *given, **named):
    global steps
    steps += 1
    if steps == kill_at:
        while not glob.glob("cache/finetuning/*/checkpoint.npz"):  # it is written behind
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, *given, **named)
trainer.Tuner.train = counted
*inputs, = sys.argv[3:]
for model in sys.argv[2].split():
    finetune([*inputs[:4], model, *inputs[4:]], standalone_mode=False)
"""


def test_a_run_killed_within_an_epoch_ends_with_the_bits_of_an_undisturbed_one(
    project: Project, forked: Forked
) -> None:
    project.train(dense(dropout=0.4))
    paths = [str(path) for path in (project.images, project.manifest, project.features, project.head)]
    options = "--epochs 2 --deterministic --batch-size 4 --optimizer adam --learning-rate 1e-3 --engine tensorflow"
    given = [*paths, *options.split(), "--cache", str(project.cache)]
    # Four steps an epoch: killed within the second.
    status, killed = forked(KILLABLE, project.root, "7", "resumed", *given)
    assert (status, " -> resumed" in killed) == (-signal.SIGKILL, False), killed
    status, told = forked(KILLABLE, project.root, "0", "resumed undisturbed", *given)
    assert status == 0, told
    again, undisturbed = re.findall(r"^2 epochs .* -> (?:resumed|undisturbed)", told, re.MULTILINE)
    assert "resumed after epoch 1;" in again
    assert "resumed after" not in undisturbed
    for name in ("weights.h5", "history.csv", "model.json"):
        assert (project.root / "resumed" / name).read_bytes() == (project.root / "undisturbed" / name).read_bytes()


# --- live pixels


def test_live_pixels_without_change_train_as_cached_activations_do(project: Project) -> None:
    cached = project.finetune().history
    live = project.finetune(live_augment=True).history
    np.testing.assert_allclose([row["val_loss"] for row in live], [row["val_loss"] for row in cached], rtol=1e-5)


def test_live_augmentation_shows_other_pixels_in_each_epoch_and_judges_the_images_themselves(project: Project) -> None:
    turned = Policy(flip="both", rotation=0.2, zoom=0.2, shift=0.1, brightness=0.2, contrast=0.2)
    quiet = {"epochs": 2, "learning_rate": 1e-12}
    live = project.finetune(**quiet, live_augment=True, policy=turned).history
    plain = project.finetune(**quiet).history
    assert len({round(row["loss"], 6) for row in (*live, plain[0])}) == 3
    assert [row["val_loss"] for row in live] == pytest.approx([row["val_loss"] for row in plain], rel=1e-4)


def test_an_image_that_is_gone_is_named(project: Project) -> None:
    (project.images / "dark" / "000.png").unlink()
    with pytest.raises(InputError, match=r"dark/000\.png: expected an image"):
        project.finetune(cut="image", epochs=1)


# --- refusals


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"freeze": ("top_con",)},
            InputError,
            r"`freeze`: expected layers .* received 'top_con'; did you mean top_conv",
        ),
        ({"cut": "block4_conv"}, CutError, r"`cut`: expected one of the \d+ layers where"),
        ({"cut": "block2_conv"}, CutError, r"`cut`: .* beside a branch; the nearest such layers are"),
        ({"cut": "block-40"}, CutError, r"`cut`: expected one of image, block-"),
        ({"cut": "image", "new_conv": (4,)}, InputError, r"`new_conv`: expected a `cut` at a layer"),
        ({"warmup_epochs": 3.0}, InputError, r"`warmup_epochs`: expected at most the 2 of `epochs`, received 3\.0"),
        ({"learning_rate": 1e30}, InputError, r"received nan in epoch 1: training diverged; lower `learning_rate`"),
        (
            {"label_smoothing": 1.0},
            InputError,
            r"`label_smoothing`: expected a number of at least 0 and below 1, received 1.0",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(
    project: Project, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        project.finetune(**changes)
    assert not (project.model / model.MODEL_FILE).exists()


def test_weights_that_are_not_the_heads_are_refused(project: Project) -> None:
    record = json.loads((project.head / HEAD_FILE).read_text())
    record["spec"]["weights"]["seed"] = 1
    publish(project.head / HEAD_FILE, record)
    with pytest.raises(SpecError, match=r"weights\.seed: expected 1, received 0"):
        project.finetune(epochs=0)


def test_few_validation_images_are_learned_from_for_all_epochs_and_that_is_said_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, record = load_head(project.head)
    save(head, project.head, record | {"calibration": {"temperature": 2.0}})
    stopping = project.finetune(patience=2)
    monkeypatch.setattr("pipeline.photos.manifest.FEWEST_VAL", FEWEST_VAL)
    summary = project.finetune(patience=2)
    assert summary.warnings == ["fewer than 50 validation images: trained for all epochs, not calibrated"]
    assert [sorted(row) for row in summary.history] == [["accuracy", "epoch", "loss"]] * 2
    assert "val_loss" in stopping.history[0]
    assert (summary.best_epoch, store.read(project.model).temperature) == (2, 1.0)


def test_a_training_that_ends_with_less_than_a_guess_leaves_the_head_as_it_was(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, record = load_head(project.head)
    save(head, project.head, record | {"calibration": {"temperature": 2.0}})
    project.finetune(epochs=0)
    before = project.weights()
    monkeypatch.setattr("pipeline.photos.manifest.FEWEST_VAL", FEWEST_VAL)
    summary = project.finetune(learning_rate=30.0, optimizer="adam", patience=2)
    assert (summary.best_epoch, len(summary.history)) == (0, 2)
    assert "a loss greater than that of a guess, so the head is kept as it was" in summary.warnings[-1]
    assert summary.scores.keys() == {"loss", "accuracy"}
    assert store.read(project.model).temperature == 2.0
    for name, array in project.weights().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_the_last_epoch_is_kept_where_that_is_asked_for_and_told_where_it_is_less_than_a_guess(
    project: Project,
) -> None:
    summary = project.finetune(learning_rate=30.0, optimizer="adam", patience=0)
    assert summary.best_epoch == 2
    assert "a loss greater than that of a guess, and is kept, as `patience=0` asks" in summary.warnings[-1]


def test_a_head_of_other_classes_is_refused(project: Project) -> None:
    project.manifest.write_text(project.manifest.read_text().replace(",grey,", ",green,"))
    with pytest.raises(ArtefactError, match="the manifest alone has 'green'; the head alone has 'grey'"):
        project.finetune()


# --- the command


def test_the_command_trains_and_shows_what_is_frozen(project: Project) -> None:
    paths = [str(path) for path in (project.images, project.manifest, project.features, project.head, project.model)]
    options = ["--epochs", "1", "--freeze", "top_conv", "--cache", str(project.cache), "--head", "logistic"]
    result = CliRunner().invoke(command, [*paths, *options, "--report", str(project.root / "report.json")])
    assert result.exit_code == 0, result.output
    assert re.search(r"^\(below the cut\) +[\d,]+ +frozen$", result.stdout, re.MULTILINE)
    assert re.search(r"^top_conv +128 +frozen$", result.stdout, re.MULTILINE)
    assert re.search(r"^top_bn +64 +32$", result.stdout, re.MULTILINE)
    assert re.search(r"^1 epoch in \d+\.\d s; .* kept: val loss \d\.\d+, accuracy [01]\.\d+ -> ", result.stdout, re.M)
    report = json.loads((project.root / "report.json").read_text())
    assert report["epochs"] == report["best_epoch"] == 1
    assert report["training_seconds"] > 0


def test_a_range_test_ends_where_the_loss_is_far_above_its_least_and_goes_on_after_a_kill(project: Project) -> None:
    paths = [str(path) for path in (project.images, project.manifest, project.features, project.head, project.model)]
    # A step for each photo: each pass over the photos opens them anew, which takes longer than its steps.
    settings = FinetuneSettings(tuning=replace(CHOSEN, batch_size=1), engine="tensorflow", cache=project.cache)

    def stop(done: int, total: int) -> None:
        if done == 30:
            raise Killed

    with pytest.raises(Killed):
        finetune.find_learning_rate(*map(Path, paths), settings, finetune.Callbacks(progress=stop))
    resumed = finetune.find_learning_rate(*map(Path, paths), settings, finetune.Callbacks())
    again = finetune.find_learning_rate(*map(Path, paths), settings, finetune.Callbacks())
    assert (resumed.resumed_after, again.resumed_after) == (20, 0)
    columns = [np.array([[row["rate"], row["loss"]] for row in found.rows]) for found in (resumed, again)]
    np.testing.assert_allclose(columns[0], columns[1], rtol=1e-4)
    rates, smoothed = columns[1][:, 0], [row["smoothed"] for row in again.rows]
    assert (rates[0], len(rates) > 50) == (1e-7, True)
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e7) / 99)
    assert again.suggested == pytest.approx(rates[np.argmin(smoothed)] / 10, rel=0.05)
    assert len(rates) == 100 or smoothed[-1] > 4 * min(smoothed)
    assert {path.name for path in project.model.iterdir()} == {"learning_rates.csv", "learning_rates.png"}
    options = ["--find-learning-rate", "--cut", "block-1", "--batch-size", "1", "--cache", str(project.cache)]
    result = CliRunner().invoke(command, [*paths, *options])
    assert result.exit_code == 0, result.output
    assert re.search(
        r"^\d+ steps: --learning-rate \S+, a tenth of the rate at which the loss is the least -> ", result.stdout
    )


def test_the_command_refuses_a_head_of_another_kind(project: Project) -> None:
    paths = [str(path) for path in (project.images, project.manifest, project.features, project.head, project.model)]
    result = CliRunner().invoke(command, [*paths, "--head", "dense"])
    assert result.exit_code == 2
    assert "expected a head of kind dense" in result.stderr
    assert "received logistic" in result.stderr


@pytest.mark.parametrize(("views", "said"), [(1, ""), (3, ", each one pass over the photos, in the next of 3 views,")])
def test_of_views_it_is_said_that_an_epoch_is_one_pass(views: int, said: str) -> None:
    row = {"epoch": 1, "loss": 0.5, "accuracy": 0.75}
    found = finetune.FinetuneResult([], [row] * 2, 1, 0, 0.0, 4.0, [], views, None)
    assert _outcome(found) == f"2 epochs{said} in 4.0 s; epoch 1 is kept: train loss 0.50000, accuracy 0.750"
