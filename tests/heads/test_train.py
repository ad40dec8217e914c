"""From manifest and features to a stored head."""

import hashlib
import json
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ArtefactError, InputError
from pipeline.features import features_file
from pipeline.heads import store, train
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.registry import HEADS
from pipeline.heads.resolve import Training
from pipeline.heads.ridge import RidgeHead
from pipeline.heads.selection import cross_validation, grid_search, out_of_fold
from pipeline.photos import manifest
from pipeline.storage.digests import as_keys
from tests import fakes

pytestmark = pytest.mark.usefixtures("undrawn")

SPEC = {"size": 8, "weights": {"sha256": "0"}}
SPLITS = ("train", "train", "train", "val", "test")


@dataclass
class Project:
    """A manifest and its features, without images: the files' contents are their names."""

    root: Path
    paths: list[str]
    labels: list[str]
    splits: list[str]
    rows: np.ndarray
    dtype: str = "float32"

    def __post_init__(self):
        self.manifest, self.features, self.head = (
            self.root / name for name in ("manifest.csv", "features.h5", "heads/one")
        )

    @property
    def digests(self):
        # What comes before ~ is the content: cat/1~copy.png is identical to cat/1.png.
        contents = [path.removesuffix(".png").partition("~")[0] for path in self.paths]
        digests = b"".join(hashlib.sha256(content.encode()).digest() for content in contents)
        return np.frombuffer(digests, np.uint8).reshape(-1, 32)

    def digests_of(self, *splits):
        return manifest.read(self.manifest).distinct(*splits).digests

    def rows_of(self, *splits):
        """Return flat rows and codes of splits, in the order of the digests."""
        found = manifest.read(self.manifest).distinct(*splits)
        rows = np.stack([self.rows[self.paths.index(path)].reshape(-1) for path in found.paths])
        return rows, np.array([found.classes.index(label) for label in found.labels])

    def write(self, order=None, stored=None):
        """Write both files; the manifest's rows in `order`, the features of the images `stored`."""
        order = np.arange(len(self.paths)) if order is None else order
        sides = np.full(len(order), 8, np.int32)
        table = manifest.Manifest(
            paths=[self.paths[i] for i in order],
            digests=self.digests[order],
            labels=[self.labels[i] for i in order],
            splits=[self.splits[i] for i in order],
            widths=sides,
            heights=sides,
            formats=["PNG"] * len(order),
        )
        manifest.write(table, self.manifest)
        stored = np.arange(len(self.paths)) if stored is None else stored
        _, first = np.unique(as_keys(self.digests[stored]), return_index=True)
        kept = np.asarray(stored)[first]
        features_file.write(
            self.features,
            spec=json.dumps(SPEC),
            digests=self.digests[kept],
            row_shape=self.rows.shape[1:],
            dtype=self.dtype,
            blocks=[self.rows[kept].astype(self.dtype)],
        )
        return self

    def train(self, head=None, **changes):
        progress = changes.pop("progress", None)
        chosen = Training(head=head or logistic(), **changes)
        return train.fit(self.manifest, self.features, self.head, chosen, progress=progress)


def project(root, labels=("dog", "cat"), n=125, shape=(2, 3), dtype="float32"):
    """Return `n` images a class around one centre each, every fifth for validation and every fifth for the test."""
    rng = np.random.default_rng(0)
    names = [(label, i) for label in labels for i in range(n)]
    centres = {label: 4 * rng.normal(size=shape) for label in labels}
    return Project(
        root,
        paths=[f"{label}/{i}.png" for label, i in names],
        labels=[label for label, _ in names],
        splits=[SPLITS[i % 5] for _, i in names],
        rows=np.stack([centres[label] + rng.normal(size=shape) for label, _ in names]).astype(np.float32),
        dtype=dtype,
    )


def logistic(**changes):
    params = {"C": 1.0, "l1_ratio": 0.0, "class_weight": None, "max_iter": 1000, "seed": 0}
    return HEADS["logistic"](**(params | changes))


