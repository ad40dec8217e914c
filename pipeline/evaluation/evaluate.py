"""Evaluate a head or a model on the test split, which nothing before has looked at: numbers, predictions, pictures.

What `evaluate` leaves in its folder::

    evaluated.json          what was evaluated: sha256 of its ``head.json`` or ``model.json``, and of its head
    all_metrics.json        every overall metric, flat, numbers only
    metrics.json            accuracy, log loss and calibration error of them: for `dvc metrics`
    classes.csv             precision, recall and F1 of each class, with their intervals
    predictions.csv         an image a row: path, digest, label, predicted, correct, confidence and all probabilities
    confusion.csv           an image a row, actual and predicted: for `dvc plots` with the template `confusion`
    reliability.csv         a bin a row: how sure the probabilities are, and how often they are right; before
                            calibration (temperature 1) and after
    learning_curves.csv     an epoch a row, of the head and of fine-tuning, and which is kept
    plots/                  classes.png  confusion_matrix.png  reliability.png, and learning_curves.png and mistakes.png
                            where there are any

The same files, whatever was evaluated: a head, joined to its base or not, by its features; a trained model by the rows
below its tail, which the cache keeps in float32 and of which what is missing is computed.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InputError
from pipeline.evaluation import predictions_file, probabilities, results
from pipeline.evaluation.results import Evaluated, EvaluateResult
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.features import spec
from pipeline.heads.calibration import thresholds
from pipeline.heads.split_rows import require_same_classes
from pipeline.models import classifier
from pipeline.photos import manifest
from pipeline.photos.remote import Root
from pipeline.stats import calibration_error, metrics
from pipeline.storage.json_files import require_own
from pipeline.types import Progress


def evaluate(
    images_root: Root,
    manifest_path: Path,
    features_path: Path,
    trained_dir: Path,
    out_dir: Path,
    settings: EvaluateSettings,
    *,
    progress: Progress = lambda done, total: None,
) -> EvaluateResult:
    """Evaluate a head, at its threshold if it has one, or a model on the test images. Identical files count once.

    Parameters
    ----------
    images_root : Path or Address
        Read to draw the mistakes and, for a model that was trained, where rows are missing.
    manifest_path : Path
        Labels and splits.
    features_path : Path
        Rows for a head, and for a model that is one, joined to its base; of a model that was trained, only which views
        there are, if test-time augmentation asks for them.
    trained_dir : Path
        As `pipeline.heads.store.save` or `pipeline.models.store.save` wrote it.
    out_dir : Path
        Made if it is missing. Files of the names above are replaced, others left.
    settings : EvaluateSettings
        Test-time augmentation is the mean of the probabilities over all views, instead of those of the image itself.
    progress : callable, optional
        Called with (rows done, rows) while a model is run.

    Raises
    ------
    InputError
        The test split is empty, `tta` is asked for without views, or a test image cannot be read.
    SpecError
        Features and head were made under different specs.
    ArtefactError
        Head or model and manifest have different classes, a test image has no row, or a file is damaged.
    """
    require_own(out_dir, predictions_file.ALL_METRICS)
    everything = manifest.read(manifest_path)
    test = everything.distinct("test")
    test = test.take(sorted(range(len(test)), key=test.paths.__getitem__))
    if not len(test):
        raise InputError(
            f"{manifest_path}: expected images in the test split, received none: run `hs.prepare` with a "
            "`test_fraction` above 0, with `stratify=True` if there are few images"
        )
    trained = classifier.load(trained_dir, settings.runtime)
    classes = trained.classes
    require_same_classes(everything.classes, classes, manifest_path, trained_dir)
    given = probabilities.predict(trained, test, images_root, features_path, tta=settings.tta, progress=progress)
    actual = test.codes(classes)
    predicted = thresholds.decide(given.calibrated, classes, trained.threshold)
    seed, resamples = settings.seed, settings.resamples
    measure = partial(metrics.measure, actual, classes=classes, seed=seed, resamples=resamples)
    ece = partial(calibration_error.calibration_error, actual, seed=seed, resamples=resamples)
    measured = measure(given.calibrated, predicted=predicted) | {"ece": ece(given.calibrated)}
    before = {"log_loss": measure(given.uncalibrated)["log_loss"], "ece": ece(given.uncalibrated)}
    warnings = (
        spec.random_base(trained.spec)
        + given.warnings
        + _unseen(images_root)
        + [f"{name}: not defined, {measured[name]['reason']}" for name in _undefined(measured)]
    )
    mistakes = int(np.count_nonzero(predicted != actual))
    summary = EvaluateResult(measured, trained.temperature, before, mistakes, given.forwarded, given.reused, warnings)
    found = Evaluated(test, classes, actual, given.calibrated, given.uncalibrated, predicted)
    subject = predictions_file.Subject(trained.identity, trained.head, trained.started_from)
    predictions_file.write_evaluated(out_dir, subject)
    results.write(out_dir, found, summary, history=trained.history, images_root=images_root)
    return summary


def _unseen(images_root: Root) -> list[str]:
    if not isinstance(images_root, Path) or images_root.is_dir():
        return []
    return [f"{images_root}: expected the folder of the photos, found none: mistakes are drawn without them"]


def _undefined(measured: dict[str, Any]) -> list[str]:
    return [name for name in metrics.OVERALL if measured[name]["value"] is None]
