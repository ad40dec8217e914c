"""Manifest and features to a fitted head: join labels to rows by digest, search, fit, judge, calibrate, store."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features import spec
from pipeline.features.features_file import Features
from pipeline.heads import registry, standardise, store
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.calibration.calibrate import FEWEST_ROWS, apply
from pipeline.heads.registry import Head
from pipeline.heads.resolve import Training, resolve
from pipeline.heads.selection import grid_search
from pipeline.heads.selection.cross_validation import Fold, assign
from pipeline.heads.settings import TrainSettings
from pipeline.heads.split_rows import SplitRows, learned_classes, read_split
from pipeline.heads.standardise import Table
from pipeline.photos import manifest
from pipeline.stats.score_intervals import log_losses
from pipeline.types import Codes, Progress

BYTES_A_VALUE: Final = 12  # in memory a value is a float32, and a float64 once it is standardised


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
        Mean of -ln(probability of the label), in nats: unweighted, without the penalties of the fit, and before
        calibration, which is fitted on some of these rows.
    """

    rows: int
    accuracy: float
    loss: float


@dataclass(frozen=True)
class TrainResult:
    """What a training run did.

    Attributes
    ----------
    head : str
        The kind, as in `registry.HEADS`.
    n_parameters : int
        How many numbers the fit adjusted.
    train : Score
    val : Score or None
        None without a validation split.
    epochs : int
        Passes over the rows; 0 for a head without epochs.
    warnings : list of str
        What the user should know, one line each.
    searched : searching.Outcome or None
        None without a search.
    calibrated : dict or None
        As `calibrate.describe` returns it; None if it was not asked for, or there were too few validation images.
    threshold : dict or None
        As `thresholds.choose` returns it, for calibrated probabilities; None without a wish.
    streamed : bool
        Whether the rows stayed on disk.
    """

    head: str
    n_parameters: int
    train: Score
    val: Score | None
    epochs: int
    warnings: list[str]
    searched: grid_search.Outcome | None
    calibrated: dict[str, Any] | None
    threshold: dict[str, Any] | None
    streamed: bool


def train(
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    settings: TrainSettings,
    *,
    given: Collection[str] = (),
    progress: Progress | None = None,
) -> TrainResult:
    """Do what `fit` does, as settings say.

    Parameters
    ----------
    manifest_path, features_path, head_dir, progress
        As for `fit`.
    settings : TrainSettings
    given : collection of str
        The settings that somebody gave a value. A search keeps these, and one that would have no effect is refused.

    Raises
    ------
    SettingError
        A setting has no effect beside the others.
    """
    return fit(manifest_path, features_path, head_dir, resolve(settings, given), progress=progress)


