"""Whatever somebody does to a document that a step wrote, each door that reads it refuses in one line with its name."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.errors import ArtefactError, HeadstartError
from pipeline.evaluation import compare, predictions_file
from pipeline.evaluation.compare import CompareResult
from pipeline.evaluation.verdict import Pair, Place
from pipeline.export import bundle
from pipeline.features import features_file, throughput
from pipeline.features.cache.shard import Shard
from pipeline.features.probe import cut_file
from pipeline.heads import training_time
from pipeline.heads.ridge import RidgeHead
from pipeline.heads.store import load as load_head
from pipeline.heads.store import save as save_head
from pipeline.inference.load import load
from pipeline.models import classifier
from pipeline.models import store as models
from pipeline.models.settings import Runtime
from pipeline.photos import manifest
from pipeline.report import artefacts
from pipeline.report.collect import EXTRACTION
from pipeline.storage import hdf5
from pipeline.storage.json_files import SEAL, publish_digests, sealed
from stages import history
from stages.cache import _spec

SPEC = {
    "size": 32,
    "decoder": {"name": "pillow"},
    "resize": "squash",
    "backbone": {"name": "mobilenet_v2", "alpha": 1.0},
    "preprocessing": "keras.applications.mobilenet_v2:preprocess_input",
    "cut": "top",
    "pooling": "avg",
    "weights": {"seed": 0},
    "precision": "float32",
    "dtype": "float16",
}
ESTIMATES = dict.fromkeys(predictions_file.RANKED, 0.5)
CLASSES = ["cat", "dog"]
ARRAYS = b"arrays of four numbers"


@dataclass(frozen=True)
class Kind:
    """A document, its text as a step wrote it, and all that reads it."""

    name: str
    text: str
    doors: tuple[Callable[[Path], object], ...]
    field: str  # one that all doors need
    version: bool = False


def head_text(folder: Path) -> str:
    head = RidgeHead(alpha=1.0, class_weight=None)
    X = np.arange(24, dtype=np.float32).reshape(8, 3) % 7
    head.fit(X, np.array([0, 1] * 4), None)
    save_head(head, folder, {"classes": CLASSES, "spec": SPEC, "train": {"accuracy": 1.0, "rows": 8}})
    return (folder / "head.json").read_text()


def model_text(folder: Path) -> str:
    layers = {"widths": [1], "activation": "linear", "dropout": 0.0, "l1": 0.0, "l2": 0.0, "n_features": 4}
    (folder / "weights.h5").write_bytes(ARRAYS)
    return sealed(
        {
            "format": 1,
            "classes": CLASSES,
            "spec": SPEC,
            "new_conv": [],
            "head": layers,
            "made": {"finetuning": None},
            "files": {"weights.h5": hashlib.sha256(ARRAYS).hexdigest()},
        }
    )


def export_text(folder: Path) -> str:
    (folder / "model.onnx").write_bytes(b"graph")
    digests = {"model.onnx": hashlib.sha256(b"graph").hexdigest()}
    return sealed(
        {
            "format": 1,
            "classes": CLASSES,
            "threshold": None,
            "size": 32,
            "resize": "squash",
            "formats": {"onnx": {"files": digests}},
        }
    )


def comparison_text() -> str:
    numbers = dict.fromkeys((*ESTIMATES, "p", "p_holm"), 0.5)
    pair = Pair("a", "b", 1, 2, **numbers, better="a")  # type: ignore[arg-type]
    places = [Place(1, name, **ESTIMATES, seconds=None) for name in "ab"]
    return json.dumps(asdict(CompareResult(3, places, [pair], "a is better", [], {})))


RUNTIME = Runtime(weights=None, engine="auto", precision=None, batch_size=1, cache=None)
COUNTS = {"images": 3, "leakage": 0, "conflicts": 0, "outliers": 1}
MADE = {"images": 3, "distinct": 3, "views": 1, "computed": 3, "reused": 0, "quarantined": 0}
CUT = {"format": 1, "backbone": "vgg16", "cut": "top", "pooling": "avg", "why": "so", "figures": None}


def kinds(folder: Path) -> list[Kind]:
    return [
        Kind(
            "head.json",
            head_text(folder),
            (
                lambda path: load_head(path.parent),
                lambda path: classifier.load(path.parent, RUNTIME),
                lambda path: load(path.parent, RUNTIME),
                lambda path: artefacts._record(path, CLASSES),
                lambda path: _spec(str(path.parent), []),
            ),
            "n_features",
            version=True,
        ),
        Kind(
            "model.json",
            model_text(folder),
            (
                lambda path: models.read(path.parent),
                lambda path: classifier.load(path.parent, RUNTIME),
                lambda path: artefacts._record(path, CLASSES),
            ),
            "classes",
            version=True,
        ),
        Kind(
            "export.json",
            export_text(folder),
            (lambda path: bundle.read(path.parent), lambda path: load(path.parent, RUNTIME)),
            "size",
            version=True,
        ),
        Kind(
            "cut.json",
            sealed(CUT),
            (lambda path: cut_file.read(path, backbone="vgg16"), artefacts.CUT.read),
            "cut",
            version=True,
        ),
        Kind(
            "all_metrics.json",
            json.dumps({"images": 3, **ESTIMATES}),
            (lambda path: predictions_file.read_metrics(path.parent),),
            "accuracy",
        ),
        Kind(
            "evaluated.json",
            '{"identity": "0", "head": null}',
            (lambda path: predictions_file.read_evaluated(path.parent),),
            "identity",
        ),
        Kind("audit.json", json.dumps(COUNTS), (artefacts.AUDIT.read,), "leakage"),
        Kind("comparison.json", comparison_text(), (lambda path: artefacts.compared(path.parent, []),), "ranking"),
        Kind(
            "extraction.json",
            sealed(MADE | {"images_per_second": 2.0, "engine": "tensorflow"}),
            (EXTRACTION.read,),
            "images_per_second",
        ),
        Kind("cost.json", sealed({"stage": "train", "seconds": 0.5, "head": None}), (training_time.read,), "seconds"),
    ]


NAMES = ("head", "model", "export", "cut", "all_metrics", "evaluated", "audit", "comparison", "extraction", "cost")


def changed(text: str, **changes: Any) -> str:
    """The document with other fields, as whoever knows how digests are made would write it."""
    return again(text, {**json.loads(text), **changes})


def again(text: str, document: dict[str, Any]) -> str:
    try:
        return sealed(document) if SEAL in json.loads(text) else json.dumps(document)
    except UnicodeEncodeError:  # half a character, which no step would write
        return json.dumps(document)


def put(path: Path, data: str | bytes) -> None:
    """Write a document, and its digest beside it."""
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    publish_digests(path.parent, [path.name])


TAMPERED: dict[str, Callable[[str, str], str | bytes]] = {
    "truncated": lambda text, field: text[: len(text) // 2],
    "empty": lambda text, field: "",
    "deeper than Python recurses": lambda text, field: text.rstrip()[:-1] + ', "more": ' + "[" * 100_000,
    "deep, and whole": lambda text, field: text.rstrip()[:-1] + ', "more": ' + "[" * 500 + "]" * 500 + "}",
    "a list": lambda text, field: f"[{text}]",
    "null": lambda text, field: "null",
    "a key twice": lambda text, field: text.rstrip()[:-1] + f', "{field}": 1' + "}",
    "a key twice among many": lambda text, field: (
        "{" + ",".join(f'"{key}":0' for key in (*range(40_000), 39_999)) + "}"
    ),
    "NaN": lambda text, field: text.rstrip()[:-1] + ', "more": NaN}',
    "infinite": lambda text, field: text.rstrip()[:-1] + ', "more": 1e999}',
    "a huge whole number": lambda text, field: changed(text, **{field: 10**30}),
    "a number of many digits": lambda text, field: text.rstrip()[:-1] + f', "more": {"9" * 5000}' + "}",
    "true": lambda text, field: changed(text, **{field: True}),
    "an object in its place": lambda text, field: changed(text, **{field: {"a": []}}),
    "null in its place": lambda text, field: changed(text, **{field: None}),
    "missing": lambda text, field: again(text, {key: one for key, one in json.loads(text).items() if key != field}),
    "no UTF-8": lambda text, field: text.encode("utf-16"),
}


def refused(door: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(ArtefactError) as error:
        door(path)
    told = str(error.value)
    assert "\n" not in told
    assert len(told) < 600
    assert path.name in told
    assert "expected" in told
    assert "received" in told
    return told


@pytest.fixture(params=range(len(NAMES)), ids=NAMES)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    found = kinds(tmp_path)
    assert [one.name.removesuffix(".json") for one in found] == list(NAMES)
    for one in found:  # only the one that is meant lies there
        (tmp_path / one.name).unlink(missing_ok=True)
    return found[request.param]


def test_each_door_refuses_every_tampered_document_by_its_name(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    for what, tamper in TAMPERED.items():
        put(path, tamper(kind.text, kind.field))
        for door in kind.doors:
            told = refused(door, path)
            if what in ("true", "an object in its place", "null in its place", "missing"):
                assert kind.field in told, what


def test_each_door_that_knows_versions_names_another_one_as_such(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    for version in (2, 0) if kind.version else ():
        put(path, changed(kind.text, format=version))
        for door in kind.doors:
            assert f"received format {version}, of another version; run `hs." in refused(door, path)
    for nonsense in (True, 1.0, "1", None, [1]) if kind.version else ():
        put(path, changed(kind.text, format=nonsense))
        for door in kind.doors:
            assert "of format 1, received" in refused(door, path)


def test_each_door_takes_the_document_as_it_was_written(kind: Kind, tmp_path: Path) -> None:
    path = tmp_path / kind.name
    put(path, kind.text)
    for door in kind.doors:
        if kind.name == "comparison.json":
            assert "expected a comparison of" in refused(door, path)  # of no evaluations
        else:
            door(path)


@pytest.mark.parametrize("lead", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["a pipe", "a device"])
def test_what_leads_to_a_pipe_or_a_device_is_refused_and_not_waited_for(
    lead: Callable[[Path], None], tmp_path: Path
) -> None:
    doors: dict[str, Callable[[Path], object]] = {one.name: one.doors[0] for one in kinds(tmp_path)}
    doors["manifest.csv"] = manifest.read
    doors["features.h5"] = features_file.Features
    doors["a.rows"] = Shard.open
    doors["layers.csv"] = lambda path: artefacts.rows(path, ["path"], "probe")
    doors[predictions_file.PREDICTIONS] = lambda path: predictions_file.read_predictions(path.parent)
    doors[predictions_file.METRICS] = lambda path: history.results([path.parent], path.parent)
    for name, door in doors.items():
        (tmp_path / name).unlink(missing_ok=True)
        lead(tmp_path / name)
        with pytest.raises((HeadstartError, OSError), match="a pipe, a device or a socket, not a file"):
            door(tmp_path / name)
    head_text(tmp_path / "head")
    (tmp_path / "head/arrays.npz").unlink()
    lead(tmp_path / "head/arrays.npz")
    assert "a pipe, a device or a socket" in refused(lambda path: load_head(path.parent), tmp_path / "head/arrays.npz")


@pytest.mark.parametrize("name", ["head", "model", "export"])
@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["cat", "cat"]},
        {"classes": ["cat", "\ud800"]},
        {"classes": ["cat", ""]},
        {"threshold": {"positive": "cow", "value": 0.5}},
        {"threshold": {"positive": "cat", "value": True}},
        {"threshold": {"positive": ["cat"], "value": 0.5}},
        {"files": {"../weights.h5": "0" * 64}, "formats": {"onnx": {"files": {"../model.onnx": "0" * 64}}}},
        {"files": {"/etc/passwd": "0" * 64}, "formats": {"onnx": {"files": {"/etc/passwd": "0" * 64}}}},
        {"files": {"arrays.npz": 1, "weights.h5": 1}, "formats": {"onnx": {"files": {"model.onnx": 1}}}},
    ],
    ids=str,
)
def test_what_one_of_head_model_and_export_refuses_all_refuse(name: str, change: Any, tmp_path: Path) -> None:
    found = next(one for one in kinds(tmp_path) if one.name == f"{name}.json")
    for one in ("head", "model", "export"):
        (tmp_path / f"{one}.json").unlink(missing_ok=True)
    (tmp_path / found.name).write_text(changed(found.text, **change))
    with pytest.raises(ArtefactError, match="expected"):
        load(tmp_path, RUNTIME)


@pytest.mark.parametrize("field", ["size", "resize", "backbone", "cut", "pooling", "weights", "precision", "dtype"])
@pytest.mark.parametrize("value", [True, -1, 10**9, "no such", [], {"name": 3}])
def test_a_spec_by_which_no_network_can_be_built_is_refused_when_the_head_is_opened(
    field: str, value: Any, tmp_path: Path
) -> None:
    text = head_text(tmp_path)
    if (field, value) in (("cut", "no such"), ("weights", {"name": 3})):
        return  # whether there is such a layer, the network must tell; and of weights only the seed is asked
    (tmp_path / "head.json").write_text(changed(text, spec={**SPEC, field: value}))
    with pytest.raises(ArtefactError, match=rf"spec of its features: expected {field}"):
        load(tmp_path, RUNTIME)


@pytest.mark.parametrize("params", [{"alpha": True}, {"alpha": "1"}, {"alpha": [1.0]}, {"class_weight": {"a": []}}])
def test_parameters_of_a_head_that_are_of_another_type_are_refused(params: Any, tmp_path: Path) -> None:
    text = head_text(tmp_path)
    (tmp_path / "head.json").write_text(changed(text, params={"alpha": 1.0, "class_weight": None, **params}))
    refused(lambda path: load_head(path.parent), tmp_path / "head.json")


def test_a_report_refuses_a_head_of_other_classes_than_were_judged(tmp_path: Path) -> None:
    head_text(tmp_path)
    with pytest.raises(ArtefactError, match=r"head\.json: expected classes cow, dog, as it was evaluated"):
        artefacts._record(tmp_path / "head.json", ["cow", "dog"])


@pytest.mark.parametrize(
    "layers", [{"new_conv": [2**24]}, {"n_features": 2**24}, {"widths": [2**24, 2**24, 1]}, {"new_conv": [1] * 101}]
)
def test_a_model_of_larger_layers_than_its_arrays_is_refused_before_they_are_built(
    layers: dict[str, Any], tmp_path: Path
) -> None:
    document = json.loads(text := model_text(tmp_path))
    changes = layers if "new_conv" in layers else {"head": document["head"] | layers}
    (tmp_path / "model.json").write_text(changed(text, **changes))
    assert "at most 100 layers within the 22 bytes of weights.h5" in refused(
        lambda path: models.read(path.parent), tmp_path / "model.json"
    )


HEADER = {"digests": "0" * 64, "dtype": "float16", "row_shape": [2], "rows": 1, "spec": "0" * 64}


@pytest.mark.parametrize("what", TAMPERED)
def test_the_header_of_a_shard_and_the_spec_of_features_are_read_by_the_same_rules(what: str, tmp_path: Path) -> None:
    data = TAMPERED[what](json.dumps(HEADER), "rows")
    path = tmp_path / "a.rows"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    refused(Shard.open, path)
    text = TAMPERED[what](json.dumps(SPEC), "size")
    digests = np.zeros((1, 32), np.uint8)
    if isinstance(text, str) and what not in ("true", "an object in its place", "null in its place", "missing"):
        features = tmp_path / "features.h5"
        blocks = [np.zeros((1, 2), np.float32)]
        features_file.write(
            features, spec=json.dumps(SPEC), digests=digests, row_shape=(2,), dtype="float32", blocks=blocks
        )
        with h5py.File(features, "r+") as file:
            del file.attrs["spec"]
            hdf5.write_text_attribute(file, "spec", text[:60_000] or " ")  # HDF5 takes no longer one, and no empty one
        refused(features_file.Features, features)


@pytest.mark.parametrize("what", TAMPERED)
def test_a_speed_that_cannot_be_understood_is_left_out(what: str, tmp_path: Path) -> None:
    text = sealed({"host": "a", "workers": 1, "images": 100, "images_per_second": 2.5})
    path = tmp_path / "speed-a.json"
    path.write_text(text)
    assert [one.images_per_second for one in throughput.kept(tmp_path)] == [2.5]
    data = TAMPERED[what](text, "images_per_second")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    assert throughput.kept(tmp_path) == []


def test_a_comparison_is_written_as_it_is_read() -> None:
    compare.COMPARED.parse(comparison_text(), "comparison.json")
