"""Prediction: one answer a path, in order, whatever the files are; and never with another trunk than the head's."""

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from pipeline.backbones import cutting
from pipeline.backbones.weights import load as load_base
from pipeline.errors import ArtefactError, InputError, SpecError, StorageError
from pipeline.features import features_file, resolve, spec
from pipeline.heads.calibration import calibrate
from pipeline.heads.dense_layers import Stack
from pipeline.heads.head import Head
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.store import load as load_head
from pipeline.heads.store import save
from pipeline.inference import class_activation, out_of_distribution, predict
from pipeline.inference.predict import Predictor
from pipeline.inference.prediction import Prediction
from pipeline.inference.settings import PredictSettings
from pipeline.models import assemble, store
from pipeline.models.settings import Runtime
from pipeline.photos import decode, manifest
from pipeline.storage.json_files import publish
from stages.predict import _table
from stages.predict import predict as command
from tests import ROOT
from tests.fakes import CountingEngine, plan, quadrant_means, register_tiny, write_classes, write_photo

SIZE = 32


def save_head(folder: Path, spec: dict[str, object], classes: Iterable[str] = ("dark", "bright")) -> Head:
    """A head over the fake's twelve features that tells bright photos from dark ones, to be read with `spec`."""
    labels = sorted(classes)
    draw = np.random.default_rng(0)
    codes = np.arange(40) % len(labels)
    levels = {label: 50.0 + 150.0 * (label == "bright") for label in labels}
    rows = np.array([draw.normal(levels[labels[code]], 20, 12) for code in codes], np.float32)
    head = LogisticHead(C=1.0, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=0)
    save(head.fit(rows, codes, None), folder, {"classes": labels, "spec": spec})
    return head


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> CountingEngine:
    counting = CountingEngine()
    monkeypatch.setattr(resolve, "open_engine", lambda *_, **__: counting)
    return counting


@pytest.fixture
def head_dir(tmp_path: Path) -> Path:
    save_head(tmp_path / "head", plan(size=SIZE).spec)
    return tmp_path / "head"


def predictor(head_dir: Path, *, weights: str | None = None, batch_size: int = 4, **asked: Any) -> Predictor:
    return Predictor(
        head_dir,
        Runtime(weights=weights, engine="tensorflow", batch_size=batch_size, cache=head_dir / "cache"),
        PredictSettings(**asked),
    )


def files(root: Path, kinds: str) -> list[Path]:
    """One file a letter: ``o`` a photo, ``x`` a broken one."""
    made = [write_photo(root / f"{place:02}.png", place) for place in range(len(kinds))]
    for path, kind in zip(made, kinds, strict=True):
        if kind == "x":
            path.write_bytes(path.read_bytes()[:60])
    return made


def predicted(found: Predictor, paths: list[Path]) -> list[Prediction]:
    return list(found.predict(paths, progress=lambda done, total: None))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 64])
@pytest.mark.parametrize("kinds", ["oooooooo", "xoooxooox", "oxxxxo", "xx", "xxxxxo", "o"])
def test_each_path_gets_one_answer_in_the_order_given(
    tmp_path: Path, head_dir: Path, engine: CountingEngine, kinds: str, batch_size: int
) -> None:
    paths = list(reversed(files(tmp_path, kinds)))
    found = predicted(predictor(head_dir, batch_size=batch_size), paths)
    assert [one.path for one in found] == paths
    assert "".join("x" if one.error else "o" for one in found) == kinds[::-1]
    assert engine.images == kinds.count("o")
    assert max(engine.batches, default=0) <= batch_size


def test_the_answer_is_the_heads_on_the_features_of_that_file(
    tmp_path: Path, head_dir: Path, engine: CountingEngine
) -> None:
    head, _ = load_head(head_dir)
    for one in predicted(predictor(head_dir), files(tmp_path, "oooxoo")):
        if one.error:
            continue
        pixels = decode.fit(one.path.read_bytes(), size=SIZE, geometry="squash")
        bright, dark = head.predict_proba(quadrant_means(pixels[None]))[0]
        assert one.probabilities == pytest.approx({"bright": bright, "dark": dark}, abs=1e-12)
        assert one.label == ("bright" if bright > dark else "dark")


