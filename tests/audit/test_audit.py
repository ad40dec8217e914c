"""Faults that were planted are found, and a sound collection is not accused."""

import contextlib
import csv
import hashlib
import io
import json
import threading
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.audit import audit, confusable, contact_sheets, label_issues, out_of_fold, outliers
from pipeline.audit.settings import AuditSettings
from pipeline.errors import ArtefactError, InputError
from pipeline.features import features_file
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.selection import cross_validation
from pipeline.photos import manifest
from pipeline.stats import nearest_neighbours
from stages.audit import audit as command

pytestmark = pytest.mark.usefixtures("decoded_here")

RULES = {"hash_distance": 31, "min_cosine": 0.99, "neighbours": 5, "folds": 5, "seed": 0}
COPIES, FLIPPED, EACH = 20, 20, 100
SPLITS = ("train", "train", "train", "val", "test")


def photo(number: int, label: str) -> Image.Image:
    """A picture of its own, whose class shows in its hue."""
    draw = np.random.default_rng(number)
    coarse = draw.integers(40, 216, (18, 24, 3)) + np.array([36, 0, -36]) * (1 if label == "red" else -1)
    return Image.fromarray(coarse.astype(np.uint8)).resize((96, 72), Image.Resampling.BICUBIC)


def coded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


WAYS = [
    lambda image: coded(image, "BMP"),
    lambda image: coded(image, "JPEG", quality=60),
    lambda image: coded(image.resize((64, 48), Image.Resampling.LANCZOS), "PNG"),
    lambda image: coded(ImageOps.mirror(image), "WEBP", quality=80),
]


