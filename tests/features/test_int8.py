"""Features in int8: one graph, calibrated once on training photos, known by its sha256 wherever it is."""

import json
import shutil
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backbones.engines import int8 as engine
from pipeline.backbones.engines.graphs import GRAPH_FILES
from pipeline.errors import ArtefactError, CutError, InputError, SpecError, WeightsError
from pipeline.features import int8, resolve
from pipeline.features.cache import inventory, kept_weights
from pipeline.features.extract import ExtractResult, extract
from pipeline.features.features_file import Features
from pipeline.features.probe.bench import Bench
from pipeline.features.probe.comparison import Candidate
from pipeline.features.probe.probe import bases_of, probe
from pipeline.features.resolve import Again, plan_again
from pipeline.features.settings import BaseSettings, ExtractSettings, ProbeSettings
from pipeline.features.workers.worker import _planned_here
from pipeline.heads import train
from pipeline.heads.settings import TrainSettings
from pipeline.models import classifier, joined_head
from pipeline.models.finetuning.settings import FinetuneSettings
from pipeline.models.finetuning.setup import Callbacks, Job
from pipeline.models.settings import Runtime
from pipeline.photos import manifest, prepare
from pipeline.photos.settings import PrepareSettings
from pipeline.storage import digests
from tests.fakes import write_classes

CUT, SIZE = "block-13", 48


def prepared(root: Path, photos: int) -> Path:
    write_classes(root / "photos", {"dark": photos, "light": photos})
    prepare.prepare(root / "photos", root / "manifest.csv", PrepareSettings(), progress=lambda *_: None)
    return root / "manifest.csv"


def settings(cache: Path, **changes: Any) -> ExtractSettings:
    chosen = {"cut": CUT, "size": SIZE, "precision": "int8", "cache": cache}
    return ExtractSettings(**{**chosen, **changes})


def extracted(root: Path, cache: Path, **changes: Any) -> ExtractResult:
    return extract(
        root / "photos",
        root / "manifest.csv",
        root / "features.h5",
        settings(cache, **changes),
        progress=lambda *_: None,
    )