def test_probabilities_are_those_at_the_temperature_of_the_head(
    tmp_path: Path, head_dir: Path, engine: CountingEngine
) -> None:
    paths = files(tmp_path, "oooo")
    before = predicted(predictor(head_dir), paths)
    head, record = load_head(head_dir)
    save(head, head_dir, record | {"calibration": {"temperature": 3.0}})
    for one, was in zip(predicted(predictor(head_dir), paths), before, strict=True):
        expected = calibrate.apply(np.array([list(was.probabilities.values())]), 3.0)[0]
        assert list(one.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-12)
        assert one.label == was.label
        assert max(one.probabilities.values()) < max(was.probabilities.values())


def test_the_label_is_that_of_the_threshold_if_the_head_has_one(
    tmp_path: Path, head_dir: Path, engine: CountingEngine
) -> None:
    paths = files(tmp_path, "oooo")
    assert {one.label for one in predicted(predictor(head_dir), paths)} == {"bright", "dark"}
    head, record = load_head(head_dir)
    save(head, head_dir, record | {"threshold": {"positive": "bright", "value": 0.0}})
    assert {one.label for one in predicted(predictor(head_dir), paths)} == {"bright"}


def test_a_broken_file_has_its_reason_and_no_label(tmp_path: Path, head_dir: Path, engine: CountingEngine) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    text, empty = predicted(predictor(head_dir), [tmp_path / "notes.txt", tmp_path / "empty.jpg"])
    assert (text.label, text.probabilities, empty.label) == (None, {}, None)
    assert text.error is not None
    assert text.error.startswith("not an image: expected one of JPEG,")
    assert empty.error == "an empty file"


def test_a_failing_disk_is_no_broken_file(
    tmp_path: Path, head_dir: Path, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path) -> bytes:
        raise StorageError(f"{path}: the disk fails")

    paths = files(tmp_path, "oo")
    monkeypatch.setattr(decode, "read_bytes", failing)
    with pytest.raises(StorageError, match="the disk fails"):
        predicted(predictor(head_dir), paths)


@pytest.mark.parametrize("kinds", ["ooooo", "oooox", "xxx"])
def test_progress_ends_with_all_files(tmp_path: Path, head_dir: Path, engine: CountingEngine, kinds: str) -> None:
    told: list[tuple[int, int]] = []
    list(predictor(head_dir).predict(files(tmp_path, kinds), progress=lambda *both: told.append(both)))
    assert told[-1] == (len(kinds), len(kinds))
    assert told == sorted(told)


# --- abstaining, and what else is told


def test_a_label_that_is_not_probable_enough_is_left_empty(
    tmp_path: Path, head_dir: Path, engine: CountingEngine
) -> None:
    paths = files(tmp_path, "ooxooo")
    sure = {one.path: one for one in predicted(predictor(head_dir), paths)}
    values = sorted(max(one.probabilities.values()) for one in sure.values() if not one.error)
    least = values[2]  # two are below it, and one is at it
    for one in predicted(predictor(head_dir, min_confidence=least), paths):
        assert one.probabilities == sure[one.path].probabilities
        assert one.abstained == (not one.error and max(one.probabilities.values()) < least)
        assert one.label == (None if one.abstained else sure[one.path].label)
    assert sum(one.abstained for one in predicted(predictor(head_dir, min_confidence=least), paths)) == 2


def test_confidence_is_that_of_the_label_which_a_threshold_gives(
    tmp_path: Path, head_dir: Path, engine: CountingEngine
) -> None:
    head, record = load_head(head_dir)
    save(head, head_dir, record | {"threshold": {"positive": "bright", "value": 0.0}})
    for one in predicted(predictor(head_dir, min_confidence=0.5), files(tmp_path, "oooo")):
        assert one.abstained == (one.probabilities["bright"] < 0.5)


