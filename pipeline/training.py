"""Manifest and features to a fitted head: join labels to rows by digest, fit, judge, store."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline import heads, manifest
from pipeline.errors import ArtefactError, InputError
from pipeline.features import Features
from pipeline.heads.rows import Codes, Progress, Rows
from pipeline.manifest import Manifest


@dataclass(frozen=True)
class Score:
    """How a fitted head does on the rows of one split.

    Attributes
    ----------
    rows : int
        Distinct images.
    accuracy : float
        Fraction of rows whose most probable class is their label.
    loss : float
        Mean of -ln(probability of the label), in nats: unweighted, and without the penalties of the fit.
    """

    rows: int
    accuracy: float
    loss: float


@dataclass(frozen=True)
class Summary:
    """What a training run did.

    Attributes
    ----------
    head : str
        The kind, as in `heads.HEADS`.
    n_parameters : int
        How many numbers the fit adjusted.
    train : Score
    val : Score or None
        None without a validation split.
    epochs : int
        Passes over the rows; 0 for a head without epochs.
    warnings : list of str
        What the user should know, one line each.
    """

    head: str
    n_parameters: int
    train: Score
    val: Score | None
    epochs: int
    warnings: list[str]


def train(
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    *,
    head: heads.Head,
    progress: Progress | None = None,
) -> Summary:
    """Fit a head on the ``train`` rows of a manifest, judge it on ``train`` and ``val``, and store it.

    Every view of a training image is a row to fit on; images are judged by view 0. Identical files count once. The test
    split is not read. Rows are taken in digest order, so neither the manifest's
    order nor a rename changes the head.

    Parameters
    ----------
    manifest_path : Path
        Labels and splits.
    features_path : Path
        Rows of any shape; all but the first axis are flattened.
    head_dir : Path
        Where `heads.save` writes; its record holds ``classes``, ``spec``, ``views``, ``feature_shape``, ``train`` and
        ``val`` (rows, accuracy, loss; ``val`` may be null).
    head : Head
        Not fitted.
    progress : callable or None
        Called with (epochs done, epochs at most) by heads that have epochs.

    Raises
    ------
    InputError
        A class has no training rows, or the head cannot be fitted with these parameters.
    ArtefactError
        The files are damaged, or the features lack images of the manifest or hold NaN or infinity.
    """
    images = manifest.read(manifest_path)
    classes = _classes(images, manifest_path)
    with Features(features_path) as features:
        X, y = _rows(images.distinct("train"), classes, features)
        X_val, y_val = _rows(images.distinct("val"), classes, features)
        spec, views, shape = features.spec, features.views, features.row_shape
    held = (X_val[:, 0], y_val) if len(y_val) else None
    head.fit(X.reshape(-1, X.shape[2]), np.repeat(y, X.shape[1]), held, progress)
    name = heads.name_of(head)
    summary = Summary(
        head=name,
        n_parameters=heads.count_parameters(head.layout(X.shape[2], len(classes))),
        train=_judge(head, X[:, 0], y),
        val=_judge(head, *held) if held else None,
        epochs=len(head.history_),
        warnings=head.warnings_,
    )
    record = {
        "classes": classes,
        "spec": spec,
        "views": views,
        "feature_shape": list(shape),
        "train": asdict(summary.train),
        "val": asdict(summary.val) if summary.val else None,
    }
    heads.save(head, head_dir, record)
    return summary


def _classes(images: Manifest, path: Path) -> list[str]:
    """Return the sorted labels, each of which must occur in the training split."""
    classes = images.classes
    trained = set(images.distinct("train").labels)
    if len(classes) < 2:
        raise InputError(f"{path}: expected two classes or more, received {', '.join(classes) or 'none'}")
    absent = [label for label in classes if label not in trained]
    if absent:
        raise InputError(
            f"{path}: expected images of each class in the train split, received none of {', '.join(absent)}: "
            "add images, or run `headstart prepare` with --stratify"
        )
    return classes


def _rows(images: Manifest, classes: list[str], features: Features) -> tuple[Rows, Codes]:
    """Return the images' features (n, views, d) float32, flattened, and the codes (n,) of their labels."""
    X = features.gather_views(images.digests) if len(images) else np.empty((0, 1, 1), np.float32)
    row = heads.first_not_finite(X.reshape(len(X), X.shape[1] * X.shape[2]))
    if row is not None:
        raise ArtefactError(
            f"{features.path}: expected finite features, received NaN or infinity for {images.paths[row]}: "
            "run `headstart extract` again"
        )
    code_of = {label: code for code, label in enumerate(classes)}
    return X, np.array([code_of[label] for label in images.labels], np.int64)


def _judge(head: heads.Head, X: Rows, y: Codes) -> Score:
    probability = head.predict_proba(X)
    of_label = np.maximum(probability[np.arange(len(y)), y], np.finfo(np.float64).tiny)  # ln 0 would be infinite
    return Score(len(y), float(np.mean(probability.argmax(axis=1) == y)), float(0.0 - np.log(of_label).mean()))