def dense(**changes):
    params = {
        "hidden": (4,),
        "activation": "relu",
        "dropout": 0.0,
        "l1": 0.0,
        "l2": 0.0,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "batch_size": 16,
        "epochs": 3,
        "patience": 2,
        "class_weight": None,
        "standardize": "standard",
        "seed": 0,
    }
    return HEADS["dense"](**(params | changes))


RIDGE = {"alpha": 3.0, "class_weight": "balanced"}


def searched(**changes):
    chosen = {"folds": 0, "trials": 100, "fixed": frozenset(), "jobs": 1, "seed": 0}
    return grid_search.Search(**(chosen | changes))


def files(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_trains_on_train_and_judges_train_and_val(tmp_path):
    work = project(tmp_path).write()
    summary = work.train()
    assert (summary.head, summary.n_parameters, summary.epochs, summary.warnings) == ("logistic", 7, 0, [])
    assert (summary.train.rows, summary.val.rows, summary.out_of_fold, summary.folds) == (150, 50, None, 0)
    assert summary.train.accuracy == summary.val.accuracy == 1.0


def test_every_view_of_a_training_image_is_a_row_and_images_are_judged_by_view_0(tmp_path):
    work = project(tmp_path).write()
    plain = work.train()
    alone = files(work.head)["arrays.npz"]
    with features_file.Features(work.features) as read:
        rows, digests = read.gather(read.digests), read.digests

    def write_views(*views):
        described, learned = {"policy": {"flip": "both"}}, np.isin(as_keys(digests), as_keys(work.digests_of("train")))
        both, told = np.stack(views, axis=1), json.dumps(SPEC)
        fakes.write_views(work.features, digests, both, spec=told, described=described, of=learned)

    write_views(rows, rows + 1)
    summary = work.train()
    assert (summary.train.rows, summary.val.rows, summary.n_parameters) == (150, 50, plain.n_parameters)
    head, record = store.load(work.head)
    assert record["views"] == {"count": 2, "policy": {"flip": "both"}}
    chosen = [i for i, split in enumerate(work.splits) if split == "train"]
    both = np.concatenate([work.rows[chosen], work.rows[chosen] + 1]).reshape(300, -1)
    np.testing.assert_allclose(head.arrays_["mean_"], both.mean(axis=0), rtol=1e-5)
    assert files(work.head)["arrays.npz"] != alone


def test_scores_are_those_of_the_stored_head(tmp_path):
    work = project(tmp_path).write()
    summary = work.train(logistic(C=1e-4))
    head, _ = store.load(work.head)
    held = [i for i, split in enumerate(work.splits) if split == "val"]
    probability = head.predict_proba(work.rows[held].reshape(len(held), -1))
    codes = np.array([["cat", "dog"].index(work.labels[i]) for i in held])
    assert summary.val.loss == pytest.approx(-np.log(probability[np.arange(len(held)), codes]).mean(), rel=1e-12)
    assert summary.val.loss > 0.1


def test_the_record_holds_all_that_a_later_stage_needs(tmp_path):
    work = project(tmp_path, labels=("b", "c", "a")).write()
    summary = work.train()
    _, record = store.load(work.head)
    assert record["classes"] == ["a", "b", "c"]
    assert record["spec"] == SPEC
    assert record["feature_shape"] == [2, 3]
    assert record["n_features"] == 6
    assert record["n_parameters"] == summary.n_parameters == 21
    assert record["params"]["seed"] == 0
    assert record["train"] == {"rows": 225, "accuracy": summary.train.accuracy, "loss": summary.train.loss}
    assert record["val"]["rows"] == 75
    assert "out_of_fold" not in record


@pytest.mark.parametrize("head", [logistic, dense])
def test_neither_order_nor_names_nor_copies_change_a_byte(tmp_path, head):
    work = project(tmp_path).write()
    work.train(head())
    before = files(work.head)
    work.paths.append("dog/0~copy.png")
    work.labels.append("dog")
    work.splits.append("train")
    work.rows = np.concatenate([work.rows, work.rows[:1]])
    work.write(order=np.random.default_rng(1).permutation(len(work.paths)))
    work.train(head())
    assert files(work.head) == before


def test_the_test_split_is_not_looked_at(tmp_path):
    work = project(tmp_path).write()
    work.train()
    before = files(work.head)
    work.rows[[split == "test" for split in work.splits]] = np.nan
    work.write()
    work.train()
    assert files(work.head) == before


def test_float16_features_train_as_well(tmp_path):
    assert project(tmp_path, dtype="float16").write().train().val.accuracy == 1.0


def test_progress_counts_epochs(tmp_path):
    told = []
    summary = (
        project(tmp_path).write().train(dense(patience=0), progress=lambda done, total: told.append((done, total)))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert summary.epochs == 3


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (logistic(C=1e-30), ["is no better than always to say 'dog'", "or `class_weight=balanced`"]),
        (logistic(C=1.0), []),
    ],
)
def test_a_head_that_is_right_no_more_often_than_a_guess_is_a_warning(tmp_path, head, told):
    whole = project(tmp_path)
    whole.write(order=np.arange(len(whole.paths) - 95))  # 125 dogs, 30 cats
    warnings = whole.train(head).warnings
    assert [[part in line for part in told] for line in warnings if "no better" in line] == [[True, True]] * bool(told)