@pytest.fixture
def training(tmp_path: Path, head_dir: Path) -> dict[str, Path]:
    """Six training photos and a test photo, with the fake's features."""
    root = write_classes(tmp_path / "photos", {"dark": 4, "bright": 3})
    paths = sorted(root.rglob("*.png"))
    rows = [
        manifest.Row(
            path.relative_to(root).as_posix(),
            decode.digest(path.read_bytes()),
            path.parent.name,
            "train",
            40,
            30,
            "PNG",
        )
        for path in paths
    ]
    rows[0] = rows[0]._replace(split="test")
    manifest.write(manifest.from_rows(rows), tmp_path / "manifest.csv")
    by_digest = sorted(zip((row.digest for row in rows), paths, strict=True))
    pixels = np.stack([decode.fit(path.read_bytes(), size=SIZE, geometry="squash") for _, path in by_digest])
    features_file.write(
        tmp_path / "features.h5",
        spec=spec.canonical(plan(size=SIZE).spec),
        digests=np.stack([np.frombuffer(digest, np.uint8) for digest, _ in by_digest]),
        row_shape=(12,),
        dtype="float16",
        blocks=[quadrant_means(pixels)],
    )
    return {"features": tmp_path / "features.h5", "manifest": tmp_path / "manifest.csv"}


def test_a_training_photo_is_most_like_itself(
    tmp_path: Path, head_dir: Path, engine: CountingEngine, training: dict[str, Path]
) -> None:
    photo = tmp_path / "photos" / "bright" / "001.png"
    broken = files(tmp_path, "x")[0]
    first, second = predicted(
        predictor(head_dir, nearest=2, familiarity=True, neighbours=3, **training), [broken, photo]
    )
    assert (first.nearest, first.familiarity) == ((), None)
    nearest, other = second.nearest
    assert (nearest.path, nearest.label) == ("bright/001.png", "bright")
    assert nearest.similarity == pytest.approx(1, abs=1e-4)
    assert other.path != nearest.path
    assert second.familiarity is not None
    assert second.familiarity.photos == 6
    assert 0 < second.familiarity.score <= 1


def test_photos_of_the_other_splits_are_not_among_the_nearest(
    tmp_path: Path, head_dir: Path, engine: CountingEngine, training: dict[str, Path]
) -> None:
    (one,) = predicted(predictor(head_dir, nearest=100, **training), [tmp_path / "photos/dark/000.png"])
    paths = [neighbour.path for neighbour in one.nearest]
    assert len(paths) == len(set(paths)) == 6
    assert "bright/000.png" not in paths


