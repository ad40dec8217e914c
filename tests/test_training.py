"""From manifest and features to a stored head."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline import features, heads, manifest, training
from pipeline.digests import as_keys
from pipeline.errors import ArtefactError, InputError

SPEC = {"size": 8, "weights": {"seed": 1}}
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
        features.write(
            self.features,
            spec=json.dumps(SPEC),
            digests=self.digests[kept],
            row_shape=self.rows.shape[1:],
            dtype=self.dtype,
            blocks=[self.rows[kept].astype(self.dtype)],
        )
        return self

    def train(self, head=None, **changes):
        return training.train(self.manifest, self.features, self.head, head=head or logistic(), **changes)


def project(root, labels=("dog", "cat"), n=40, shape=(2, 3), dtype="float32"):
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
    return heads.HEADS["logistic"](**(params | changes))


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
    return heads.HEADS["dense"](**(params | changes))


def files(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_trains_on_train_and_judges_train_and_val(tmp_path):
    work = project(tmp_path).write()
    summary = work.train()
    assert (summary.head, summary.n_parameters, summary.epochs, summary.warnings) == ("logistic", 7, 0, [])
    assert (summary.train.rows, summary.val.rows) == (48, 16)
    assert summary.train.accuracy == summary.val.accuracy == 1.0


def test_every_view_of_a_training_image_is_a_row_and_images_are_judged_by_view_0(tmp_path):
    work = project(tmp_path).write()
    plain = work.train()
    alone = files(work.head)["arrays.npz"]
    with features.Features(work.features) as read:
        rows, digests = read.gather(read.digests), read.digests

    def write_views(*views):
        features.write(
            work.features,
            spec=json.dumps(SPEC),
            digests=digests,
            row_shape=(len(views), *rows.shape[1:]),
            dtype="float32",
            blocks=[np.stack(views, axis=1)],
            views=json.dumps({"count": len(views), "policy": {"flip": "both"}}),
        )

    write_views(rows, rows + 1)
    summary = work.train()
    assert (summary.train.rows, summary.val.rows, summary.n_parameters) == (48, 16, plain.n_parameters)
    head, record = heads.load(work.head)
    assert record["views"] == {"count": 2, "policy": {"flip": "both"}}
    chosen = [i for i, split in enumerate(work.splits) if split == "train"]
    both = np.concatenate([work.rows[chosen], work.rows[chosen] + 1]).reshape(96, -1)
    np.testing.assert_allclose(head.arrays_["mean_"], both.mean(axis=0), rtol=1e-5)
    assert files(work.head)["arrays.npz"] != alone


def test_scores_are_those_of_the_stored_head(tmp_path):
    work = project(tmp_path).write()
    summary = work.train(logistic(C=1e-4))
    head, _ = heads.load(work.head)
    held = [i for i, split in enumerate(work.splits) if split == "val"]
    probability = head.predict_proba(work.rows[held].reshape(len(held), -1))
    codes = np.array([["cat", "dog"].index(work.labels[i]) for i in held])
    assert summary.val.loss == pytest.approx(-np.log(probability[np.arange(len(held)), codes]).mean(), rel=1e-12)
    assert summary.val.loss > 0.1


def test_the_record_holds_all_that_a_later_stage_needs(tmp_path):
    work = project(tmp_path, labels=("b", "c", "a")).write()
    summary = work.train()
    _, record = heads.load(work.head)
    assert record["classes"] == ["a", "b", "c"]
    assert record["spec"] == SPEC
    assert record["feature_shape"] == [2, 3]
    assert record["n_features"] == 6
    assert record["n_parameters"] == summary.n_parameters == 21
    assert record["params"]["seed"] == 0
    assert record["train"] == {"rows": 72, "accuracy": summary.train.accuracy, "loss": summary.train.loss}
    assert record["val"]["rows"] == 24


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


def test_warnings_of_the_fit_reach_the_summary(tmp_path):
    (warning,) = project(tmp_path).write().train(logistic(max_iter=1, C=1e6)).warnings
    assert "raise max_iter" in warning


def test_without_a_validation_split_there_is_no_validation_score(tmp_path):
    work = project(tmp_path)
    work.splits = ["train"] * len(work.paths)
    assert work.write().train().val is None
    assert heads.load(work.head)[1]["val"] is None


def test_early_stopping_without_a_validation_split_says_the_remedy_and_stores_nothing(tmp_path):
    work = project(tmp_path)
    work.splits = ["train"] * len(work.paths)
    with pytest.raises(InputError, match="--val-fraction above 0, or train with --patience 0"):
        work.write().train(dense())
    assert not work.head.exists()


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
    with pytest.raises(InputError, match=r"manifest\.csv: expected images of each class .* none of emu: .*--stratify"):
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