def test_warnings_of_the_fit_reach_the_summary(tmp_path):
    (warning,) = project(tmp_path).write().train(logistic(max_iter=1, C=1e6)).warnings
    assert "raise `max_iter`" in warning


def test_an_image_without_features_says_to_run_extract_again(tmp_path):
    work = project(tmp_path)
    with pytest.raises(ArtefactError, match=r"features\.h5.*extract` again"):
        work.write(stored=range(1, len(work.paths))).train()


@pytest.mark.parametrize("elsewhere", ["val", "test"])
def test_a_class_absent_from_train_is_named_with_the_remedy(tmp_path, elsewhere):
    work = project(tmp_path, labels=("dog", "cat", "emu"))
    work.splits = [
        elsewhere if label == "emu" else split for label, split in zip(work.labels, work.splits, strict=True)
    ]
    with pytest.raises(InputError, match=r"manifest\.csv: expected .* received none of emu: .*`stratify=True`"):
        work.write().train()


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(InputError, match="expected two classes or more, received dog"):
        project(tmp_path, labels=("dog",)).write().train()


@pytest.mark.parametrize(("image", "bad"), [("dog/0.png", np.nan), ("cat/3.png", np.inf)])
def test_features_that_are_not_finite_name_the_file_and_the_image(tmp_path, image, bad):
    work = project(tmp_path)
    work.rows[work.paths.index(image), 0, 0] = bad
    with pytest.raises(ArtefactError, match=rf"features\.h5: .* NaN or infinity for {image}: "):
        work.write().train()


