"""Probabilities of test images: a head's from its features, a trained model's from rows below its tail, or photos."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features import spec
from pipeline.features.features_file import Features
from pipeline.heads.calibration import calibrate
from pipeline.models.classifier import Classifier
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.photos.settings import Policy
from pipeline.storage.digests import as_keys
from pipeline.types import Progress


class Probabilities(NamedTuple):
    """What a classifier gives for n images.

    Attributes
    ----------
    calibrated : ndarray of float64, shape (n, K)
        If the classifier is.
    uncalibrated : ndarray of float64, shape (n, K)
        At a temperature of 1; the same numbers if there is no other.
    forwarded, reused : int
        Views of the images that ran through a base, and that were rows.
    warnings : list of str
    """

    calibrated: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]
    forwarded: int
    reused: int
    warnings: list[str]


def predict(
    classifier: Classifier,
    table: Manifest,
    root: Root,
    features_path: Path,
    *,
    tta: bool,
    progress: Progress,
) -> Probabilities:
    """Return the probabilities of the images of `table`, in its order.

    `features_path` holds the rows for a head; of a model, only which views there are, if `tta` asks for the mean over
    all views of an image, each calibrated. `progress` is called with (rows done, rows) while a network runs.
    """
    if classifier.head:
        with Features(features_path) as features:
            warnings = spec.require_compatible(
                classifier.spec, features.spec, head=classifier.path, features=features_path
            )
            _check_tta(tta, features)
            if tta and not np.isin(as_keys(table.digests), as_keys(features.varied)).all():
                raise InputError.of(
                    "tta", "views of the test images", f"{features_path} with none of some: run `hs.extract(tta=True)`"
                )
            rows = (features.gather_views if tta else features.gather)(table.digests)
        rows = rows.reshape(len(table), features.count if tta else 1, -1)
        views = [rows[:, view] for view in range(rows.shape[1])]
        each = np.stack([classifier.predict_from_features(view, calibrated=False) for view in views])
        calibrated = calibrate.apply(each, classifier.temperature)
        return Probabilities(calibrated.mean(axis=0), each.mean(axis=0), 0, rows.shape[0] * rows.shape[1], warnings)
    from pipeline.models.cached_rows import Views, predict_views  # brings all that extracts rows, which no head needs

    shown = Views()
    if tta:
        with Features(features_path) as features:
            _check_tta(tta, features)
            shown = Views(features.views["count"], Policy(**features.views["policy"]))  # type: ignore[index]
    each, forwarded, warnings = predict_views(classifier, root, table, shown, progress)
    uncalibrated = calibrate.apply(each, 1 / classifier.temperature).mean(axis=1)
    reused = each.shape[0] * each.shape[1] - forwarded
    return Probabilities(each.mean(axis=1), uncalibrated, forwarded, reused, warnings)


def _check_tta(tta: bool, features: Features) -> None:
    if tta and not features.views:
        raise InputError.of("tta", "features of several views", f"{features.path} with one")