def fit(
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    training: Training,
    *,
    progress: Progress | None = None,
) -> TrainResult:
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
        ``val`` (rows, accuracy, loss; ``val`` may be null), ``calibration`` (or null), and ``search`` and ``threshold``
        if these were asked for.
        With a search, `searching.write` leaves its table and picture there.
    training : Training
    progress : callable or None
        Called with (done, total): fits of a search, epochs of a head that has them.

    Raises
    ------
    InputError
        A class has no training rows, the head cannot be fitted with these parameters, or a search or a wish lacks
        validation images.
    ArtefactError
        The files are damaged, or the features lack images of the manifest or hold NaN or infinity.
    """
    head, search, wish = training.head, training.search, training.wish
    images = manifest.read(manifest_path)
    classes = learned_classes(images, manifest_path)
    with Features(features_path) as features:
        parts = [images.distinct(split) for split in ("train", "val")]
        copies = 1 + (search.jobs if search else 0)
        needed = sum(map(len, parts)) * int(np.prod(features.row_shape)) * BYTES_A_VALUE * copies
        streamed = training.memory is not None and needed > training.memory
        fit, held = (read_split(part, classes, features, streamed=streamed) for part in parts)
        outcome = None
        if search is not None:
            head, outcome = grid_search.run(
                head,
                fit.rows,
                fit.row_codes,
                _folds(fit, held, parts[0].digests, search),
                search,
                standardise.class_weights(fit.codes, getattr(head, "class_weight", None)),
                progress,
            )
        watched = (held.images, held.codes) if len(held.codes) else None
        head.fit(fit.rows, fit.row_codes, watched, progress)
        warnings = [*spec.random_base(features.spec), *head.warnings_]
        probabilities = registry.predict(head, held.images) if len(held.codes) else np.empty((0, len(classes)))
        calibrated = _calibrated(probabilities, held.codes, warnings) if training.calibrate else None
        if calibrated:
            probabilities = apply(probabilities, calibrated["temperature"])
        threshold = _threshold(probabilities, held.codes, classes, wish) if wish else None
        warnings += thresholds.unshown(threshold) if threshold else []
        summary = TrainResult(
            head=registry.name_of(head),
            n_parameters=standardise.count_parameters(head.layout(fit.rows.shape[1], len(classes))),
            train=_judge(head, fit.images, fit.codes),
            val=_judge(head, *watched) if watched else None,
            epochs=len(head.history_),
            warnings=warnings,
            searched=outcome,
            calibrated=calibrated,
            threshold=threshold,
            streamed=streamed,
        )
        record = {
            "classes": classes,
            "spec": features.spec,
            "views": features.views,
            "feature_shape": list(features.row_shape),
            "train": asdict(summary.train),
            "val": asdict(summary.val) if summary.val else None,
            "calibration": calibrated,
        }
    _store(head, head_dir, record, summary, search)
    return summary


def _store(
    head: Head,
    head_dir: Path,
    record: dict[str, Any],
    summary: TrainResult,
    search: grid_search.Search | None,
) -> None:
    for name in (grid_search.TABLE_FILE, grid_search.PLOT_FILE):
        (head_dir / name).unlink(missing_ok=True)  # of a head that stood here before
    if summary.threshold:
        record["threshold"] = summary.threshold
    if search and summary.searched:
        grid_search.write(summary.searched, head_dir)
        record["search"] = {
            "candidates": len(summary.searched.trials),
            "folds": search.folds,
            "rows": summary.searched.rows,
            "seed": search.seed,
        }
    store.save(head, head_dir, record)


def _folds(fit: SplitRows, held: SplitRows, digests: NDArray[np.uint8], search: grid_search.Search) -> Sequence[Fold]:
    """Return what a search fits on and judges on: both splits, or folds of the training split, never the test split."""
    if not search.folds:
        if not len(held.codes):
            raise InputError(
                "--search: expected validation images to choose on, received none: prepare the manifest with a "
                "--val-fraction above 0, or search with --folds 5"
            )
        return [Fold(np.arange(len(fit.rows)), (held.images, held.codes))]
    folds = assign(digests, fit.codes, folds=search.folds, seed=search.seed)
    of_rows = np.repeat(folds, len(fit.rows) // len(folds))
    found = []
    for fold in range(search.folds):
        judged = np.flatnonzero(folds == fold)
        found.append(Fold(np.flatnonzero(of_rows != fold), (standardise.take(fit.images, judged), fit.codes[judged])))
    return found


def _calibrated(probabilities: NDArray[np.float64], codes: Codes, warnings: list[str]) -> dict[str, Any] | None:
    """Return what a record keeps of a calibration; None, and one more warning, if there are too few rows."""
    if len(codes) < FEWEST_ROWS:
        warnings.append(
            f"not calibrated: that takes {FEWEST_ROWS} validation images, received {len(codes)}: prepare "
            "the manifest with a larger --val-fraction, or train with --calibrate none"
        )
        return None
    return calibrate.describe(probabilities, codes, calibrate.fit(probabilities, codes))


def _threshold(
    probabilities: NDArray[np.float64], codes: Codes, classes: list[str], wish: thresholds.Wish
) -> dict[str, Any]:
    if not len(codes):
        raise InputError(
            f"--{wish.metric}-at-least: expected validation images to choose a threshold on, received none: prepare "
            "the manifest with a --val-fraction above 0"
        )
    return thresholds.choose(probabilities, codes, classes, wish)


def _judge(head: Head, X: Table, y: Codes) -> Score:
    probability = registry.predict(head, X)
    return Score(len(y), float(np.mean(probability.argmax(axis=1) == y)), float(log_losses(y, probability).mean()))