def test_the_answers_do_not_depend_on_where_the_training_features_are(
    tmp_path: Path, head_dir: Path, engine: CountingEngine, training: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [*files(tmp_path, "oxooo"), *sorted((tmp_path / "photos").rglob("*.png"))]
    in_memory = predicted(predictor(head_dir, nearest=3, familiarity=True, neighbours=2, **training), paths)
    monkeypatch.setattr(out_of_distribution, "MEMORY", 0)
    monkeypatch.setattr(predict, "SEARCH_BYTES", 4 * 12 * 5)
    assert predicted(predictor(head_dir, nearest=3, familiarity=True, neighbours=2, **training), paths) == in_memory


@pytest.mark.parametrize("missing", ["features", "manifest"])
def test_to_compare_photos_takes_features_and_manifest(head_dir: Path, training: dict[str, Path], missing: str) -> None:
    with pytest.raises(InputError, match=f"`{missing}`: expected a file"):
        predictor(head_dir, nearest=1, **{name: path for name, path in training.items() if name != missing})


# --- which trunk


def test_a_head_of_other_weights_is_refused_by_the_name_of_the_field(tmp_path: Path) -> None:
    trained = plan(backbone="efficientnet_lite0", weights="imagenet")
    save_head(tmp_path / "head", trained.spec)
    with pytest.raises(SpecError, match=rf"weights\.sha256: expected '{trained.weights.sha256}', received None"):
        predictor(tmp_path / "head", weights="none")


def test_random_weights_are_made_again_from_their_seed(tmp_path: Path) -> None:
    save_head(tmp_path / "head", plan(size=SIZE, weights_seed=7).spec)
    assert predictor(tmp_path / "head").plan.weights.seed == 7


def test_the_trunk_is_rebuilt_from_the_spec_alone(tmp_path: Path) -> None:
    spec = plan(size=48, resize="pad", pooling="max", cut="block-1", dtype="float32").spec
    save_head(tmp_path / "head", spec)
    rebuilt = predictor(tmp_path / "head")
    assert rebuilt.plan.spec == spec
    assert rebuilt.warnings == []


def test_another_decoder_is_a_warning_not_an_error(tmp_path: Path) -> None:
    spec = plan(size=SIZE).spec
    save_head(tmp_path / "head", spec | {"decoder": spec["decoder"] | {"version": "1.0"}})
    (warning,) = predictor(tmp_path / "head").warnings
    assert "decoder.version: expected '1.0'" in warning


def test_a_spec_that_does_not_say_how_is_refused(tmp_path: Path) -> None:
    save_head(tmp_path / "head", {"backbone": {"name": "mobilenet_v2"}})
    with pytest.raises(ArtefactError, match="the spec of its features: expected size"):
        predictor(tmp_path / "head")


# --- files and folders


def test_a_folder_is_the_files_below_it_sorted_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.png", "a/z.jpg", ".trash/3.png", "b/.hidden.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    single = tmp_path / "photos" / "b" / "2.png"
    found = predict.expand([single, tmp_path / "photos"]).paths
    assert found == [single, *(tmp_path / "photos" / name for name in ("a/z.jpg", "b/1.png", "b/2.png"))]


def test_a_folder_is_walked_by_the_rules_of_prepare(tmp_path: Path) -> None:
    """Links are followed, system files left out, and what cannot be opened is named with its reason."""
    root = tmp_path / "photos"
    for name in ("real/1.png", "Thumbs.db", "__MACOSX/1.png", "Icon\r"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "link").symlink_to(root / "real")
    (root / "broken.png").symlink_to(tmp_path / "gone")
    (root / "round").symlink_to(root)
    os.mkfifo(root / "pipe")
    found = predict.expand([root])
    assert found.paths == [root / name for name in ("link/1.png", "real/1.png")]
    assert {one.path.name: one.error for one in found.refused} == {
        "broken.png": "a broken link",
        "pipe": "not a regular file",
        "round": "a link to a folder above it",
    }
    assert len(found) == 5


def test_what_a_run_writes_into_the_folder_of_its_photos_is_no_photo_of_the_next(tmp_path: Path) -> None:
    for name in ("1.png", "labels.csv", "heat/1.png", "sub/labels.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = predict.expand([tmp_path], but=[tmp_path / "labels.csv", tmp_path / "sub" / ".." / "heat"])
    assert found.paths == [tmp_path / "1.png", tmp_path / "sub" / "labels.csv"]


def test_a_path_that_is_not_there_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg: expected an image or a folder of images, found nothing"):
        predict.expand([tmp_path / "gone.jpg"])


def test_an_address_is_told_from_a_file_that_is_gone() -> None:
    with pytest.raises(InputError, match="received an address: fetch it first"):
        predict.expand([Path("https://example.org/cat.jpg")])


def test_a_file_that_was_copied_out_of_its_export_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    with pytest.raises(InputError, match=r"model\.onnx: expected export\.json beside it.*copy the folder"):
        predictor(tmp_path / "model.onnx")


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected images, found none in"):
        predict.expand([tmp_path])


# --- the command


def run(head_dir: Path, paths: list[Path], *options: str) -> Result:
    return CliRunner().invoke(command, [str(head_dir), *map(str, paths), "--engine", "tensorflow", *options])


def test_csv_has_a_row_a_file_and_the_status_tells_of_broken_ones(
    tmp_path: Path, head_dir: Path, engine: CountingEngine
) -> None:
    paths = files(tmp_path, "oxo")
    result = run(head_dir, paths)
    assert result.exit_code == 1
    assert result.stderr == "Error: 1 of 3 files could not be used; their rows say why\n"
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert list(rows[0]) == ["path", "label", "p_bright", "p_dark", "error"]
    assert [row["path"] for row in rows] == list(map(str, paths))
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert (rows[1]["label"], rows[1]["p_bright"]) == ("", "")
    assert float(rows[0]["p_bright"]) + float(rows[0]["p_dark"]) == pytest.approx(1, abs=2e-6)


def test_json_lines_are_published_even_if_some_files_were_broken(
    tmp_path: Path, head_dir: Path, engine: CountingEngine
) -> None:
    paths = files(tmp_path, "xo")
    result = run(head_dir, paths, "--output", str(tmp_path / "out" / "labels.jsonl"))
    assert (result.exit_code, result.stdout) == (1, "")
    broken, sound = map(json.loads, (tmp_path / "out" / "labels.jsonl").read_text().splitlines())
    assert (broken["path"], broken["label"], broken["probabilities"]) == (str(paths[0]), None, {})
    assert (sound["error"], sum(sound["probabilities"].values())) == (None, pytest.approx(1))


def test_what_is_asked_for_gets_its_columns(
    tmp_path: Path, head_dir: Path, engine: CountingEngine, training: dict[str, Path]
) -> None:
    asked = ["--min-confidence", "1", "--nearest", "2", "--familiarity", "--neighbours", "3"]
    asked += [f"--{name}={path}" for name, path in training.items()]
    paths = files(tmp_path, "ox")
    header, sound, broken = csv.reader(io.StringIO(run(head_dir, paths, *asked).stdout))
    extra = ["abstained", "nearest_1", "similarity_1", "nearest_2", "similarity_2", "familiarity", "kind"]
    assert header == ["path", "label", "p_bright", "p_dark", *extra, "error"]
    assert (sound[1], sound[4], sound[-1]) == ("", "1", "")
    assert float(sound[6]) >= float(sound[8]) > 0
    assert 0 < float(sound[9]) <= 1
    assert sound[10] in ("familiar", "uncertain", "unlike")
    assert (broken[1:-1], broken[-1][:7]) == ([""] * 10, "damaged")
    result = run(head_dir, paths, *asked, "--output", str(tmp_path / "labels.jsonl"))
    assert result.exit_code == 1
    lines = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert lines[0]["abstained"] is True
    assert lines[0]["label"] is None
    assert [one["path"] for one in lines[0]["nearest"]] == [sound[5], sound[7]]
    assert (lines[0]["familiarity"], lines[0]["kind"]) == (pytest.approx(float(sound[9]), abs=1e-6), sound[10])
    assert (lines[1]["nearest"], lines[1]["familiarity"], lines[1]["kind"]) == ([], None, None)
    assert lines[1]["abstained"] is False
    target = io.StringIO()
    found = predictor(head_dir, min_confidence=1.0, nearest=1, familiarity=True, neighbours=3, **training)
    _table(predicted(found, paths[:1]), found.classes, found.asked, target)
    first, second = target.getvalue().splitlines()
    assert first.startswith("?")
    assert first.endswith(f"familiarity {float(sound[9]):.3f}, {sound[10]}")
    assert f"like {sound[5]} (" in second


def test_all_sound_is_status_0(tmp_path: Path, head_dir: Path, engine: CountingEngine) -> None:
    result = run(head_dir, files(tmp_path, "oo"), "--output", str(tmp_path / "labels.csv"))
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    assert result.stderr.endswith(f"2 images -> {tmp_path / 'labels.csv'}\n")
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 3


def test_a_name_that_is_no_utf8_is_written_as_its_bytes(tmp_path: Path, head_dir: Path, engine: CountingEngine) -> None:
    odd = Path(str(tmp_path).encode().decode() + "/caf\udce9.png")
    odd.write_bytes(write_photo(tmp_path / "plain.png", 0).read_bytes())
    result = run(head_dir, [odd])
    assert result.exit_code == 0
    assert r"caf\xe9.png" in result.stdout


@pytest.mark.parametrize("least", ["nan", "inf", "1.5"])
def test_a_confidence_that_is_no_fraction_is_a_usage_error(least: str, tmp_path: Path, head_dir: Path) -> None:
    result = CliRunner().invoke(command, [str(head_dir), str(tmp_path), "--min-confidence", least])
    assert result.exit_code == 2
    assert "--min-confidence" in result.stderr


def test_an_output_that_is_a_folder_is_a_usage_error(tmp_path: Path, head_dir: Path) -> None:
    (tmp_path / "o.csv").mkdir()
    result = CliRunner().invoke(command, [str(head_dir), str(tmp_path), "--output", str(tmp_path / "o.csv")])
    assert result.exit_code == 2
    assert f"--output: expected a file, received the folder {tmp_path / 'o.csv'}" in result.stderr


def test_another_kind_of_output_is_a_usage_error(tmp_path: Path, head_dir: Path) -> None:
    result = run(head_dir, files(tmp_path, "o"), "--output", "labels.txt")
    assert result.exit_code == 2
    assert "expected a name ending in .csv or .jsonl, or -" in result.stderr


def test_a_terminal_gets_a_table(tmp_path: Path, head_dir: Path, engine: CountingEngine) -> None:
    target = io.StringIO()
    found = predictor(head_dir).predict(files(tmp_path, "ox"), progress=lambda done, total: None)
    assert _table(found, ["bright", "dark"], PredictSettings(), target) == 1
    first, second = target.getvalue().splitlines()
    assert first.split()[0] in ("bright", "dark")
    assert first.endswith("00.png")
    assert second.startswith("-  ")
    assert "01.png: damaged" in second


# --- a model


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A tiny base with a random head, joined."""
    register_tiny()
    chosen = plan(size=SIZE, backbone="tiny")
    base = load_base(chosen.backbone, size=SIZE, alpha=1.0, weights=chosen.weights)
    trunk = cutting.trunk(chosen.backbone, base, cut="top", pooling="avg")
    draw = np.random.default_rng(0)
    stack = Stack(
        mean=np.zeros(16),
        scale=np.ones(16),
        kernels=[draw.normal(size=(16, 1)).astype(np.float32)],
        biases=[np.zeros(1, np.float32)],
        activation="linear",
        dropout=0.0,
        l1=0.0,
        l2=0.0,
    )
    head = assemble.head_network(stack)
    described = {"spec": chosen.spec, "new_conv": (), "layers": [], "history": [], "made": {}, "threshold": None}
    store.save(tmp_path / "model", trunk, head, stack, store.Record(classes=["bright", "dark"], **described))
    return tmp_path / "model"


@pytest.mark.parametrize("engine", ["tensorflow", "openvino"])
def test_a_model_predicts_what_its_network_gives(tmp_path: Path, model_dir: Path, engine: str) -> None:
    found = Predictor(model_dir, Runtime(engine=engine, batch_size=2, cache=tmp_path / "cache"))
    paths = files(tmp_path / "new", "oxo")
    first, broken, last = found.predict(paths, progress=lambda done, total: None)
    assert (broken.label, broken.probabilities) == (None, {})
    pixels = [decode.fit(path.read_bytes(), size=SIZE, geometry="squash") for path in (paths[0], paths[2])]
    expected = np.array(store.read(model_dir).network()(np.stack(pixels)))
    for one, row in zip((first, last), expected, strict=True):
        assert [one.probabilities[name] for name in ("bright", "dark")] == pytest.approx(row, abs=1e-5)
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-12)
        assert one.label == ["bright", "dark"][int(row.argmax())]


def test_a_model_whose_graph_was_kept_predicts_without_tensorflow(tmp_path: Path, model_dir: Path) -> None:
    photo = str(files(tmp_path / "new", "o")[0])
    run = ["from stages.predict import predict", "import sys", "predict(sys.argv[1:], standalone_mode=False)"]
    script = "; ".join([*run, "assert 'tensorflow' not in sys.modules"])
    options = [str(model_dir), photo, "--engine", "openvino", "--cache", str(tmp_path / "cache")]
    warm = Predictor(model_dir, Runtime(engine="openvino", cache=tmp_path / "cache"))
    (expected,) = warm.predict([Path(photo)], progress=lambda done, total: None)
    again = subprocess.run([sys.executable, "-c", script, *options], capture_output=True, text=True, cwd=ROOT)
    assert again.returncode == 0, again.stderr
    assert f"{photo},{expected.label}," in again.stdout


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_model_gives_the_same_whatever_else_is_asked(tmp_path: Path, model_dir: Path, temperature: float) -> None:
    document = json.loads((model_dir / "model.json").read_text())
    publish(model_dir / "model.json", document | {"calibration": {"temperature": temperature}})
    paths = files(tmp_path / "new", "oxo")
    plain = predicted(predictor(model_dir), paths)
    explained = predicted(predictor(model_dir, explain=tmp_path / "maps"), paths)
    for one, other in zip(plain, explained, strict=True):
        assert (one.path, one.label, one.error) == (other.path, other.label, other.error)
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-5)
    assert [one.heat_map and one.heat_map.name for one in explained] == ["1-00.png", None, "3-02.png"]
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["1-00.png", "3-02.png"]
    assert Image.open(tmp_path / "maps" / "1-00.png").size == (240, 180)


def test_a_heat_map_of_a_photo_with_the_longest_of_names_has_a_name_too(tmp_path: Path, model_dir: Path) -> None:
    paths = files(tmp_path / "photos", "...")
    paths[1] = paths[1].rename(paths[1].with_name("\N{SNOWMAN}" * 83 + ".png"))
    explained = predicted(predictor(model_dir, explain=tmp_path / "maps"), paths)
    assert [one.error for one in explained] == [None] * 3
    assert all(one.heat_map and one.heat_map.exists() for one in explained)


def replacing(photo: Path) -> None:
    write_photo(photo, 99)


def refusing(photo: Path) -> None:
    raise OSError(errno.ENAMETOOLONG, "File name too long")


def full(photo: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("happens", "error"),
    [
        (replacing, "no heat map: the file changed meanwhile"),
        (refusing, r"no heat map: .*2-01\.png: File name too long"),
    ],
)
def test_a_heat_map_that_cannot_be_drawn_is_an_error_in_its_row_alone(
    tmp_path: Path, model_dir: Path, happens: Callable[[Path], None], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path / "photos", "...")
    happening(happens, to=paths[1], monkeypatch=monkeypatch)
    explained = predicted(predictor(model_dir, explain=tmp_path / "maps"), paths)
    assert [one.error is None for one in explained] == [True, False, True]
    assert re.fullmatch(error, explained[1].error or "")
    assert explained[1].heat_map is None


def test_a_full_disk_for_heat_maps_stops_the_run(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path / "photos", "...")
    happening(full, to=paths[1], monkeypatch=monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        predicted(predictor(model_dir, explain=tmp_path / "maps"), paths)


def happening(happens: Callable[[Path], None], *, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen to a photo between its prediction and its heat map."""
    draw = class_activation.draw

    def late(photo: Path, *arguments: Any, **named: Any) -> None:
        if photo == to:
            happens(photo)
        draw(photo, *arguments, **named)

    monkeypatch.setattr(class_activation, "draw", late)


def test_photos_are_compared_by_the_features_of_a_model_that_was_only_joined(tmp_path: Path, model_dir: Path) -> None:
    described = store.read(model_dir).spec
    paths = files(tmp_path / "photos", "ooo")
    trunk = store.read(model_dir).trunk(pooling=None)
    rows = {
        decode.digest(path.read_bytes()): trunk(decode.fit(path.read_bytes(), size=SIZE, geometry="squash")[None])
        for path in paths
    }
    digests = sorted(rows)
    features_file.write(
        tmp_path / "features.h5",
        spec=spec.canonical(described),
        digests=np.stack([np.frombuffer(digest, np.uint8) for digest in digests]),
        row_shape=(16,),
        dtype="float16",
        blocks=[np.concatenate([np.array(rows[digest]) for digest in digests])],
    )
    table = [
        manifest.Row(path.name, decode.digest(path.read_bytes()), "dark", "train", 40, 30, "PNG") for path in paths
    ]
    manifest.write(manifest.from_rows(table), tmp_path / "manifest.csv")
    asked = {"features": tmp_path / "features.h5", "manifest": tmp_path / "manifest.csv", "nearest": 1}
    found = predicted(predictor(model_dir, **asked), paths)
    assert [one.nearest[0].path for one in found] == [path.name for path in paths]
    assert [one.nearest[0].similarity for one in found] == pytest.approx([1, 1, 1], abs=1e-3)
    document = json.loads((model_dir / "model.json").read_text())
    document["spec"]["weights"]["finetuned"] = "0" * 64
    publish(model_dir / "model.json", document)
    with pytest.raises(SpecError, match="which its base made before it was trained on"):
        predictor(model_dir, **asked)


def test_a_model_takes_no_weights(model_dir: Path) -> None:
    with pytest.raises(InputError, match=r"`weights`: expected none, since .*model is a model, received 'imagenet'"):
        predictor(model_dir, weights="imagenet")
