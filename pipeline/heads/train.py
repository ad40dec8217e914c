"""Manifest and features to a fitted head: join labels to rows by digest, search, fit, judge, calibrate, store."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features import spec
from pipeline.features.cache import kept_weights
from pipeline.features.features_file import Features
from pipeline.heads import registry, standardise, store, training_log
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense import DenseHead
from pipeline.heads.head import Head
from pipeline.heads.resolve import Training, resolve
from pipeline.heads.score import Score, learned_nothing, score_of
from pipeline.heads.selection import grid_search, out_of_fold
from pipeline.heads.selection.cross_validation import rare_classes
from pipeline.heads.selection.out_of_fold import HeldOut
from pipeline.heads.settings import PlateauSettings, TrainSettings
from pipeline.heads.split_rows import learned_classes, read_split
from pipeline.photos import manifest
from pipeline.storage.json_files import require_own
from pipeline.types import Codes, Progress, Told
from pipeline.wording import counted

BYTES_A_VALUE: Final = 12  # in memory a value is a float32, and a float64 once it is standardised


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
        None if there are too few validation images to choose by: they are then learned from, too.
    out_of_fold : Score or None
        Then, of heads like this one, each on images that it did not learn from; None if no image could be held out.
    folds : int
        That these images were dealt to.
    epochs : int
        Passes over the rows; 0 for a head without epochs.
    views : int
        Rows of an image that was learned from: so many passes over the images is an epoch.
    warnings : list of str
        What the user should know, one line each.
    searched : grid_search.Outcome or None
        None without a search.
    calibrated : dict or None
        As `calibrate.describe` returns it; None if it was not asked for, or there were too few images.
    threshold : dict or None
        As `thresholds.choose` returns it, for calibrated probabilities; None without a wish.
    streamed : bool
        Whether the rows stayed on disk.
    """

    head: str
    n_parameters: int
    train: Score
    val: Score | None
    out_of_fold: Score | None
    folds: int
    epochs: int
    views: int
    warnings: list[str]
    searched: grid_search.Outcome | None
    calibrated: dict[str, Any] | None
    threshold: dict[str, Any] | None
    streamed: bool

    @property
    def passes(self) -> str:
        """In words, how often the head saw the photos; empty for a head without epochs."""
        if not self.epochs:
            return ""
        epochs, passes = counted(self.epochs, "epoch"), self.epochs * self.views
        return epochs if self.views == 1 else f"{passes:,} passes over the photos in {epochs} of {self.views} views"


def train(
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    settings: TrainSettings,
    *,
    given: Collection[str] = (),
    progress: Progress | None = None,
    told: Told | None = None,
) -> TrainResult:
    """Do what `fit` does, as settings say.

    Parameters
    ----------
    manifest_path, features_path, head_dir, progress, told
        As for `fit`.
    settings : TrainSettings
    given : collection of str
        The settings that somebody gave a value. A search keeps these, and one that would have no effect is refused.

    Raises
    ------
    SettingError
        A setting has no effect beside the others.
    InputError
        A log is not known, or cannot be written here.
    WeightsError
        The weights that the head is to carry are nowhere.
    """
    training, carried = resolve(settings, given), None
    if settings.with_weights:
        from pipeline.features.resolve import found_again

        with Features(features_path) as features:
            described, cache = features.spec, settings.cache
        carried = kept_weights.graph_of(described, features_path, cache)
        carried = carried or found_again(described, features_path, cache)[1]
    with training_log.logged(settings.log, told or (lambda row: None)) as tell:
        summary = fit(manifest_path, features_path, head_dir, training, progress=progress, told=tell)
    kept_weights.carry(head_dir, carried)
    return summary


