"""Accuracy over growing parts: nested, stratified, never on the test split; and the forecast with its interval."""

import csv
import hashlib
import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.errors import InputError
from pipeline.features import features_file
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.selection import learning_curve
from pipeline.heads.settings import GrowthSettings
from pipeline.photos import manifest
from stages.growth import growth as command
from tests import fakes

CLASSES = ("a", "b", "c")


class Nearest:
    """A head that gives each image the class of the nearest mean, and notes what it was fitted on."""

    def __init__(self):
        self.fits = []

    def fit(self, X, y, validation, progress=None):
        self.fits.append((len(X), set(X[:, 0].tolist())))
        self.means = np.stack([X[y == code].mean(axis=0) for code in range(len(CLASSES))])
        return self

    def predict_proba(self, X):
        return -np.linalg.norm(X[:, None] - self.means, axis=2)


class Project:
    def __init__(self, root, n, noise, val=0.4):
        draw = np.random.default_rng(0)
        self.manifest, self.features, self.out = root / "manifest.csv", root / "features.h5", root / "out"
        digests = sorted(hashlib.sha256(str(number).encode()).digest() for number in range(n))
        labels = [CLASSES[number % 3] for number in range(n)]
        splits = ["test" if number >= 0.9 * n else "val" if number < val * n else "train" for number in range(n)]
        rows = [
            manifest.Row(f"{number}.png", digest, label, split, 8, 8, "PNG")
            for number, (digest, label, split) in enumerate(zip(digests, labels, splits, strict=True))
        ]
        centres = 3 * np.eye(3, 8)
        X = np.stack([centres[CLASSES.index(label)] + noise * draw.normal(size=8) for label in labels])
        self.rows, self.digests, self.splits = X, digests, splits
        self.of = {
            split: {np.float32(x[0]).item() for x, s in zip(X, splits, strict=True) if s == split}
            for split in ("train", "val", "test")
        }
        manifest.write(manifest.from_rows(rows), self.manifest)
        features_file.write(
            self.features,
            spec="{}",
            digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
            row_shape=(8,),
            dtype="float32",
            blocks=[X.astype(np.float32)],
        )

    def write_views(self, of):
        """A second view of each image of a split, or of all: the image itself and a hundred more."""
        digests = np.frombuffer(b"".join(self.digests), np.uint8).reshape(-1, 32)
        both = np.stack([self.rows, self.rows + 100], axis=1).astype(np.float32)
        with_views = [of in (split, "all") for split in self.splits]
        fakes.write_views(
            self.features, digests, both, spec="{}", described={"policy": {}}, of=np.flatnonzero(with_views)
        )

    def grow(self, head=None, **options):
        progress = options.pop("progress", lambda *_: None)
        settings = GrowthSettings(**{"parts": 5, "seeds": 3, **options})
        paths = (self.manifest, self.features, self.out)
        return learning_curve.grow(*paths, settings, head=head or Nearest(), progress=progress)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path, 600, noise=2.0)


def test_the_validation_split_judges_if_it_is_large_enough_and_the_test_split_is_not_read(project):
    head = Nearest()
    summary = project.grow(head)
    assert (summary.folds, summary.judged) == (0, 240)
    assert [size for size, _ in head.fits] == summary.sizes * 3
    assert all(rows <= project.of["train"] for _, rows in head.fits)


def test_the_parts_of_a_seed_are_nested_and_end_with_all(project):
    head = Nearest()
    summary = project.grow(head)
    for start in range(0, 15, 5):
        parts = [rows for _, rows in head.fits[start : start + 5]]
        assert all(small < large for small, large in itertools.pairwise(parts))
        assert parts[-1] == project.of["train"]
    assert head.fits[0][1] != head.fits[5][1]
    assert summary.sizes[-1] == 300


def test_every_part_has_its_share_of_each_class():
    y = np.array([0] * 70 + [1] * 20 + [2] * 10)
    order = learning_curve._ordered(np.arange(100), y, seed=1)
    assert sorted(order.tolist()) == list(range(100))
    assert set(y[order[:3]]) == {0, 1, 2}
    for size in (20, 50, 80):
        assert np.bincount(y[order[:size]]) / size == pytest.approx([0.7, 0.2, 0.1], abs=0.1)


def test_folds_judge_training_and_validation_images_once_each(tmp_path):
    project, head = Project(tmp_path, 90, noise=1.0, val=0.1), Nearest()
    summary = project.grow(head)
    assert (summary.folds, summary.judged) == (5, 81)
    assert len(head.fits) == 5 * 3 * 5
    assert not any(rows & project.of["test"] for _, rows in head.fits)
    assert summary.sizes[-1] in (64, 65)