class TestFewPhotos:
    @pytest.mark.parametrize("head", [logistic, dense])
    def test_fifty_validation_images_choose_and_are_not_learned_from(self, tmp_path, head):
        work = project(tmp_path).write()
        work.train(head(), calibrate="temperature")
        (X, y), (held, codes) = (work.rows_of(split) for split in ("train", "val"))
        alone = head().fit(X, y, (held, codes))
        stored, record = store.load(work.head)
        assert [name for name in alone.arrays_ if not np.array_equal(alone.arrays_[name], stored.arrays_[name])] == []
        assert record["calibration"]["temperature"] == calibrate.fit(alone.predict_proba(held), codes)

    def test_fewer_are_learned_from_as_those_of_train(self, tmp_path):
        work = project(tmp_path, n=40).write()
        summary = work.train(calibrate="temperature")
        before = files(work.head)
        assert (summary.train.rows, summary.val, summary.out_of_fold.rows, summary.folds) == (64, None, 64, 10)
        assert summary.warnings == []
        work.splits = ["train" if split == "val" else split for split in work.splits]
        work.write().train(calibrate="temperature")
        assert files(work.head) == before

    def test_temperature_and_threshold_come_from_heads_that_did_not_learn_from_the_image(self, tmp_path):
        work = project(tmp_path, n=40).write()
        wish = thresholds.Wish("recall", 0.9, "cat")
        work.train(logistic(C=1e-4), calibrate="temperature", wish=wish)
        X, y = work.rows_of("train", "val")
        fold = cross_validation.assign(work.digests_of("train", "val"), y, folds=10, seed=0)
        said = np.empty((64, 2))
        for held in (fold == number for number in range(10)):
            said[held] = logistic(C=1e-4).fit(X[~held], y[~held], None).predict_proba(X[held])
        _, record = store.load(work.head)
        temperature = calibrate.fit(said, y)
        assert record["calibration"]["temperature"] == pytest.approx(temperature, rel=1e-3)
        chosen = thresholds.choose(calibrate.apply(said, temperature), y, ["cat", "dog"], wish)
        assert record["threshold"]["value"] == pytest.approx(chosen["value"], abs=1e-3)
        assert record["out_of_fold"]["accuracy"] == (said.argmax(axis=1) == y).mean()

    def test_a_dense_head_is_trained_for_the_epochs_of_the_lowest_mean_loss_over_folds(self, tmp_path, monkeypatch):
        monkeypatch.setattr(out_of_fold, "FOLDS", 2)
        work = project(tmp_path, n=15).write()
        work.rows += 5 * np.random.default_rng(1).normal(size=work.rows.shape).astype(np.float32)
        work.write()
        start = dense(learning_rate=0.3, epochs=8, patience=3, dropout=0.3, hidden=(8,))
        work.train(start)
        X, y = work.rows_of("train", "val")
        fold = cross_validation.assign(work.digests_of("train", "val"), y, folds=2, seed=0)
        unstopped = replace(start, patience=0)
        losses = np.zeros(8)
        for held in (fold == number for number in range(2)):
            history = replace(unstopped).fit(X[~held], y[~held], (X[held], y[held])).history_
            losses += held.mean() * np.array([row["val_loss"] for row in history])
        assert losses.argmin() + 3 < 7, "early stopping has an effect"
        stored, record = store.load(work.head)
        assert (record["params"]["epochs"], record["params"]["patience"]) == (losses.argmin() + 1, 0)
        alone = replace(unstopped, epochs=int(losses.argmin()) + 1).fit(X, y, None)
        assert [name for name in alone.arrays_ if not np.array_equal(alone.arrays_[name], stored.arrays_[name])] == []

    def test_below_twenty_images_a_warning_says_once_that_nothing_is_calibrated(self, tmp_path):
        work = project(tmp_path, n=10).write()
        summary = work.train(calibrate="temperature")
        assert (summary.train.rows, summary.calibrated) == (16, None)
        assert summary.warnings == [
            "not calibrated: that takes 20 images that are held out, received 16: add images, or train with "
            "`calibrate=None`"
        ]

    def test_the_only_image_of_a_class_is_learned_from_never_judged_and_told_once(self, tmp_path):
        work = project(tmp_path, labels=("dog", "cat", "emu"), n=40)
        work.splits = [
            ("val" if path == "emu/3.png" else "test") if label == "emu" else split
            for path, label, split in zip(work.paths, work.labels, work.splits, strict=True)
        ]
        summary = work.write().train(calibrate="temperature", search=searched(), head=HEADS["ridge"](**RIDGE))
        assert (summary.train.rows, summary.out_of_fold.rows, summary.searched.rows) == (65, 64, 64)
        assert store.load(work.head)[1]["classes"] == ["cat", "dog", "emu"]
        assert [line[:42] for line in summary.warnings] == ["classes of 3 images or fewer: emu (1); eac"]

    def test_rows_that_stay_on_disk_are_not_folded(self, tmp_path):
        summary = project(tmp_path, n=40).write().train(memory=1000, calibrate="temperature")
        assert (summary.streamed, summary.train.rows, summary.out_of_fold, summary.folds) == (True, 64, None, 0)

    def test_one_image_of_each_class_trains_a_head_that_nothing_is_known_of(self, tmp_path):
        work = project(tmp_path, n=40)
        work.splits = ["train" if path.endswith("/0.png") else "test" for path in work.paths]
        summary = work.write().train(dense(epochs=2))
        assert (summary.train.rows, summary.out_of_fold, summary.folds, summary.epochs) == (2, None, 0, 2)
        with pytest.raises(InputError, match="`search`: expected images held out, received none"):
            work.train(HEADS["ridge"](**RIDGE), search=searched())
        with pytest.raises(InputError, match="`recall_at_least`: expected images held out to choose a threshold on"):
            work.train(wish=thresholds.Wish("recall", 0.9, None))