def rows(root: Path) -> Any:
    with Features(root / "features.h5") as features:
        return features.spec, features.gather(manifest.read(root / "manifest.csv").digests)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, their features in int8, a head, and the cache that has the graph."""
    root = tmp_path_factory.mktemp("site")
    prepared(root, 10)
    extracted(root, root / "cache")
    train.train(root / "manifest.csv", root / "features.h5", root / "head", TrainSettings(C=0.1, calibrate="none"))
    return root


@pytest.fixture
def graph(site: Path) -> Path:
    (found,) = kept_weights.kept(site / "cache")
    return found


def runtime(cache: Path, **changes: Any) -> Runtime:
    return replace(Runtime(engine="auto", batch_size=4, cache=cache), **changes)


def test_features_in_int8_are_nearly_those_in_float32_and_name_the_graph_that_gave_them(
    site: Path, graph: Path
) -> None:
    spec, rounded = rows(site)
    assert spec["graph"] == {"sha256": graph.name} == {"sha256": digests.of_file(graph)}
    assert spec["precision"] == "int8" and spec["engine"]["name"] == "openvino"
    copy = site / "float"
    shutil.copytree(site / "photos", copy / "photos")
    for name in ("manifest.csv", "manifest.json"):
        shutil.copy(site / name, copy)
    extracted(copy, site / "cache", precision="float32")
    full_spec, full = rows(copy)
    assert "graph" not in full_spec
    cosine = np.sum(rounded * full, axis=1) / np.linalg.norm(rounded, axis=1) / np.linalg.norm(full, axis=1)
    assert cosine.min() > 0.9 and not np.array_equal(rounded, full)


def test_photos_that_are_added_leave_the_graph_as_it_is_and_another_set_of_photos_gets_its_own(
    site: Path, graph: Path, tmp_path: Path
) -> None:
    shutil.copytree(site, tmp_path / "more")
    more, cache = tmp_path / "more", tmp_path / "more" / "cache"
    before = rows(more)[0]
    prepared(more, 13)
    found = extracted(more, cache)
    assert (found.computed, found.reused, rows(more)[0]) == (6, 20, before)
    other = tmp_path / "other"
    for place, path in enumerate(sorted((site / "photos").rglob("*.png"))):
        label = other / "photos" / f"{place % 2}"
        label.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, label)
        with (label / path.name).open("ab") as file:
            file.write(b"another file")
    prepare.prepare(other / "photos", other / "manifest.csv", PrepareSettings(), progress=lambda *_: None)
    plan, table = resolve.plan(settings(cache)), manifest.read(other / "manifest.csv")
    named = int8.settled(plan, other / "photos", table, cache).spec["graph"]["sha256"]
    assert named != graph.name and {path.name for path in kept_weights.kept(cache)} == {named, graph.name}
    assert extracted(more, cache).computed == 0


def test_the_first_training_photos_calibrate_in_the_order_of_their_digests_and_always_give_the_same_graph(
    site: Path, graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [digest.tobytes() for digest in manifest.read(site / "manifest.csv").learned()[0].digests]
    assert engine.photos(graph) == expected == sorted(expected)
    plan, table = resolve.plan(settings(tmp_path)), manifest.read(site / "manifest.csv")
    again = int8.settled(plan, site / "photos", table, tmp_path)
    assert again.graph is not None and again.graph.read_bytes() == graph.read_bytes()
    monkeypatch.setattr(int8, "PHOTOS", 5)
    few = int8.settled(plan, site / "photos", table, tmp_path / "few")
    assert few.graph is not None and engine.photos(few.graph) == expected[:5]


def test_one_graph_serves_every_pooling_and_a_map_of_places_is_what_its_mean_is_of(site: Path, graph: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    table = manifest.read(site / "manifest.csv")
    found = {}
    for pooling in ("avg", "max", "grid2", "flatten", "none"):
        plan = int8.settled(resolve.plan(settings(site, pooling=pooling)), site / "photos", table, site / "cache")
        assert plan.graph == graph
        (found[pooling],) = resolve.open_engine(plan, batch_size=8, cache=None).run([pixels])
    maps = found["none"]
    assert maps.ndim == 4
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), found["avg"], rtol=0, atol=1e-4 * np.abs(maps).max())
    np.testing.assert_allclose(maps.max(axis=(1, 2)), found["max"], rtol=1e-5)
    np.testing.assert_allclose(maps.reshape(5, -1), found["flatten"], rtol=0, atol=1e-5 * np.abs(maps).max())
    trained = classifier.load(site / "head", runtime(site / "cache"))
    (of_head,) = trained.open("maps").run([pixels[:4]])
    np.testing.assert_array_equal(of_head, maps[:4])


def test_a_head_predicts_where_the_cache_or_its_folder_has_the_graph_and_else_says_what_is_missing(
    site: Path, graph: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "empty"
    pixels = np.zeros((1, SIZE, SIZE, 3), np.uint8)

    def features(head: Path, cache: Path) -> Any:
        return next(iter(classifier.load(head, runtime(cache)).open("features").run([pixels])))

    expected = features(site / "head", site / "cache")
    with pytest.raises(WeightsError, match=f"those of a graph in int8 with sha256 {graph.name}, which is neither in"):
        features(site / "head", elsewhere)
    carrying = TrainSettings(C=0.1, calibrate="none", with_weights=True, cache=site / "cache")
    train.train(site / "manifest.csv", site / "features.h5", tmp_path / "mailed", carrying)
    carried = tmp_path / "mailed" / kept_weights.CARRIED
    assert carried.read_bytes() == graph.read_bytes()
    np.testing.assert_array_equal(features(tmp_path / "mailed", elsewhere), expected)
    data = bytearray(carried.read_bytes())
    data[len(data) // 2] ^= 1
    carried.write_bytes(data)
    with pytest.raises(ArtefactError, match=f"base-weights: expected sha256 {graph.name}"):
        features(tmp_path / "mailed", elsewhere)


def test_what_int8_cannot_do_is_one_line(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="`engine`: expected openvino, which alone computes in int8, received tensorf"):
        resolve.plan(settings(tmp_path, engine="tensorflow"))
    with pytest.raises(
        InputError, match="`pooling`: expected one that takes the activations at the cut alone, in int8"
    ):
        resolve.plan(settings(tmp_path, pooling="last4"))
    described = json.loads((site / "head/head.json").read_text())["spec"]
    how = FinetuneSettings(cache=site / "cache")
    for refused in (
        lambda: plan_again(described, site / "head", Again(None, "auto", "bfloat16", site / "cache")),
        lambda: Job(site / "features.h5", site / "head", how, Callbacks()),
        lambda: joined_head.read(site / "head", weights=None, cache=site / "cache"),
    ):
        with pytest.raises(SpecError, match=r"is not trained and has no other precision: `hs.extract\(precision='f"):
            refused()
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(InputError, match=r"NNCF, which is not installed here: pip install 'headstart\[int8\]'"):
        extracted(site, tmp_path)
    assert extracted(site, site / "cache").computed == 0  # what was calibrated runs without


def test_two_that_need_the_same_graph_make_it_once(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, quantised = [], engine.quantised
    monkeypatch.setattr(engine, "quantised", lambda *given: made.append(given) or quantised(*given))
    plan, table = resolve.plan(settings(tmp_path)), manifest.read(site / "manifest.csv")
    found: list[resolve.Plan] = []
    each = [
        threading.Thread(target=lambda: found.append(int8.settled(plan, site / "photos", table, tmp_path)))
        for _ in range(2)
    ]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    assert len(made) == 1 and found[0].spec == found[1].spec


def test_a_damaged_graph_is_set_aside_and_made_again(site: Path, graph: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "cache", tmp_path / "cache")
    copy = tmp_path / "cache/weights" / graph.name
    copy.write_bytes(copy.read_bytes()[:-1])
    plan, table = resolve.plan(settings(tmp_path)), manifest.read(site / "manifest.csv")
    again = int8.settled(plan, site / "photos", table, tmp_path / "cache")
    assert again.spec["graph"]["sha256"] == graph.name and kept_weights.verify(copy)
    assert [path.name for path in kept_weights.set_aside(tmp_path / "cache")] == [f"{graph.name}.damaged"]


def test_a_graph_goes_with_the_rows_that_it_gave(site: Path, graph: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "cache", tmp_path / "cache")
    gone = [one.identity for one in inventory.contents(tmp_path / "cache")]
    wasted = {one.path: one.what for one in inventory.waste(tmp_path / "cache", gone)}
    assert wasted[tmp_path / "cache/weights" / graph.name] == "weights of what goes"


def test_a_worker_computes_by_the_graph_of_the_plan(site: Path) -> None:
    table = manifest.read(site / "manifest.csv")
    plan = int8.settled(resolve.plan(settings(site)), site / "photos", table, site / "cache")
    assert _planned_here(plan).spec == plan.spec


def changed(graph: Path, path: Path, change: str) -> Path:
    with zipfile.ZipFile(graph) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    described = members[GRAPH_FILES[0]].decode()
    members[GRAPH_FILES[0]] = {
        "a DOCTYPE": f"<!DOCTYPE net>{described}",
        "the operation extension.Convolution": described.replace(
            'type="Convolution" version="opset1"', 'type="Convolution" version="extension"', 1
        ),
        "the operation Loop": described.replace(
            'type="Convolution" version="opset1"', 'type="Loop" version="opset5"', 1
        ),
    }.get(change, described).encode()
    compression = zipfile.ZIP_DEFLATED if change == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        if change == "more":
            archive.writestr("more", b"")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("a DOCTYPE", "expected a graph that only computes, received a DOCTYPE; it was not loaded"),
        ("the operation extension.Convolution", "received the operation extension.Convolution; it was not loaded"),
        ("the operation Loop", "received the operation Loop, which repeats or chooses; it was not loaded"),
        ("compressed", "expected a graph in int8 as `hs.extract` keeps it"),
        ("more", "expected a graph in int8 as `hs.extract` keeps it"),
        ("no archive", "expected a graph in int8 as `hs.extract` keeps it"),
    ],
)
def test_a_strangers_graph_is_refused_in_one_line_before_it_is_loaded(
    graph: Path, tmp_path: Path, change: str, message: str
) -> None:
    path = changed(graph, tmp_path / "graph", change)
    if change == "no archive":
        path.write_bytes(b"\0" * 100)
    with pytest.raises(ArtefactError, match=message):
        engine.read(path, sha256=digests.of_file(path), pooling="avg")


def test_tokens_and_rows_are_not_pooled_as_maps(graph: Path) -> None:
    with pytest.raises(CutError):
        engine.read(graph, sha256=graph.name, pooling="cls")
    with pytest.raises(ArtefactError, match=f"expected a graph with sha256 {'0' * 64}, received {graph.name}"):
        engine.read(graph, sha256="0" * 64, pooling="avg")


def test_probe_judges_a_precision_by_the_features_that_extract_computes(
    site: Path, graph: Path, tmp_path: Path
) -> None:
    chosen = ProbeSettings(
        base=BaseSettings(size=SIZE), compare=(f"efficientnet_lite0@{SIZE}+int8",), cache=site / "cache"
    )
    seen: list[tuple[int, int]] = []

    def one_cut(plan: resolve.Plan) -> Bench:
        plan = replace(plan, spec={**plan.spec, "cut": "block2b_add"})
        candidate = Candidate(CUT, plan.spec["cut"], 1, "avg", 24, 1)
        return Bench([candidate], resolve.open_engine(plan, batch_size=4, cache=None))

    first, (plain, rounded) = probe(
        site / "photos",
        site / "manifest.csv",
        tmp_path / "cut.json",
        chosen,
        progress=lambda *done: seen.append(done),
        open_bench=one_cut,
    )
    assert (plain.name, rounded.name) == (
        f"efficientnet_lite0 at {SIZE} px",
        f"efficientnet_lite0 at {SIZE} px in int8",
    )
    assert plain.finding is first and rounded.finding.plan.graph == graph
    assert f"\nefficientnet_lite0+int8,{SIZE}," in (tmp_path / "backbones.csv").read_text()
    learned = len(manifest.read(site / "manifest.csv").distinct("train", "val"))
    assert seen[-1] == (2 * learned, 2 * learned)
    (plain_judged,), (judged,) = first.judged, rounded.finding.judged
    assert not np.array_equal(plain_judged.errors, judged.errors)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("efficientnet_lite0+int8", ("efficientnet_lite0", None, "imagenet", "int8")),
        ("mobilenet_v2@160=a+b.h5+bfloat16", ("mobilenet_v2", 160, "a+b.h5", "bfloat16")),
        ("mobilenet_v2=a+int4", ("mobilenet_v2", None, "a+int4", "float32")),
        ("onnx:a+b.onnx+int8", ("onnx", None, "a+b.onnx", "int8")),
    ],
)
def test_a_base_to_compare_may_end_in_a_precision(text: str, expected: tuple[object, ...]) -> None:
    (_, found) = bases_of(ProbeSettings(compare=(text,)))
    assert (found.backbone, found.size, found.weights, found.precision) == expected
