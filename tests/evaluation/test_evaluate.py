"""A head is judged on the test split alone: the numbers, tables and pictures that come of it."""

import csv
import hashlib
import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pipeline.backbones import cutting, weights
from pipeline.errors import ArtefactError, InputError, SpecError
from pipeline.evaluation import evaluate as evaluation
from pipeline.evaluation import predictions_file, results
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.features import features_file
from pipeline.features.spec import RANDOM
from pipeline.heads.calibration import calibrate
from pipeline.heads.dense import DenseHead
from pipeline.heads.store import load, save
from pipeline.models import assemble, store
from pipeline.photos import augmentation, decode, manifest
from pipeline.photos.settings import Policy
from pipeline.plots import image_grid
from pipeline.stats import metrics
from stages.evaluate import evaluate as command
from tests.fakes import plan, register_tiny, write_views

pytestmark = pytest.mark.usefixtures("undrawn")

SPEC = {
    "backbone": {"name": "efficientnet_lite0", "alpha": 1.0},
    "cut": "top",
    "decoder": {"name": "pillow", "version": "1"},
    "dtype": "float32",
    "pooling": "avg",
    "precision": "float32",
    "preprocessing": "none",
    "resize": "squash",
    "size": 224,
    "weights": {"sha256": "0"},
}
HISTORY = [
    {"epoch": 1, "loss": 0.9, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.4},
    {"epoch": 2, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.7, "val_accuracy": 0.6},
]
MADE = {"best_epoch": 1, "head_history": HISTORY[:1], "head_epoch": 1}


def transparent_head(k):
    """A dense head without hidden layers that hands its features on: log probabilities in, probabilities out."""
    head = DenseHead(
        hidden=(),
        activation="relu",
        dropout=0.0,
        l1=0.0,
        l2=0.0,
        optimizer="adam",
        learning_rate=0.001,
        batch_size=32,
        epochs=1,
        patience=0,
        class_weight=None,
        standardize="none",
        seed=0,
    )
    kernel = np.eye(k) if k > 2 else np.array([[-1.0], [1.0]])
    head.arrays_ = {
        "mean_": np.zeros(k),
        "scale_": np.ones(k),
        "kernel_0_": kernel.astype(np.float32),
        "bias_0_": np.zeros(kernel.shape[1], np.float32),
    }
    head.history_, head.warnings_ = [], []
    return head