class TestSearch:
    def test_chooses_on_the_validation_split_and_keeps_table_picture_and_record(self, tmp_path):
        work = project(tmp_path).write()
        summary = work.train(HEADS["ridge"](**RIDGE), search=searched())
        head, record = store.load(work.head)
        assert summary.searched.rows == 50
        assert record["search"] == {"candidates": 22, "folds": 0, "rows": 50, "seed": 0}
        assert (
            head.alpha == record["params"]["alpha"] == summary.searched.trials[summary.searched.chosen].params["alpha"]
        )
        assert head.class_weight == "balanced"
        assert {"search.csv", "search.png"} < set(files(work.head))

    def test_a_head_over_a_searched_one_leaves_nothing_of_the_search(self, tmp_path):
        work = project(tmp_path).write()
        work.train(HEADS["ridge"](**RIDGE), search=searched())
        work.train()
        assert set(files(work.head)) == {"head.json", "arrays.npz"}

    @pytest.mark.parametrize("folds", [0, 4])
    def test_never_looks_at_the_test_split(self, tmp_path, folds):
        work = project(tmp_path).write()
        work.train(HEADS["ridge"](**RIDGE), search=searched(folds=folds))
        before = files(work.head)
        work.rows[[split == "test" for split in work.splits]] = np.nan
        work.write().train(HEADS["ridge"](**RIDGE), search=searched(folds=folds))
        assert files(work.head) == before

    def test_folds_leave_the_validation_split_alone_and_keep_copies_and_views_together(self, tmp_path):
        work = project(tmp_path)
        work.paths.append("dog/0~copy.png")
        work.labels.append("dog")
        work.splits.append("train")
        work.rows = np.concatenate([work.rows, work.rows[:1]])
        seen = []

        class Spy(RidgeHead):
            def fit_grid(self, X, y, parts, candidates, **more):
                seen.extend(parts)
                return super().fit_grid(X, y, parts, candidates, **more)

        head = Spy(**RIDGE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(HEADS, "spy", Spy)
            summary = work.write().train(head, search=searched(folds=4))
        assert summary.searched.rows == 150
        assert [len(part.rows) for part in seen] == [112, 112, 113, 113]
        assert [len(np.unique(part.held[0], axis=0)) for part in seen] == [38, 38, 37, 37]


class TestThreshold:
    def test_is_chosen_on_validation_and_kept(self, tmp_path):
        work = project(tmp_path).write()
        summary = work.train(wish=thresholds.Wish("recall", 0.9, "cat"))
        _, record = store.load(work.head)
        assert record["threshold"] == summary.threshold
        assert summary.threshold["positive"] == "cat"
        assert summary.threshold["recall"] >= 0.9


class TestCalibration:
    def test_is_fitted_on_the_validation_split_and_kept(self, tmp_path):
        work = project(tmp_path, n=150).write()
        summary = work.train(logistic(C=1e-4), calibrate="temperature")
        head, record = store.load(work.head)
        assert record["calibration"] == summary.calibrated
        held = [place for place, split in enumerate(work.splits) if split == "val"]
        y = np.array([int(work.labels[place] == "dog") for place in held])
        raw = head.predict_proba(work.rows[held].reshape(len(held), -1))
        assert summary.calibrated["temperature"] == pytest.approx(calibrate.fit(raw, y), rel=1e-4)
        assert summary.calibrated["rows"] == len(held) == 60
        assert summary.calibrated["before"]["log_loss"] == pytest.approx(summary.val.loss)
        assert summary.calibrated["after"]["log_loss"] < summary.calibrated["before"]["log_loss"]

    def test_changes_neither_head_nor_labels(self, tmp_path):
        work = project(tmp_path, n=150).write()
        plain, arrays = work.train(), files(work.head)["arrays.npz"]
        summary = work.train(calibrate="temperature")
        assert files(work.head)["arrays.npz"] == arrays
        assert (summary.train, summary.val) == (plain.train, plain.val)

    def test_comes_before_the_threshold(self, tmp_path):
        work = project(tmp_path, n=150).write()
        wish = thresholds.Wish("recall", 0.9, "cat")
        summary = work.train(logistic(C=1e-4), wish=wish, calibrate="temperature")
        held = [place for place, split in enumerate(work.splits) if split == "val"]
        y = np.array([int(work.labels[place] == "dog") for place in held])
        raw = store.load(work.head)[0].predict_proba(work.rows[held].reshape(len(held), -1))
        calibrated = calibrate.apply(raw, summary.calibrated["temperature"])
        assert summary.calibrated["temperature"] < 0.9
        assert summary.threshold["value"] == pytest.approx(
            thresholds.choose(calibrated, y, ["cat", "dog"], wish)["value"], abs=1e-6
        )


class TestLargerThanMemory:
    def trained(self, work, head, memory, **changes):
        summary = work.train(head, memory=memory, **changes)
        assert summary.streamed == (memory == 1000)
        stored, _ = store.load(work.head)
        return summary, stored.predict_proba(work.rows.reshape(len(work.rows), -1))

    @pytest.mark.parametrize("views", [1, 3])
    @pytest.mark.parametrize(
        ("name", "params"),
        [
            ("logistic", {"C": 1.0, "l1_ratio": 0.0, "class_weight": "balanced", "max_iter": 1000, "seed": 0}),
            ("logistic", {"C": 0.1, "l1_ratio": 0.5, "class_weight": None, "max_iter": 1000, "seed": 0}),
            ("ridge", RIDGE),
            ("centroid", {"class_weight": None}),
        ],
    )
    def test_gives_the_same_head(self, tmp_path, name, params, views, monkeypatch):
        monkeypatch.setattr("pipeline.heads.standardise.BLOCK_ROWS", 7)
        work = project(tmp_path, labels=("dog", "cat", "emu")).write()
        if views > 1:
            work.rows = work.rows[:, 0]
            with_views(work, views)
        (one, expected), (other, received) = (
            self.trained(work, HEADS[name](**params), memory) for memory in (10**9, 1000)
        )
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5)
        assert other.val.loss == pytest.approx(one.val.loss, abs=1e-5)

    @pytest.mark.parametrize("sampled", [1, 40, 100])
    @pytest.mark.parametrize("labels", [("dog", "cat"), ("dog", "cat", "emu")])
    def test_gives_the_same_head_from_a_sample_s_optimum_and_curvature(self, tmp_path, labels, sampled, monkeypatch):
        monkeypatch.setattr("pipeline.heads.solvers.logistic_objective.SAMPLED_VALUES", sampled * 6)
        work = project(tmp_path, labels=labels).write()
        for head in (logistic(), logistic(C=100.0), logistic(class_weight="balanced"), logistic(l1_ratio=0.5)):
            (_, expected), (_, received) = (self.trained(work, head, memory) for memory in (10**9, 1000))
            np.testing.assert_allclose(received, expected, rtol=0, atol=1e-5)

    def test_gives_the_same_dense_head_whatever_is_shuffled_at_a_time(self, tmp_path, monkeypatch):
        monkeypatch.setattr("pipeline.heads.solvers.dense_training.SHUFFLED_VALUES", 24 * 6)
        monkeypatch.setattr("pipeline.heads.solvers.dense_training.RUN_ROWS", 8)
        work = project(tmp_path).write()
        (_, expected), (_, received) = (self.trained(work, dense(patience=0), memory) for memory in (10**9, 1000))
        np.testing.assert_array_equal(received, expected)

    def test_searches_the_same(self, tmp_path):
        work = project(tmp_path).write()
        one, other = (
            self.trained(work, HEADS["ridge"](**RIDGE), memory, search=searched(folds=3))[0].searched
            for memory in (10**9, 1000)
        )
        assert one.chosen == other.chosen
        np.testing.assert_allclose([t.loss for t in one.trials], [t.loss for t in other.trials], rtol=1e-6)

    def test_searches_without_ever_holding_the_rows(self, tmp_path, monkeypatch):
        sizes = {"solvers.logistic_objective.PIECE": 2**16, "solvers.logistic_objective.SAMPLED_VALUES": 2**15}
        sizes |= {"logistic.SPECTRUM_VALUES": 2**15, "standardise.BLOCK_ROWS": 256, "logistic.SEARCHED_C": (1e-4, 1e-3)}
        for name, size in sizes.items():
            monkeypatch.setattr(f"pipeline.heads.{name}", size)
        monkeypatch.setattr("pipeline.features.lazy_rows.READ_BYTES", 2**18)
        monkeypatch.setattr("os.cpu_count", lambda: 2)  # each thread of the solver holds a block
        run, peaks = grid_search.run, {}

        def traced(*args):
            tracemalloc.start()
            found = run(*args)
            peaks[memory] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return found

        monkeypatch.setattr(grid_search, "run", traced)
        work = project(tmp_path, n=2500, shape=(2, 128)).write()
        for memory in (10**9, 1000):
            work.train(logistic(), memory=memory, search=searched(fixed=frozenset({"l1_ratio"})))
        assert peaks[1000] < work.rows.nbytes / 2 < peaks[10**9]

    def test_is_refused_by_the_head_that_keeps_every_row(self, tmp_path):
        knn = HEADS["knn"](neighbors=3, metric="cosine", class_weight=None)
        with pytest.raises(InputError, match="knn: expected rows that fit in memory"):
            project(tmp_path).write().train(knn, memory=1000)

    def test_features_that_are_not_finite_name_the_file_and_the_image(self, tmp_path):
        work = project(tmp_path)
        work.rows[work.paths.index("cat/3.png"), 0, 0] = np.inf
        with pytest.raises(ArtefactError, match=r"features\.h5: .* NaN or infinity for cat/3\.png: "):
            work.write().train(memory=1000)


def with_views(work, count):
    """Write the features again, with copies of each image that are a little beside it."""
    with features_file.Features(work.features) as read:
        digests, rows = read.digests, read.gather(read.digests)[:, 0]
    apart = 0.1 * np.random.default_rng(1).normal(size=(len(rows), count, rows.shape[1])).astype(np.float32)
    apart[:, 0] = 0
    learned = np.isin(as_keys(digests), as_keys(work.digests_of("train")))
    told = json.dumps(SPEC)
    fakes.write_views(work.features, digests, rows[:, None] + apart, spec=told, described={}, of=learned)
