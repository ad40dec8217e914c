"""The probe: one forward pass over a sample that holds no test image, and the cut that was planted as the best one."""

import csv
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import CutError, InputError
from pipeline.features import resolve, spec
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.probe import bench, cut_file, results
from pipeline.features.probe import probe as probing
from pipeline.features.probe.bench import Bench, judge
from pipeline.features.probe.comparison import Candidate, Judged, chance, compare
from pipeline.features.probe.recommendation import recommend
from pipeline.features.probe.results import Contender, Finding, preferred
from pipeline.features.probe.sample import Sample, draw
from pipeline.features.resolve import Plan
from pipeline.features.settings import BaseSettings, ProbeSettings, Proof
from pipeline.photos import decode, manifest, prepare
from pipeline.photos.manifest import Manifest
from pipeline.photos.settings import PrepareSettings
from pipeline.stats import intervals
from tests.fakes import register_tiny, settings, write_classes, write_photo

pytestmark = pytest.mark.usefixtures("undrawn")

SIZE = 8
COST = {"low": 10, "middle": 20, "high": 30}


class FakeEngine:
    """At `low` noise, at `middle` and `high` the brightness, by which the classes were made; `max` is always noise."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.row_shape = (12,)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            self.batches.append(len(batch))
            mean = batch.mean(axis=(1, 2, 3))
            planted = [mean, np.abs(mean - 125)]  # a straight line alone does not single out the middle class
            noise = [(mean * 7919) % 1, (mean * 104729) % 1]
            yield np.stack([*noise, *noise, *planted, *noise, *planted, *noise], axis=1).astype(np.float32)


class FakeBench:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.opened = 0

    def __call__(self, plan: Plan) -> Bench:
        self.opened += 1
        candidates = [
            Candidate(cut, f"{cut}_layer", depth, pooling, 2, COST[cut])
            for depth, cut in enumerate(COST, 1)
            for pooling in ("avg", "max")
        ]
        return Bench(candidates, self.engine)


class Photos:
    """Three classes of photos with a manifest, and a fake bench."""

    def __init__(self, root: Path) -> None:
        self.root, self.manifest, self.cut = root / "photos", root / "manifest.csv", root / "probe" / "cut.json"
        self.cache = root / "cache"
        self.table = manifest.read(self.manifest)
        self.bench = FakeBench()
        self.seen: list[tuple[int, int]] = []

    def probe(self, *others: str, sample: int = 1000, batch_size: int = 7, margin: float = 0.2) -> results.Finding:
        base = BaseSettings(backbone="mobilenet_v2", weights="none", size=SIZE, engine="tensorflow")
        chosen = ProbeSettings(
            base=base,
            compare=tuple(f"{name}@{SIZE}=none" for name in others),
            sample=sample,
            proof=Proof(margin=margin),
            batch_size=batch_size,
            cache=self.cache,
        )
        found, self.contenders = probing.probe(
            self.root,
            self.manifest,
            self.cut,
            chosen,
            progress=lambda done, total: self.seen.append((done, total)),
            open_bench=self.bench,
            open_engine=self.timed,
        )
        return found

    def timed(self, plan: Plan) -> FakeEngine:
        self.asked = (plan.spec["cut"], plan.spec["pooling"])
        self.other = FakeEngine()
        return self.other

    def rows(self, name: str) -> list[dict[str, str]]:
        with self.cut.with_name(name).open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    write_classes(root / "photos", {"dark": 20, "grey": 20, "bright": 20})
    prepare.prepare(
        root / "photos",
        root / "manifest.csv",
        PrepareSettings(max_quarantined=0.0, test_fraction=0.25, stratify=True, workers=1),
        progress=lambda done, total: None,
    )
    return root


@pytest.fixture
def photos(prepared: Path, tmp_path: Path) -> Photos:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return Photos(tmp_path)


def test_every_image_of_the_sample_goes_forward_once_for_all_cuts_and_poolings(photos: Photos) -> None:
    photos.probe()
    assert photos.bench.opened == 1
    assert photos.bench.engine.batches == [7] * 6 + [3]
    assert photos.seen[-1] == (45, 45)


def test_the_planted_layer_is_found_and_of_two_alike_the_cheaper_one(photos: Photos) -> None:
    found = photos.probe()
    chosen = found.recommendation.chosen
    assert (chosen.candidate.cut, chosen.candidate.pooling) == ("middle", "avg")
    accuracy = {(one.candidate.cut, one.candidate.pooling): one.accuracy for one in found.judged}
    assert accuracy["middle", "avg"] == accuracy["high", "avg"] > 0.9
    assert accuracy["low", "avg"] < 0.6


def test_on_few_photos_the_top_is_kept_and_the_cut_file_says_why(photos: Photos) -> None:
    found = photos.probe(margin=0.01).recommendation
    assert (found.chosen.candidate.cut, found.chosen.candidate.pooling) == ("high", "avg")
    written = json.loads(photos.cut.read_text())
    assert "The top is kept: no other cut or pooling is shown to be better" in written["why"]
    assert "A cheaper one can be shown from 1,072 images on" in written["why"]
    assert (written["figures"]["margin"], written["figures"]["confidence"]) == (0.01, 0.95)
    assert written["figures"]["chosen"] == written["figures"]["top"]
    shown = {(row["cut"], row["pooling"]): row["shown"] for row in photos.rows("layers.csv")}
    assert shown["middle", "avg"] == "nothing"


def test_the_cut_file_says_what_extract_needs_and_what_it_rests_on(photos: Photos) -> None:
    chosen = photos.probe().recommendation.chosen
    assert cut_file.read(photos.cut, backbone="mobilenet_v2") == ("middle_layer", "avg")
    written = json.loads(photos.cut.read_text())
    assert written["why"].startswith("middle (middle_layer) with avg: ")
    figures = written["figures"]
    assert (figures["images"], figures["size"], figures["weights"]) == (45, SIZE, {"seed": 0})
    low, high = intervals.wilson(chosen.accuracy, 45)
    assert figures["chosen"] == {
        "cut": "middle",
        "layer": "middle_layer",
        "pooling": "avg",
        "accuracy": chosen.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "squared_error": chosen.squared_error,
        "features": 2,
        "bytes": 4,
        "multiply_adds": 20,
    }


def test_the_table_lists_every_candidate_from_below(photos: Photos) -> None:
    found = photos.probe()
    rows = photos.rows("layers.csv")
    assert [(row["cut"], row["depth"], row["pooling"]) for row in rows] == [
        ("low", "1", "avg"),
        ("low", "1", "max"),
        ("middle", "2", "avg"),
        ("middle", "2", "max"),
        ("high", "3", "avg"),
        ("high", "3", "max"),
    ]
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([one.accuracy for one in found.judged], abs=1e-6)
    assert [(row["features"], row["bytes"], row["multiply_adds"]) for row in rows[::2]] == [
        ("2", "4", "10"),
        ("2", "4", "20"),
        ("2", "4", "30"),
    ]
    assert photos.rows("backbones.csv") == []


def test_the_same_images_give_the_same_bytes_whatever_the_batch(photos: Photos, drawn: None) -> None:
    names = ("cut.json", "layers.csv", "plots/layers.png", "backbones.csv")
    photos.probe()
    before = [(photos.cut.parent / name).read_bytes() for name in names]
    photos.probe(batch_size=16)
    assert [(photos.cut.parent / name).read_bytes() for name in names] == before


def test_the_test_split_is_not_looked_at(photos: Photos) -> None:
    for place, split in enumerate(photos.table.splits):
        if split == "test":
            (photos.root / photos.table.paths[place]).unlink()
    assert len(photos.probe().recommendation.chosen.right) == 45


def test_an_image_that_cannot_be_read_stops_the_probe_by_name_and_nothing_is_written(photos: Photos) -> None:
    broken = next(path for path, split in zip(photos.table.paths, photos.table.splits, strict=True) if split == "train")
    (photos.root / broken).write_bytes(b"no image")
    with pytest.raises(InputError, match=rf"1 images could not be read: {broken} \(it changed since"):
        photos.probe()
    assert not photos.cut.exists()


def test_one_class_cannot_be_probed(photos: Photos) -> None:
    places = [place for place, label in enumerate(photos.table.labels) if label == "dark"]
    manifest.write(photos.table.take(places), photos.manifest)
    with pytest.raises(
        InputError, match=r"expected images of two classes or more in train and val, received \['dark'\]"
    ):
        photos.probe()


def test_candidates_whose_features_do_not_fit_float16_are_left_out(photos: Photos) -> None:
    candidates = photos.bench(resolve.plan(settings(size=SIZE))).candidates[:2]
    columns = np.arange(6, dtype=np.float16)[:, None]
    judged = judge(candidates, [columns + np.float16(np.inf), columns], list("aaabbb"))
    assert [one.candidate for one in judged] == candidates[1:]


def drawn(counts: dict[str, int], sample: int) -> Manifest:
    rng = np.random.default_rng(0)
    rows = [
        manifest.Row(f"{label}/{number}", rng.bytes(32), label, ("train", "val", "test")[number % 3], 1, 1, "PNG")
        for label, count in counts.items()
        for number in range(count)
    ]
    return draw(manifest.from_rows(rows), sample)


def test_a_sample_has_its_share_of_every_class_and_no_test_image() -> None:
    sample = drawn({"many": 90, "few": 30}, 40)
    assert {label: sample.labels.count(label) for label in ("many", "few")} == {"many": 30, "few": 10}
    assert set(sample.splits) == {"train", "val"}
    assert sorted(map(bytes, sample.digests)) == list(map(bytes, sample.digests))


def test_a_larger_sample_holds_the_smaller_one() -> None:
    small, large = (set(drawn({"a": 60, "b": 60}, size).paths) for size in (20, 40))
    assert small < large
    assert len(drawn({"a": 60, "b": 60}, 1000)) == 80


def test_identical_files_count_once() -> None:
    row = manifest.Row("b", b"x" * 32, "cat", "train", 1, 1, "PNG")
    assert draw(manifest.from_rows([row, row._replace(path="a")]), 10).paths == ["a"]


def test_several_backbones_are_compared_at_the_cut_recommended_for_each(photos: Photos) -> None:
    found = photos.probe("efficientnet_b0", "vgg16", margin=0.3)
    assert photos.bench.opened == 3
    assert photos.asked == ("middle_layer", "avg")
    assert sum(photos.other.batches) == 45
    assert photos.seen[-1] == (135, 135)
    rows = photos.rows("backbones.csv")
    assert [row["backbone"] for row in rows] == ["mobilenet_v2", "efficientnet_b0", "vgg16"]
    assert {row["accuracy"] for row in rows} == {f"{found.recommendation.chosen.accuracy:.6f}"}
    assert {row["images"] for row in rows} == {"60"}
    assert {row["shown"] for row in rows} == {"not worse"}  # the same features: they never disagree
    for row, one in zip(rows, photos.contenders, strict=True):
        assert one.images_per_second > 0
        assert float(row["seconds"]) == pytest.approx(60 / one.images_per_second, abs=0.051)
    assert cut_file.read(photos.cut, backbone="mobilenet_v2") == ("middle_layer", "avg")


def contender(name: str, wrong: int, rate: float, first: Contender | None = None) -> Contender:
    """A base that gets the first `wrong` of 400 images wrong."""
    right = np.arange(400) >= wrong
    judged = Judged(Candidate("top", "top_layer", 1, "avg", 8, 10), right, 1.0 - right)
    plan = resolve.plan(settings(backbone=name, size=SIZE))
    found = recommend([judged], ["a", "b"] * 200, top=judged, proof=Proof())
    beside = judged if first is None else first.finding.recommendation.chosen
    difference = compare(judged, beside, chance(["a", "b"] * 200), Proof(margin=0.05), 1)
    return Contender(Finding(plan, [judged], found), rate, 400, difference)


@pytest.mark.parametrize(
    ("wrong", "rate", "taken", "why"),
    [
        (4, 50.0, 1, "vgg16 at 8 px is shown to be better than mobilenet_v2 at 8 px with 95 % confidence"),
        (40, 200.0, 1, "vgg16 at 8 px is faster and shown to be at most 0.05 less accurate with 95 % confidence"),
        (40, 50.0, 0, "mobilenet_v2 at 8 px is kept: no other base is shown to be better"),
        (60, 200.0, 0, "mobilenet_v2 at 8 px is kept: no other base is shown to be better"),
    ],
)
def test_another_base_is_taken_only_if_it_is_shown_to_be_better_or_faster_and_no_worse(
    wrong: int, rate: float, taken: int, why: str
) -> None:
    first = contender("mobilenet_v2", 40, 100.0)
    both = [first, contender("vgg16", wrong, rate, first)]
    chosen, said = preferred(both, Proof(margin=0.05))
    assert chosen is both[taken]
    assert said.startswith(why)


def test_a_given_cut_is_echoed_without_images_and_the_same_files_are_there(tmp_path: Path) -> None:
    cut = tmp_path / "probe" / "cut.json"
    received = probing.echo(cut, ProbeSettings(cut="block-9", pooling="grid3"))
    assert received == cut_file.read(cut, backbone="efficientnet_lite0") == ("block4b_add", "grid3")
    assert json.loads(cut.read_text())["why"] == "given: block-9 with grid3; nothing was probed"
    names = {"cut.json", "layers.csv", "backbones.csv", "digests.json", "plots"}
    assert {path.name for path in cut.parent.iterdir()} == names
    assert list((cut.parent / "plots").iterdir()) == []
    assert len(cut.with_name("layers.csv").read_text().splitlines()) == 1


def test_a_word_that_the_backbone_does_not_know_is_not_echoed(tmp_path: Path) -> None:
    with pytest.raises(CutError, match="received 'block-99'"):
        probing.echo(tmp_path / "cut.json", ProbeSettings(base=BaseSettings(backbone="vgg16"), cut="block-99"))
    assert list(tmp_path.iterdir()) == []


def test_a_real_bench_gives_in_one_row_what_each_trunk_gives(tmp_path: Path) -> None:
    register_tiny()
    chosen = settings(backbone="tiny", size=32, engine="openvino")
    plan = resolve.plan(chosen)
    opened = bench.bench(plan, poolings=("avg", "grid2"), batch_size=4)
    photo = write_photo(tmp_path / "photo.png", 0)
    pixels = np.stack([decode.fit(photo.read_bytes(), size=32, geometry="squash")] * 2)
    (row,) = opened.engine.run([pixels])
    ends = np.cumsum([one.features for one in opened.candidates])
    assert row.shape == (2, ends[-1])
    assert opened.candidates[-1].cut == "top"
    assert opened.candidates[0].multiply_adds < opened.candidates[-1].multiply_adds
    for place in (0, 7, len(ends) - 1):
        one = opened.candidates[place]
        alone = resolve.plan(replace(chosen, cut=one.layer, pooling=one.pooling))
        (expected,) = resolve.open_engine(alone, batch_size=4, cache=None).run([pixels])
        np.testing.assert_array_equal(row[:, ends[place] - one.features : ends[place]], expected)


def kept_rows(photos: Photos) -> RowCache:
    plan = resolve.plan(
        settings(backbone="mobilenet_v2", size=SIZE, engine="tensorflow", cut="middle_layer", dtype="float16")
    )
    return RowCache(photos.cache, spec=spec.canonical(plan.spec), dtype="float16", view="0")


def test_extraction_finds_the_rows_of_the_recommended_cut_and_computes_those_of_the_test_split(photos: Photos) -> None:
    photos.probe()
    rows, judged = kept_rows(photos), draw(photos.table, 1000)
    index = rows.index()
    assert index.missing(photos.table.digests).tolist() == [split == "test" for split in photos.table.splits]
    (kept,) = rows.blocks(index, judged.digests)
    photos.bench.engine.batches.clear()
    squares = Sample(photos.root, judged, resolve.plan(settings(backbone="mobilenet_v2", size=SIZE)), 7)
    expected = np.concatenate(list(photos.bench.engine.run(squares.batches(len(judged)))))[:, 4:6]
    np.testing.assert_array_equal(kept, expected.astype(np.float16))
    photos.probe()
    assert rows.index().shards == index.shards


def test_rows_that_somebody_else_computes_are_not_kept(photos: Photos, caplog: pytest.LogCaptureFixture) -> None:
    rows = kept_rows(photos)
    with rows.writer(0.0, 1.0, "another run"):
        photos.probe()
    assert rows.index().row_shape is None
    assert "are not kept, and will be computed again: " in caplog.text