class Project:
    """Images, manifest and features in a folder; features are the colours of an image on a coarse grid."""

    def __init__(self, root):
        self.root, self.out = root, root / "out"
        self.images, self.manifest, self.features = root / "images", root / "manifest.csv", root / "features.h5"
        self.rows, self.vectors = [], {}

    def add(self, name, data, label, split):
        (self.images / name).parent.mkdir(parents=True, exist_ok=True)
        (self.images / name).write_bytes(data)
        digest = hashlib.sha256(data).digest()
        with Image.open(io.BytesIO(data)) as image:
            self.vectors[digest] = np.asarray(image.convert("RGB").resize((4, 3)), np.float32).reshape(-1) / 255
        self.rows.append(manifest.Row(name, digest, label, split, 96, 72, "PNG"))
        return name

    def write(self):
        manifest.write(manifest.from_rows(self.rows), self.manifest)
        digests = sorted(self.vectors)
        features_file.write(
            self.features,
            spec="{}",
            digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
            row_shape=(36,),
            dtype="float32",
            blocks=[np.stack([self.vectors[digest] for digest in digests])],
        )
        return self

    @property
    def paths(self):
        return self.images, self.manifest, self.features, self.out

    def audit(self, **rules):
        head = LogisticHead(C=0.1, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=0)
        return audit.audit(
            *self.paths,
            AuditSettings(**{**RULES, "workers": 1, **rules}),
            progress=lambda *_: None,
            head=head,
        )

    def table(self, name):
        with (self.out / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def sound(root, each=EACH):
    project = Project(root)
    for place, label in enumerate(("blue", "red")):
        for number in range(each):
            data = coded(photo(place * each + number, label), "PNG")
            project.add(f"{label}/{number:03}.png", data, label, SPLITS[number % 5])
    return project


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Copies in another split, one of them under another label; and labels that are flipped."""
    project = sound(tmp_path_factory.mktemp("planted"))
    project.pairs, project.flipped = set(), set()
    for number in range(COPIES):
        label = ("blue", "red")[number % 2]
        row = next(row for row in project.rows if row.path == f"{label}/{number:03}.png")
        split = "train" if row.split == "test" else "test"
        data = WAYS[number % len(WAYS)](photo((label == "red") * EACH + number, label))
        given = label if number else "red"
        project.pairs.add((row.path, project.add(f"copies/{number:03}.png", data, given, split)))
    for place in range(FLIPPED):
        index = (place % 2) * EACH + 50 + place
        row = project.rows[index]
        project.rows[index] = row._replace(label="red" if row.label == "blue" else "blue")
        project.flipped.add(row.path)
    project.counts = project.write().audit()
    return project


def precision_and_recall(found, truth):
    return len(found & truth) / len(found), len(found & truth) / len(truth)


def test_planted_copies_are_found_and_nothing_else_is_called_a_copy(planted):
    found = {tuple(sorted((row["path_a"], row["path_b"]))) for row in planted.table("duplicates.csv")[:COPIES]}
    precision, recall = precision_and_recall(found, {tuple(sorted(pair)) for pair in planted.pairs})
    assert precision == recall == 1.0
    assert planted.counts["same_pixels"] == COPIES / len(WAYS)
    assert planted.counts["near_duplicates"] == COPIES - COPIES / len(WAYS)
    mirrored = [row for row in planted.table("duplicates.csv") if row["kind"] == "near" and row["turned"] == "1"]
    assert len(mirrored) == COPIES / len(WAYS)


def test_planted_leaks_and_conflicts_are_counted(planted):
    """Every copy lies across the border of the test split; two copies contradict: one was added so, one was flipped."""
    table = planted.table("duplicates.csv")
    assert planted.counts["leakage"] == COPIES == sum(row["leakage"] == "1" for row in table)
    assert planted.counts["conflicts"] == 1
    (conflict,) = [row for row in table if row["conflict"] == "1"]
    assert {conflict["path_a"], conflict["path_b"]} == {"blue/000.png", "copies/000.png"}


def test_flipped_labels_are_found(planted):
    rows = [row for row in planted.table("label_issues.csv") if row["confident"] == "1"]
    truth = planted.flipped | {"copies/000.png"}
    precision, recall = precision_and_recall({row["path"] for row in rows}, truth)
    assert precision >= 0.9
    assert recall >= 0.9
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins, reverse=True)
    assert all(row["suggested"] != row["label"] for row in rows)


def test_what_was_found_is_on_disk_and_the_counts_are_those_returned(planted):
    names = {path.name for path in planted.out.iterdir()}
    pictures = {path.name for path in (planted.out / "plots").iterdir()}
    assert 0 < planted.counts["outliers"] <= 0.03 * planted.counts["images"]
    assert pictures == {"conflicts.png", "duplicates.png", "label_issues.png", "leakage.png", "outliers.png"}
    assert names == {
        "audit.json",
        "digests.json",
        "confusable.csv",
        "duplicates.csv",
        "label_issues.csv",
        "outliers.csv",
        "plots",
    }
    assert json.loads((planted.out / "audit.json").read_text()) == planted.counts


def test_a_failing_audit_ends_with_status_1_after_all_is_written_the_same_bytes_for_the_same_data(planted, tmp_path):
    words = [*map(str, planted.paths[:3]), str(tmp_path), "--workers", "1", "--C", "0.1", "--min-cosine", "0.99"]
    words += ["--hash-distance", "31"]
    failed = CliRunner().invoke(command, [*words, "--neighbours", "5", "--fail-on", "leakage,conflicts"])
    assert failed.exit_code == 1
    assert failed.stderr.startswith(
        "Error: --fail-on: expected none, received 20 test images with a copy in train or val; "
        "1 picture with different labels: see "
    )
    first, again = (
        {path.relative_to(folder): path.read_bytes() for path in files(folder)} for folder in (planted.out, tmp_path)
    )
    assert first == again


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    project = sound(tmp_path_factory.mktemp("clean"), each=40)
    project.add("blue/again.png", (project.images / "blue/000.png").read_bytes(), "blue", "train")
    project.counts = project.write().audit()
    return project


def test_a_sound_collection_is_not_accused(clean):
    silent = ("same_pixels", "near_duplicates", "leakage", "val_leakage", "conflicts", "inseparable_classes")
    assert [clean.counts[name] for name in silent] == [0] * len(silent)
    assert clean.counts["outliers"] <= 0.03 * clean.counts["images"]
    accusing = {"conflicts.png", "leakage.png"} | ({"outliers.png"} if not clean.counts["outliers"] else set())
    assert accusing.isdisjoint(path.name for path in (clean.out / "plots").iterdir())
    assert clean.counts["same_bytes"] == 1
    assert clean.counts["images"] == 81
    (copy,) = [row for row in clean.table("duplicates.csv") if row["kind"] == "bytes"]
    assert (copy["path_a"], copy["path_b"]) == ("blue/000.png", "blue/again.png")


def test_nothing_to_fail_on_is_success(clean, monkeypatch):
    monkeypatch.setattr(contact_sheets, "draw", lambda *_: None)
    words = [*map(str, clean.paths), "--workers", "1", "--fail-on", "leakage,conflicts"]
    result = CliRunner().invoke(command, words)
    assert result.exit_code == 0
    assert result.stdout.startswith("81 images: 1 copy, 0 of them between test and another split, 0 pictures")


def test_an_unknown_fault_is_a_usage_error(clean):
    result = CliRunner().invoke(command, [*map(str, clean.paths), "--fail-on", "leaks"])
    assert result.exit_code == 2
    assert "expected some of leakage, conflicts, or none; received 'leaks'" in result.stderr


def test_an_image_that_changed_is_named(tmp_path):
    project = sound(tmp_path, each=10).write()
    (project.images / "red/003.png").write_bytes(coded(photo(999, "red"), "PNG"))
    with pytest.raises(
        ArtefactError, match=r"received 1 that cannot be used, the first red/003\.png: it changed since"
    ):
        project.audit()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"min_cosine": 0.0}, "`min_cosine`: expected a number above 0"),
        ({"neighbours": 0}, "`neighbours`: expected a whole number of at least 1"),
        ({"folds": 1}, "`folds`: expected a whole number of at least 2"),
        ({"folds": 21}, "received 21 folds for 20 images"),
        ({"hash_distance": -1}, "`hash_distance`: expected a whole number of at least 0"),
    ],
)
def test_a_rule_out_of_range_is_refused(tmp_path, rule, message):
    with pytest.raises(InputError, match=message):
        sound(tmp_path, each=10).write().audit(**rule)


def test_classes_smaller_than_the_folds_are_audited_and_the_only_image_of_one_is_not_accused(tmp_path):
    project = sound(tmp_path, each=4)
    assert project.write().audit(folds=5)["labels_not_judged"] == 0
    project.add("grey/1.png", coded(photo(77, "red"), "PNG"), "grey", "train")
    counts = project.write().audit(folds=5)
    assert counts["labels_not_judged"] == 1
    with (project.out / "label_issues.csv").open() as file:
        assert "grey" not in {row["label"] for row in csv.DictReader(file)}


# --- the parts


def test_confident_learning_counts_as_the_paper_does():
    """Thresholds are 0.7 for class 0 and 0.6 for class 1: the third image reaches the latter, the fourth neither."""
    codes = np.array([0, 0, 0, 0, 1, 1])
    first = np.array([1.0, 0.95, 0.3, 0.55, 0.2, 0.6])
    found = label_issues.find(codes, np.stack([first, 1 - first], axis=1))
    assert found.images.tolist() == [2, 5]
    assert found.suggested.tolist() == [1, 0]
    assert found.confident.tolist() == [True, False]
    assert found.margins == pytest.approx([0.4, 0.2])


def test_a_class_without_images_is_suggested_for_none():
    probabilities = np.array([[0.9, 0.1, 0.0], [0.1, 0.2, 0.7], [0.2, 0.8, 0.0]])
    assert 2 not in label_issues.find(np.array([0, 0, 1]), probabilities).suggested


def test_an_image_far_from_all_stands_out_and_one_among_another_class_lies_far_from_its_own():
    angles = np.concatenate([np.linspace(0, 0.3, 20), np.linspace(1.5, 1.8, 20), [4.0, 1.65]])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    codes = np.array([0] * 20 + [1] * 20 + [0, 0])
    found = outliers.measure(vectors, codes, neighbours=3)
    assert np.flatnonzero(found.outlying).tolist() == [40]
    assert found.overall[41] < 0.01
    assert found.own_class[41] > 0.5


@pytest.mark.parametrize(("planted", "least"), [(5, 1.0), (20, 0.9), (40, 0.9)])
def test_images_of_another_kind_stand_out_and_hardly_any_other_does(planted: int, least: float):
    """Among 500 that share a large part, and differ much or little from it, some share another, as dogs among cats."""
    draw = np.random.default_rng(0)
    common, other = 2 * draw.normal(size=(2, 64))
    unlike = draw.lognormal(-0.7, 0.4, size=(500, 1))  # so that the distances have a longer tail above than below
    rows = np.concatenate([common + unlike * draw.normal(size=(500, 64)), other + 3 * draw.normal(size=(planted, 64))])
    vectors = nearest_neighbours.unit(rows.astype(np.float32))
    found = outliers.measure(vectors, np.zeros(len(rows), np.int64), neighbours=10)
    assert found.outlying[500:].mean() >= least
    assert 0 < found.outlying[:500].mean() <= 0.03


def test_one_image_alone_is_infinitely_far_and_scored_by_nobody():
    found = outliers.measure(np.ones((1, 2), np.float32), np.array([0]), neighbours=3)
    assert found.overall.tolist() == [np.inf]
    assert not found.outlying.any()


def test_two_classes_that_are_guessed_cannot_be_told_apart_and_others_can():
    draw = np.random.default_rng(0)
    codes = np.repeat([0, 1, 2], 100)
    sure = np.where(codes == 2, 0.0, 0.5)
    split = draw.random(300)
    probabilities = np.stack([sure * 2 * split, sure * 2 * (1 - split), 1 - 2 * sure], axis=1)
    (pair,) = confusable.find(codes, probabilities)
    assert (pair.first, pair.second, pair.images) == (0, 1, 200)
    assert pair.low < 0.5 < pair.high
    assert pair.inseparable


def test_folds_keep_groups_together_and_every_class_in_each():
    codes = np.repeat([0, 1], 50)
    groups = np.concatenate([np.arange(50) // 2, 100 + np.arange(50) // 5])
    fold = cross_validation.assign_groups(codes, groups, folds=5, seed=0)
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))
    assert all(set(codes[fold == number]) == {0, 1} for number in range(5))


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize(("images", "groups", "classes"), [(300, 300, 10), (300, 40, 3), (200, 100, 2), (120, 90, 30)])
def test_folds_are_those_of_scikit_learn(folds, images, groups, classes):
    draw = np.random.default_rng(folds)
    codes, groups = np.sort(draw.integers(0, classes, images)), 7 * draw.integers(0, groups, images)
    expected = np.empty(images, np.int64)
    with warnings.catch_warnings(action="ignore"):  # of classes with fewer images than folds
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=4).split(codes, codes, groups)
        for fold, (_, held) in enumerate(split):
            expected[held] = fold
    np.testing.assert_array_equal(cross_validation.assign_groups(codes, groups, folds=folds, seed=4), expected)


@dataclass
class Remembering:
    """A head that only knows which rows it was fitted on, and which it or any copy of it was."""

    ever: set[float]

    def fit(self, X, y, validation, progress=None):
        self.seen = set(X[:, 0].tolist())
        self.ever.update(self.seen)
        return self

    def predict_proba(self, X):
        assert not self.seen & set(X[:, 0].tolist())
        return np.full((len(X), 2), 0.5)


def test_no_image_is_judged_by_a_head_that_saw_it_and_the_test_split_is_never_fitted_on():
    head = Remembering(set())
    X, codes = np.arange(20, dtype=np.float32)[:, None], np.arange(20) % 2
    allowed = np.arange(20) < 14
    found, judged = out_of_fold.predict(
        head, X, codes, np.arange(20) % 4 // 2, allowed, n_classes=2, progress=lambda *_: None
    )
    assert judged.all()
    assert (found == 0.5).all()
    assert head.ever == set(range(14))


@pytest.mark.parametrize("least", [0, 2**30])
def test_folds_of_many_rows_are_fitted_one_at_a_time(monkeypatch, least):
    monkeypatch.setattr(out_of_fold, "COPIED_AT_ONCE", least)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    together = threading.Barrier(2)

    class Meeting(Remembering):
        def fit(self, X, y, validation, progress=None):
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(10 if least else 0.2)
                self.ever.add("met")
            return super().fit(X, y, validation)

    head, rows = Meeting(set()), np.arange(12, dtype=np.float32)[:, None]
    out_of_fold.predict(
        head, rows, np.arange(12) % 2, np.arange(12) // 6, np.ones(12, bool), n_classes=2, progress=lambda *_: None
    )
    assert ("met" in head.ever) == bool(least)


@pytest.mark.filterwarnings("ignore:.*have been cancelled")
def test_a_stop_waits_for_no_fold_that_is_still_fitted():
    """Ctrl-C comes while one fold is fitted, which ends only when this test lets it."""
    fitting, let, ended = threading.Event(), threading.Event(), threading.Event()

    class Endless(Remembering):
        def fit(self, X, y, validation, progress=None):
            if 0 in X[:, 0]:  # every fold but the first
                fitting.set()
                let.wait(20)
                ended.set()
            return super().fit(X, y, validation)

    def stop(done, folds):
        fitting.wait(20)
        raise KeyboardInterrupt

    rows, codes = np.arange(12, dtype=np.float32)[:, None], np.arange(12) % 2
    try:
        with pytest.raises(KeyboardInterrupt):
            out_of_fold.predict(
                Endless(set()), rows, codes, np.arange(12) // 4, np.ones(12, bool), n_classes=2, progress=stop
            )
        assert not ended.is_set()
    finally:
        let.set()