def fit(
    manifest_path: Path,
    features_path: Path,
    head_dir: Path,
    training: Training,
    *,
    progress: Progress | None = None,
    told: Told | None = None,
) -> TrainResult:
    """Fit a head on the ``train`` rows of a manifest, judge it on ``train`` and ``val``, and store it.

    Fewer than `splits.FEWEST_VAL` validation images are learned from, too, and folds of all choose in their place
    (`out_of_fold`). Every view of an image is a row to fit on; images are judged by view 0. Identical files count once.
    The test split is not read. Rows are taken in digest order, so neither the manifest's order nor a rename changes the
    head.

    Parameters
    ----------
    manifest_path : Path
        Labels and splits.
    features_path : Path
        Rows of any shape; all but the first axis are flattened.
    head_dir : Path
        Where `store.save` writes; its record holds ``classes``, ``spec``, ``views``, ``feature_shape``, ``train`` and
        ``val`` (rows, accuracy, loss; ``val`` may be null), ``calibration`` (or null), and ``out_of_fold`` (the same,
        and ``folds``), ``search`` and ``threshold`` where there are any.
        With a search, `grid_search.write` leaves its table and picture there.
    training : Training
    progress : callable or None
        Called with (done, total): fits of a search, epochs of a head that has them.
    told : callable or None
        Called with each row of the history of the head that is kept, if it has epochs.

    Raises
    ------
    InputError
        A class has no training rows, the head cannot be fitted with these parameters, or a search or a wish lacks
        images that can be held out.
    ArtefactError
        The files are damaged, or the features lack images of the manifest or hold NaN or infinity.
    """
    head, search, wish = training.head, training.search, training.wish
    require_own(head_dir, store.HEAD_FILE)
    images = manifest.read(manifest_path)
    classes = learned_classes(images, manifest_path)
    with Features(features_path) as features:
        parts = images.learned()
        copies = 1 + (search.jobs if search else 0)
        rows = len(parts[0]) * features.count + len(parts[1])
        needed = rows * int(np.prod(features.row_shape)) * BYTES_A_VALUE * copies
        streamed = training.memory is not None and needed > training.memory
        fit, held = (read_split(part, classes, features, streamed=streamed, varied=part is parts[0]) for part in parts)
        few = not len(held.codes)
        warnings = spec.random_base(features.spec)
        if few and isinstance(head, DenseHead) and head.plateau.plateau_patience:
            head = replace(head, plateau=PlateauSettings())
            warnings.append("too few validation images to lower the learning rate by: it stays as it is")
        asked, seed = (search.folds, search.seed) if search else (0, getattr(head, "seed", 0))
        alone = few and streamed and not asked  # each fold would read the rows from the disk again
        folds = [] if alone else out_of_fold.chosen_folds(fit, held, parts[0].digests, folds=asked, seed=seed)
        warnings += rare_classes(fit.codes, classes) if few or len(folds) > 1 else []
        outcome = None
        if search is not None:
            if not folds:
                raise InputError("`search`: expected images held out, received none: add images, or give `folds=5`")
            weights = standardise.class_weights(fit.codes, getattr(head, "class_weight", None))
            head, outcome = grid_search.run(head, fit.rows, fit.row_codes, folds, search, weights, progress)
        if few:
            jobs = search.jobs if search else 1
            head, judged = out_of_fold.judge(head, fit, folds, jobs=jobs, progress=progress)
            head.fit(fit.rows, fit.row_codes, None, progress, told)
        else:
            head.fit(fit.rows, fit.row_codes, (held.images, held.codes), progress, told)
            judged = HeldOut(registry.predict(head, held.images), held.codes)
        warnings += head.warnings_
        probabilities, codes = judged
        score = score_of(probabilities, codes) if len(codes) else None
        warnings += learned_nothing(score, codes, classes, head) if score else []
        calibrated = _calibrated(probabilities, codes, warnings) if training.calibrate else None
        if calibrated:
            probabilities = calibrate.apply(probabilities, calibrated["temperature"])
        threshold = _threshold(probabilities, codes, classes, wish) if wish else None
        warnings += thresholds.unshown(threshold) if threshold else []
        summary = TrainResult(
            head=registry.name_of(head),
            n_parameters=standardise.count_parameters(head.layout(fit.rows.shape[1], len(classes))),
            train=score_of(registry.predict(head, fit.images), fit.codes),
            val=None if few else score,
            out_of_fold=score if few else None,
            folds=len(folds) if few else 0,
            epochs=len(head.history_),
            views=features.count,
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
    for name in (store.SEARCH_FILE, grid_search.PLOT_FILE):
        (head_dir / name).unlink(missing_ok=True)  # of a head that stood here before
    if summary.out_of_fold:
        record["out_of_fold"] = asdict(summary.out_of_fold) | {"folds": summary.folds}
    if summary.threshold:
        record["threshold"] = summary.threshold
    if search and summary.searched:
        grid_search.write(summary.searched, head_dir)
        record["search"] = {
            "candidates": len(summary.searched.trials) + len(summary.searched.losing),
            "folds": summary.folds or search.folds,
            "rows": summary.searched.rows,
            "seed": search.seed,
        }
        if summary.searched.losing:
            record["search"]["not_tried"] = len(summary.searched.losing)
    store.save(head, head_dir, record)


def _calibrated(probabilities: NDArray[np.float64], codes: Codes, warnings: list[str]) -> dict[str, Any] | None:
    """Return what a record keeps of a calibration; None, and one more warning, if there are too few rows."""
    fewest = out_of_fold.FEWEST_CALIBRATED
    if len(codes) < fewest:
        warnings.append(
            f"not calibrated: that takes {fewest} images that are held out, received {len(codes)}: add images, or "
            "train with `calibrate=None`"
        )
        return None
    return calibrate.describe(probabilities, codes, calibrate.fit(probabilities, codes))


def _threshold(
    probabilities: NDArray[np.float64], codes: Codes, classes: list[str], wish: thresholds.Wish
) -> dict[str, Any]:
    if not len(codes):
        raise InputError(
            f"`{wish.metric}_at_least`: expected images held out to choose a threshold on, received none: add images"
        )
    return thresholds.choose(probabilities, codes, classes, wish)