class Project:
    """Images, manifest, features and head in a folder; each image's feature is the probability it is to be given."""

    def __init__(self, root, classes):
        self.root, self.classes = root, classes
        self.images, self.manifest, self.features = root / "images", root / "manifest.csv", root / "features.h5"
        self.head, self.out = root / "head", root / "out"
        self.rows = []
        self.history = []
        self.spec = self.head_spec = SPEC
        self.shades = itertools.count()

    def add(self, path, label, split, given, confidence=0.9):
        """Add an image of a shade of its own, which the head will give class `given` with this confidence."""
        file = self.images / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (200, 30, next(self.shades))).save(file)
        rest = (1 - confidence) / (len(self.classes) - 1)
        row = [confidence if name == given else rest for name in self.classes]
        self.rows.append((path, hashlib.sha256(file.read_bytes()).digest(), label, split, row))
        return self

    def write(self, head_classes=None):
        paths, digests, labels, splits, probabilities = zip(*self.rows, strict=True)
        codes = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
        sides = np.full(len(paths), 8, np.int32)
        formats = ["PNG"] * len(paths)
        table = manifest.Manifest(list(paths), codes, list(labels), list(splits), sides, sides, formats)
        manifest.write(table, self.manifest)
        order = sorted({digest: place for place, digest in enumerate(digests)}.items())
        kept = [place for _, place in order]
        features_file.write(
            self.features,
            spec=json.dumps(self.spec),
            digests=codes[kept],
            row_shape=(len(self.classes),),
            dtype="float32",
            blocks=[np.log(np.array(probabilities, np.float32)[kept])],
        )
        head = transparent_head(len(self.classes))
        head.history_ = self.history
        save(head, self.head, {"classes": head_classes or self.classes, "spec": self.head_spec})
        return self

    @property
    def paths(self):
        return self.images, self.manifest, self.features, self.head, self.out

    def evaluate(self, tta=False):
        return evaluation.evaluate(*self.paths, EvaluateSettings(tta=tta, resamples=200))

    def add_view(self, seed, of=slice(None)):
        """Give images, all or those `of`, a second view, in which the head sees something else."""
        with features_file.Features(self.features) as read:
            rows, digests = read.gather(read.digests), read.digests
        other = np.random.default_rng(seed).permuted(rows, axis=1)
        both = np.stack([rows, other], axis=1)
        write_views(self.features, digests, both, spec=json.dumps(self.spec), described={"policy": {}}, of=of)
        return np.exp(rows), np.exp(other), digests

    def table(self, name):
        with (self.out / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def project(tmp_path):
    """Ten test images of three classes, two of them mistaken, and training images that are all mistaken."""
    found = Project(tmp_path, ["ant", "bee", "cat"])
    for number in range(4):
        found.add(f"bee/{number}.png", "bee", "test", "bee")
        found.add(f"ant/{number}.png", "ant", "test", "ant")
    found.add("cat/sure.png", "cat", "test", "bee", confidence=0.99)
    found.add("cat/unsure.png", "cat", "test", "ant", confidence=0.5)
    for label in found.classes:
        found.add(f"{label}/train.png", label, "train", "bee" if label == "ant" else "ant")
    return found


@pytest.fixture
def captured(monkeypatch):
    """What the grid of mistakes is asked to draw."""
    asked = {}

    def mistakes_grid(pictures, captions, path, title):
        asked.update(pictures=pictures, captions=captions, title=title)
        path.write_bytes(b"")

    monkeypatch.setattr(image_grid, "mistakes_grid", mistakes_grid)
    return asked


def test_only_the_test_split_is_judged(project):
    summary = project.write().evaluate()
    assert summary.metrics["n"] == 10
    assert summary.metrics["accuracy"]["value"] == 0.8
    assert summary.mistakes == 2
    assert summary.warnings == []


def test_folder_holds_these_files_and_no_others(project):
    project.write().evaluate()
    tables = (
        "all_metrics.json evaluated.json metrics.json classes.csv confusion.csv learning_curves.csv predictions.csv"
    )
    assert {file.name for file in project.out.iterdir()} == {
        *tables.split(),
        "reliability.csv",
        "digests.json",
        "plots",
    }
    pictures = "classes.png confusion_matrix.png mistakes.png reliability.png"
    assert {file.name for file in (project.out / "plots").iterdir()} == set(pictures.split())


def test_a_head_is_judged_by_view_0_and_with_tta_by_the_mean_over_views(project):
    plain = project.write().evaluate().metrics["accuracy"]["value"]
    first, second, digests = project.add_view(0)
    assert project.evaluate().metrics["accuracy"]["value"] == plain
    project.evaluate(tta=True)
    mean = (first + second) / 2
    place = {hashlib.sha256(path.read_bytes()).digest(): path for path in project.images.rglob("*.png")}
    expected = {
        place[digest.tobytes()].relative_to(project.images).as_posix(): row
        for digest, row in zip(digests, mean, strict=True)
    }
    for row in project.table("predictions.csv"):
        found = [float(row[f"p_{name}"]) for name in project.classes]
        np.testing.assert_allclose(found, expected[row["path"]], atol=1e-5)


def test_tta_without_views_is_an_error_that_names_the_option(project):
    with pytest.raises(
        InputError, match=r"`tta`: expected features of several views, received .*features\.h5 with one"
    ):
        project.write().evaluate(tta=True)
    project.add_view(0, of=slice(5))
    project.evaluate()
    with pytest.raises(InputError, match=r"`tta`: expected views of the test images.*: run `hs\.extract\(tta=True\)`"):
        project.evaluate(tta=True)


def test_metrics_can_be_read_again_and_only_from_where_they_are(project, tmp_path):
    summary = project.write().evaluate()
    assert predictions_file.read_metrics(project.out)["accuracy"] == summary.metrics["accuracy"]["value"]
    with pytest.raises(ArtefactError, match=r"nowhere/all_metrics\.json: expected metrics, received no such file"):
        predictions_file.read_metrics(tmp_path / "nowhere")


def test_all_metrics_are_flat_and_numbers_only_and_dvc_tracks_nine_of_them(project):
    summary = project.write().evaluate()
    written = json.loads((project.out / "all_metrics.json").read_text())
    keys = [f"{name}{end}" for name in (*metrics.OVERALL, "ece") for end in ("", "_low", "_high")]
    before = [f"uncalibrated_{name}{end}" for name in ("log_loss", "ece") for end in ("", "_low", "_high")]
    assert list(written) == ["images", *keys, "temperature", *before]
    assert all(isinstance(value, int | float) for value in written.values())
    tracked = [f"{name}{end}" for name in ("accuracy", "log_loss", "ece") for end in ("", "_low", "_high")]
    assert json.loads((project.out / "metrics.json").read_text()) == {name: written[name] for name in tracked}
    assert written["accuracy"] == 0.8
    assert written["accuracy_low"] == round(summary.metrics["accuracy"]["low"], 6) == 0.490162


def test_predictions_are_rows_in_path_order_that_add_up(project):
    project.write().evaluate()
    rows = project.table("predictions.csv")
    assert list(rows[0]) == ["path", "digest", "label", "predicted", "correct", "confidence", "p_ant", "p_bee", "p_cat"]
    assert [row["path"] for row in rows] == sorted(path for path, _, _, split, _ in project.rows if split == "test")
    sure = next(row for row in rows if row["path"] == "cat/sure.png")
    assert (sure["label"], sure["predicted"], sure["correct"]) == ("cat", "bee", "0")
    assert float(sure["confidence"]) == float(sure["p_bee"]) == pytest.approx(0.99, abs=1e-6)
    assert sum(int(row["correct"]) for row in rows) == 8
    for row in rows:
        assert sum(float(row[f"p_{label}"]) for label in project.classes) == pytest.approx(1, abs=1e-8)


def test_confusion_csv_has_a_row_an_image(project):
    project.write().evaluate()
    rows = [(row["actual"], row["predicted"]) for row in project.table("confusion.csv")]
    assert {pair: rows.count(pair) for pair in rows} == {
        ("ant", "ant"): 4,
        ("bee", "bee"): 4,
        ("cat", "ant"): 1,
        ("cat", "bee"): 1,
    }


def test_classes_csv_leaves_empty_what_is_not_defined(project):
    project.write().evaluate()
    ant, _, cat = project.table("classes.csv")
    assert (ant["label"], ant["images"], ant["recall"], ant["recall_high"]) == ("ant", "4", "1.0", "1.0")
    assert float(ant["precision"]) == 0.8
    assert (cat["precision"], cat["recall"], cat["f1"]) == ("", "0.0", "0.0")


def test_identical_files_count_once(project):
    original = project.images / "cat/sure.png"
    project.add("cat/zcopy.png", "cat", "test", "bee")
    (project.images / "cat/zcopy.png").write_bytes(original.read_bytes())
    sure = next(row for row in project.rows if row[0] == "cat/sure.png")
    project.rows[-1] = ("cat/zcopy.png", *sure[1:])
    assert project.write().evaluate().metrics["n"] == 10


def test_the_order_of_the_manifest_changes_no_byte(project, drawn):
    project.write().evaluate()
    first = {file.name: file.read_bytes() for file in project.out.rglob("*.*")}
    project.rows.reverse()
    project.write().evaluate()
    assert {file.name: file.read_bytes() for file in project.out.rglob("*.*")} == first
    assert "mistakes.png" in first


def test_mistakes_are_drawn_with_their_pictures_the_most_confident_first(project, captured):
    project.write().evaluate()
    assert captured["title"] == "All 2 mistakes among 10 test images"
    assert captured["captions"] == [
        "is: cat\ntaken for: bee\nconfidence 0.990\ncat/sure.png",
        "is: cat\ntaken for: ant\nconfidence 0.500\ncat/unsure.png",
    ]
    assert captured["pictures"][0].shape == (8, 12, 3)
    assert captured["pictures"][0][0, 0].tolist() == [200, 30, 8]


def test_no_more_mistakes_are_drawn_than_fit(project, captured, monkeypatch):
    monkeypatch.setattr(results, "MISTAKES_DRAWN", 1)
    project.write().evaluate()
    assert captured["title"] == "The 1 most confident of 2 mistakes among 10 test images"
    assert len(captured["pictures"]) == len(captured["captions"]) == 1


def test_a_mistake_whose_file_is_gone_or_changed_is_drawn_with_a_remark(project, captured):
    project.write()
    (project.images / "cat/sure.png").unlink()
    Image.new("RGB", (6, 6), "blue").save(project.images / "cat/unsure.png")
    project.evaluate()
    assert captured["pictures"][0] is None
    assert captured["captions"][0].endswith("cat/sure.png\nfile not found")
    assert captured["pictures"][1].shape == (6, 6, 3)
    assert captured["captions"][1].endswith("cat/unsure.png\nchanged since it was judged")


def test_a_folder_of_photos_that_is_not_there_is_a_warning_where_a_head_needs_none(project):
    project.write().images = project.images / "nowhere"
    assert "expected the folder of the photos, found none" in project.evaluate().warnings[-1]


def test_without_mistakes_there_is_no_picture_of_them_and_an_old_one_is_removed(project):
    picture = project.write().out / "plots" / "mistakes.png"
    project.evaluate()
    assert picture.exists()
    project.rows = [row for row in project.rows if not (row[2] == "cat" and row[3] == "test")]
    project.add("cat/right.png", "cat", "test", "cat")
    project.write().evaluate()
    assert not picture.exists()


def test_learning_curves_are_drawn_for_a_head_with_epochs_and_not_for_one_without(project):
    project.history = HISTORY
    project.write().evaluate()
    rows = project.table("learning_curves.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert list(rows[0]) == ["epoch", "passes", "phase", "kept", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert [(row["phase"], row["kept"]) for row in rows] == [("head", "0"), ("head", "1")]
    assert (project.out / "plots/learning_curves.png").exists()
    project.history = []
    project.write().evaluate()
    assert not (project.out / "plots/learning_curves.png").exists()
    assert project.table("learning_curves.csv") == []
    assert (project.out / "learning_curves.csv").read_text().startswith("epoch,passes,phase,kept,loss,accuracy,")


def test_two_classes_are_judged_as_many_are(tmp_path):
    found = Project(tmp_path, ["cat", "dog"])
    for number in range(6):
        found.add(f"{number}.png", "cat" if number % 2 else "dog", "test", "cat" if number % 2 else "dog")
    found.add("6.png", "dog", "test", "cat", confidence=0.6)
    measured = found.write().evaluate().metrics
    assert measured["accuracy"]["value"] == pytest.approx(6 / 7)
    assert measured["roc_auc"]["value"] == 1.0


def test_metrics_predictions_and_confusion_are_those_at_the_threshold_of_the_head(tmp_path):
    project = Project(tmp_path, ["a", "b"])
    for number, (label, confidence) in enumerate([("a", 0.9), ("a", 0.6), ("b", 0.6), ("b", 0.9)]):
        project.add(f"{label}/{number}.png", label, "test", "b", confidence)
    project.add("a/train.png", "a", "train", "a")
    project.write()
    head, record = load(project.head)
    save(head, project.head, record | {"threshold": {"positive": "b", "value": 0.8}})
    measured = project.evaluate().metrics
    assert measured["accuracy"]["value"] == 0.5
    assert measured["classes"]["b"]["recall"]["value"] == 0.5
    assert measured["roc_auc"]["value"] == 0.5
    assert [row["predicted"] for row in project.table("predictions.csv")] == ["b", "a", "a", "b"]
    assert float(project.table("predictions.csv")[1]["confidence"]) == pytest.approx(0.4)


def probabilities(project):
    rows = project.table("predictions.csv")
    return np.array([[float(row[name]) for name in row if name.startswith("p_")] for row in rows])


def test_probabilities_are_those_at_the_temperature_of_the_head(project):
    before = project.write().evaluate().metrics
    said = probabilities(project)
    head, record = load(project.head)
    save(head, project.head, record | {"calibration": {"temperature": 4.0}})
    after = project.evaluate().metrics
    np.testing.assert_allclose(probabilities(project), calibrate.apply(said, 4.0), atol=1e-6)
    assert after["accuracy"] == before["accuracy"]
    assert after["log_loss"] != before["log_loss"]


def test_before_and_after_calibration_stand_side_by_side(project, drawn):
    before = project.write().evaluate()
    plain = json.loads((project.out / "all_metrics.json").read_text())
    assert (before.temperature, plain["temperature"], plain["uncalibrated_ece"]) == (1.0, 1.0, plain["ece"])
    assert {row["temperature"] for row in project.table("reliability.csv")} == {"1.0"}
    picture = (project.out / "plots/reliability.png").read_bytes()
    head, record = load(project.head)
    save(head, project.head, record | {"calibration": {"temperature": 4.0}})
    after = project.evaluate()
    numbers = json.loads((project.out / "all_metrics.json").read_text())
    assert after.uncalibrated == {name: before.metrics[name] for name in ("log_loss", "ece")}
    for end in ("", "_low", "_high"):
        assert numbers[f"uncalibrated_ece{end}"] == plain[f"ece{end}"]
        assert numbers[f"uncalibrated_log_loss{end}"] == plain[f"log_loss{end}"]
    assert (after.temperature, numbers["temperature"]) == (4.0, 4.0)
    assert numbers["ece"] != plain["ece"]
    rows = project.table("reliability.csv")
    assert {row["temperature"] for row in rows} == {"1.0", "4.0"}
    assert sum(int(row["images"]) for row in rows if row["temperature"] == "4.0") == numbers["images"]
    assert (project.out / "plots/reliability.png").read_bytes() != picture


def test_the_mean_over_views_is_that_of_calibrated_probabilities(project):
    project.write()
    head, record = load(project.head)
    save(head, project.head, record | {"calibration": {"temperature": 2.0}})
    *views_of, digests = project.add_view(1)
    project.evaluate(tta=True)
    mean = np.mean([calibrate.apply(one.astype(np.float64), 2.0) for one in views_of], axis=0)
    expected = {digest.tobytes().hex(): row for digest, row in zip(digests, mean, strict=True)}
    for row, found in zip(project.table("predictions.csv"), probabilities(project), strict=True):
        np.testing.assert_allclose(found, expected[row["digest"]], atol=1e-6)


def test_a_class_without_test_images_is_a_warning(project):
    project.rows = [row for row in project.rows if not (row[2] == "cat" and row[3] == "test")]
    summary = project.write().evaluate()
    assert summary.warnings == ["roc_auc: not defined, no test image of cat"]
    assert "roc_auc" not in json.loads((project.out / "all_metrics.json").read_text())


def test_an_empty_test_split_is_refused_with_the_remedy(project):
    project.rows = [row for row in project.rows if row[3] == "train"]
    with pytest.raises(InputError, match=r"expected images in the test split, received none.*`test_fraction`"):
        project.write().evaluate()
    assert not project.out.exists()


def test_a_head_for_other_classes_is_refused_by_their_names(project):
    with pytest.raises(ArtefactError, match="the manifest alone has 'cat'; the head alone has 'dog'"):
        project.write(head_classes=["ant", "bee", "dog"]).evaluate()


def test_a_test_image_of_a_class_that_the_head_never_saw_is_refused(project):
    project.add("dog/1.png", "dog", "test", "cat")
    with pytest.raises(ArtefactError, match="the manifest alone has 'dog'"):
        project.write().evaluate()


def test_a_test_image_without_features_is_refused(project):
    project.write()
    other = project.root / "other"
    smaller = Project(other, project.classes)
    smaller.rows = project.rows[1:]
    smaller.write()
    project.features = smaller.features
    with pytest.raises(ArtefactError, match=r"1 of 10 images of the manifest have no row"):
        project.evaluate()


def test_a_head_whose_classes_stand_in_another_order_is_judged_by_names(project):
    measured = project.write(head_classes=["bee", "ant", "cat"]).evaluate().metrics
    assert measured["accuracy"]["value"] == 0.0


def test_features_of_another_spec_are_refused_by_field(project):
    project.spec = {**SPEC, "cut": "block-1"}
    project.write()
    expected = f"{project.head} was trained on features of another spec than those in {project.features}: cut: expected"
    with pytest.raises(SpecError, match=expected):
        project.evaluate()


def test_of_a_random_base_it_is_said_that_no_result_is_to_be_trusted(project):
    project.spec = project.head_spec = {**SPEC, "weights": {"seed": 1}}
    assert project.write().evaluate().warnings == [RANDOM]


def test_features_of_another_decoder_version_are_a_warning(project):
    project.spec = {**SPEC, "decoder": {"name": "pillow", "version": "2"}}
    (warning,) = project.write().evaluate().warnings
    assert "decoder.version: expected '1', received '2'" in warning


def test_command_prints_a_table_that_a_person_can_read(project):
    project.write()
    result = CliRunner().invoke(command, [str(path) for path in project.paths])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "10 test images: 0 forwarded, 10 reused; 2 mistakes; in brackets 95 % intervals"
    assert lines[2] == "accuracy           0.800 [0.490, 0.964]"
    assert lines[7].startswith("calibration error  0.")
    assert lines[9].split() == ["class", "images", "precision", "recall", "F1", "[95", "%", "interval]"]
    assert lines[10].split()[:3] == ["ant", "4", "0.800"]
    assert lines[12].split()[2:4] == ["not", "defined"]
    assert lines[-1] == f"all numbers with their intervals, predictions and pictures -> {project.out}"


def test_command_says_what_the_temperature_does(project):
    project.write()
    head, record = load(project.head)
    save(head, project.head, record | {"calibration": {"temperature": 4.0}})
    lines = CliRunner().invoke(command, [str(path) for path in project.paths]).output.splitlines()
    assert lines[8].startswith("without the temperature of 4.000: log loss 0.")
    assert ", calibration error 0." in lines[8]


def test_command_turns_a_foreseen_error_into_one_line_and_status_1(project):
    result = CliRunner().invoke(command, [str(path) for path in project.paths])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert result.output.startswith("Error: ")


# --- a model


@pytest.fixture
def judged_model(tmp_path):
    """A small project with a model over a tiny base, and what its network gives for the test images, by path."""
    register_tiny()
    project = Project(tmp_path, ["a", "b"])
    for number in range(6):
        project.add(f"{number}.png", "ab"[number % 2], "test" if number else "train", "a")
    project.write()
    chosen = plan(size=32, backbone="tiny")
    base = weights.load(chosen.backbone, size=32, alpha=1.0, weights=chosen.weights)
    trunk = cutting.trunk(chosen.backbone, base, cut="top", pooling="avg")
    dense = transparent_head(2).stack()
    draw = np.random.default_rng(0)
    stack = replace(dense, mean=np.zeros(16), scale=np.ones(16), kernels=[draw.normal(size=(16, 1)).astype(np.float32)])
    described = {"spec": chosen.spec, "new_conv": (), "layers": [], "history": HISTORY, "made": MADE}
    head = assemble.head_network(stack)
    project.head = tmp_path / "model"
    store.save(project.head, trunk, head, stack, store.Record(classes=["a", "b"], threshold=None, **described))
    network = store.read(project.head).network()

    def given(path, view=0, policy=None):
        data = (project.images / path).read_bytes()
        pixels = decode.fit(data, size=32, geometry="squash")
        if policy:
            pixels = augmentation.apply(pixels, digest=hashlib.sha256(data).digest(), view=view, policy=policy)
        return np.array(network(pixels[None]))[0]

    return project, given


def judge(project, tta=False):
    told = []
    chosen = EvaluateSettings(tta=tta, resamples=200, engine="tensorflow", batch_size=2, cache=project.root / "cache")
    evaluation.evaluate(*project.paths, chosen, progress=lambda done, total: told.append((done, total)))
    return told


def test_a_model_is_judged_by_the_images_and_leaves_the_files_that_a_head_leaves(judged_model):
    project, given = judged_model
    assert judge(project)[-1] == (5, 5)
    rows = project.table("predictions.csv")
    assert [row["path"] for row in rows] == [f"{number}.png" for number in range(1, 6)]
    for row in rows:
        assert [float(row["p_a"]), float(row["p_b"])] == pytest.approx(given(row["path"]), abs=1e-5)
    curve = [(row["epoch"], row["phase"], row["kept"]) for row in project.table("learning_curves.csv")]
    assert curve == [("1", "head", "0"), ("2", "fine-tuning", "1"), ("3", "fine-tuning", "0")]
    of_a_model = {path.name for path in project.out.iterdir()}
    project.head, project.out = project.root / "head", project.root / "of a head"
    project.evaluate()
    assert {path.name for path in project.out.iterdir()} == of_a_model


def test_tta_of_a_model_averages_over_the_views_that_the_features_have(judged_model):
    project, given = judged_model
    policy = Policy(flip="horizontal", rotation=0.1, zoom=0.0, shift=0.0, brightness=0.0, contrast=0.0)
    with features_file.Features(project.features) as read:
        rows, digests = read.gather(read.digests), read.digests
    both, described = np.stack([rows, rows], axis=1), {"policy": asdict(policy)}
    write_views(project.features, digests, both, spec=json.dumps(SPEC), described=described, of=slice(0))
    judge(project, tta=True)
    for row in project.table("predictions.csv"):
        expected = (given(row["path"]) + given(row["path"], 1, policy)) / 2
        assert [float(row["p_a"]), float(row["p_b"])] == pytest.approx(expected, abs=1e-5)


def test_a_test_image_that_changed_is_named(judged_model):
    project, _ = judged_model
    Image.new("RGB", (5, 5)).save(project.images / "3.png")
    with pytest.raises(InputError, match=r"3\.png: expected an image: it changed since the manifest was made"):
        judge(project)