@pytest.mark.parametrize("of", ["train", "all"])
def test_folds_learn_from_the_views_of_those_that_have_them_and_from_others_as_often(tmp_path, of):
    project, head = Project(tmp_path, 90, noise=1.0, val=0.1), Nearest()
    project.write_views(of)
    project.grow(head)
    assert all(n % 2 == 0 for n, _ in head.fits)
    seen = set.union(*(rows for _, rows in head.fits))
    rows = (project.rows[:, 0] + 100).astype(np.float32).tolist()
    views = {
        split: {row for row, one in zip(rows, project.splits, strict=True) if one == split} for split in project.of
    }
    assert views["train"] <= seen
    assert views["val"] & seen == (views["val"] if of == "all" else set())


def test_accuracy_grows_with_the_images_and_the_intervals_hold_what_was_measured(project):
    summary = project.grow()
    values = [one.value for one in summary.accuracies]
    assert values[-1] > values[0] + 0.05
    for one in (*summary.accuracies, summary.forecast):
        assert 0 <= one.low <= one.value <= one.high <= 1
    assert summary.forecast.value >= values[-1] - 0.02
    assert 0 <= summary.gain < summary.forecast.high


def test_the_forecast_from_half_of_the_images_holds_what_was_measured(project):
    summary = project.grow(parts=8)
    assert summary.check.low <= summary.accuracies[-1].value <= summary.check.high


def test_without_any_error_the_intervals_are_not_points(tmp_path):
    summary = Project(tmp_path, 600, noise=0.01).grow()
    assert summary.forecast.value == 1.0
    assert summary.forecast.low == pytest.approx(240 / (240 + 1.96**2), abs=1e-4)
    assert summary.gain == 0


def test_tables_and_picture_hold_what_was_returned_and_are_the_same_again(project):
    summary = project.grow()
    with (project.out / "growth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["images"]) for row in rows] == summary.sizes
    assert [float(row["accuracy"]) for row in rows] == pytest.approx(
        [one.value for one in summary.accuracies], abs=1e-6
    )
    numbers = json.loads((project.out / "growth.json").read_text())
    assert numbers["forecast"] == pytest.approx(summary.forecast.value, abs=1e-6)
    before = {path.name: path.read_bytes() for path in project.out.iterdir()}
    assert set(before) == {"growth.csv", "growth.json", "growth.png"}
    project.grow()
    assert {path.name: path.read_bytes() for path in project.out.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": 2}, "`parts`: expected a whole number of at least 3, received 2"),
        ({"seeds": 1}, "`seeds`: expected a whole number of at least 2, received 1"),
        ({"folds": 1}, "`folds`: expected 0, or 2 to"),
        ({"folds": 1000}, "`folds`: expected 0, or 2 to"),
    ],
)
def test_options_out_of_range_are_refused(project, options, message):
    with pytest.raises(InputError, match=message):
        project.grow(**options)


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected training images for three sizes or more"):
        Project(tmp_path, 12, noise=1.0, val=0.2).grow(folds=2)
    (tmp_path / "without").mkdir()
    with pytest.raises(InputError, match="`folds=0`: expected a validation split"):
        Project(tmp_path / "without", 90, noise=1.0, val=0.0).grow(folds=0)


def test_the_only_image_of_a_class_is_always_learned_from_never_judged_and_told_once(tmp_path):
    work = Project(tmp_path, 60, noise=0.1)
    table = manifest.read(work.manifest)
    others = [place for place, label in enumerate(table.labels) if label != "c"]
    alone = next(place for place, split in enumerate(table.splits) if split == "val" and place not in others)
    manifest.write(table.take(sorted([*others, alone])), work.manifest)
    head = Nearest()
    summary = work.grow(head)
    assert (summary.folds, summary.judged) == (5, sum(table.splits[place] != "test" for place in others))
    of_alone = {np.float32(work.rows[alone][0]).item()}
    assert all(of_alone <= values for _, values in head.fits)
    assert [line[:40] for line in summary.warnings] == ["classes of 3 images or fewer: c (1); eac"]


def test_the_command_says_what_twice_the_images_would_bring(project):
    words = [str(path) for path in (project.manifest, project.features, project.out)]
    result = CliRunner().invoke(command, [*words, "--parts", "4", "--seeds", "2"])
    assert result.exit_code == 0, result.output
    assert "Twice the 300 images would bring an accuracy of about 0." in result.stdout
    assert "judged by the validation split, 240 images." in result.stdout
    assert result.stdout.endswith(f"-> {project.out}\n")


def test_a_head_may_be_fitted_again_and_again(project):
    head = LogisticHead(C=0.1, l1_ratio=0.0, class_weight=None, max_iter=100, seed=0)
    assert project.grow(head, parts=3, seeds=2).accuracies == project.grow(head, parts=3, seeds=2).accuracies
