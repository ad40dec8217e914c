"""Would more photos help? Accuracy over growing parts of the training split, and what twice as many would bring.

Each seed puts the training images in an order in which every beginning has its share of each class; a part is a
beginning, so the parts of a seed are nested. A head is fitted on each part and judged on the validation split, or, if
that is small, by stratified k-fold over training and validation images. The test split is not read.

What `grow` leaves in its folder: ``growth.csv`` (a part a row), ``growth.json`` (the forecast) and ``growth.png``.

Uncertainty has two sources, the images that judge and the images that were drawn to train on. The interval at a size is
Wilson's with the effective number of images that gives the variance of both (after Korn and Graubard, see `metrics`).
The forecast resamples images and seeds together and fits each resample; since a resample knows nothing of errors that
did not occur, its interval is widened to cover Wilson's. It does not cover that the curve may not go on as a power law:
the same forecast, made from parts of up to half the images, is compared with what was measured at all of them. The gain
has no interval: resamples of the same few seeds do not tell how much the end of a curve wanders. It is the power law's,
and no curve is one: in simulation it was from a third of the true gain to twice that (`benchmarks/coverage.py`).
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features.features_file import Features
from pipeline.heads.head import Head
from pipeline.heads.resolve import unfitted
from pipeline.heads.selection.cross_validation import rare_classes, stratified
from pipeline.heads.settings import GrowthSettings, TrainSettings
from pipeline.heads.split_rows import views_of
from pipeline.photos import manifest
from pipeline.photos.manifest import Manifest
from pipeline.plots import training_curves
from pipeline.setting import check
from pipeline.stats import power_law
from pipeline.stats.intervals import wilson
from pipeline.storage.atomic import publish_csv
from pipeline.storage.json_files import publish, require_own
from pipeline.types import Codes, Floats, Progress

ENOUGH: Final = 200  # validation images from which they judge alone
FOLDS: Final = 5  # otherwise
SMALLEST: Final = 64  # the smallest part is this part of all, if that leaves two images a class
RESAMPLES: Final = 1000
TABLE, FORECAST, PICTURE = "growth.csv", "growth.json", "growth.png"


@dataclass(frozen=True)
class Estimate:
    """An accuracy with its 95 % interval; fractions."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GrowthResult:
    """What was measured, and what is to be expected.

    Attributes
    ----------
    sizes : list of int
        Training images, ascending; the last is all of them.
    accuracies : list of Estimate
        At each size.
    judged : int
        Images that each accuracy is of.
    folds : int
        0 if the validation split judged.
    forecast : Estimate
        Accuracy with twice as many images as the last size.
    gain : float
        That, less the fitted accuracy at the last size.
    check : Estimate or None
        The forecast of the last size from sizes of at most half of it; None if these are fewer than three.
    warnings : list of str
        What the user should know, one line each.
    """

    sizes: list[int]
    accuracies: list[Estimate]
    judged: int
    folds: int
    forecast: Estimate
    gain: float
    check: Estimate | None
    warnings: list[str]


def grow(
    manifest_path: Path,
    features_path: Path,
    out_dir: Path,
    settings: GrowthSettings,
    *,
    progress: Progress,
    head: Head | None = None,
) -> GrowthResult:
    """Measure accuracy over growing parts of the training images, forecast, and write both.

    Parameters
    ----------
    manifest_path, features_path : Path
        Labels and splits, and rows, which are read as `views_of` says.
    out_dir : Path
        Made if it is missing.
    settings : GrowthSettings
        Folds are over training and validation images.
    progress : callable
        Called with (fits done, fits in all).
    head : Head, optional
        Fitted anew on each part; by default the logistic one of the settings.

    Raises
    ------
    InputError
        A setting is out of its range, or there are too few images.
    ArtefactError
        The features lack images of the manifest, or a file is damaged.
    """
    check(settings)
    require_own(out_dir, FORECAST)
    head = head or unfitted(TrainSettings(C=settings.C))
    images = manifest.read(manifest_path)
    train, val = images.distinct("train"), images.distinct("val")
    most = max(Counter(train.labels + val.labels).values(), default=FOLDS)
    folds = settings.folds if settings.folds is not None else 0 if len(val) >= ENOUGH else min(FOLDS, most)
    with Features(features_path) as features:
        X = views_of(features, train.digests, val.digests)
    y = _codes(train, val, images.classes, manifest_path, folds=folds)
    trials = _trials(y, len(train), seeds=settings.seeds, folds=folds)
    sizes = _sizes(min(len(order) for trial in trials for order, _ in trial), len(images.classes), settings.parts)
    wrong = _wrong(head, X, y, trials, sizes, progress)
    summary = _summarise(sizes, wrong, folds, rare_classes(y, images.classes) if folds else [])
    _write(summary, wrong, out_dir)
    return summary


Trial = list[tuple[NDArray[np.intp], NDArray[np.intp]]]


def _codes(train: Manifest, val: Manifest, classes: list[str], path: Path, *, folds: int) -> Codes:
    learned = {*train.labels, *(val.labels if folds else [])}
    missing = sorted(set(classes) - learned)
    if missing or len(classes) < 2:
        raise InputError(
            f"{path}: expected two classes or more, each with training images, received {len(classes)} classes, "
            f"{len(missing)} of them without"
        )
    return np.concatenate([train.codes(classes), val.codes(classes)])


def _trials(y: Codes, n_train: int, *, seeds: int, folds: int) -> list[Trial]:
    """Return for each seed the rows to train on, in order, and those that judge: once, or once a fold."""
    most = int(np.bincount(y).max())
    if folds == 0 and len(y) == n_train:
        raise InputError("`folds=0`: expected a validation split to judge on, received none: give `folds=5`")
    if most < 2:
        raise InputError("expected a class of two images or more, to learn from and to judge, received one of each")
    if folds and not 2 <= folds <= most:
        raise InputError(f"`folds`: expected 0, or 2 to {most}, the images of the largest class, received {folds}")
    trials = []
    for seed in range(seeds):
        if folds:
            split = stratified(y, folds=folds, seed=seed)
        else:
            split = iter([(np.arange(n_train), np.arange(n_train, len(y)))])
        trials.append([(_ordered(rows, y, seed), held) for rows, held in split])
    return trials


def _ordered(rows: NDArray[np.intp], y: Codes, seed: int) -> NDArray[np.intp]:
    """Return the rows in a random order of which each beginning holds each class's share, first one of each."""
    draw = np.random.default_rng(seed)
    rows = draw.permutation(rows)
    places = np.empty(len(rows))
    for code in np.unique(y[rows]):
        members = np.flatnonzero(y[rows] == code)
        places[members] = (np.arange(len(members)) + draw.random()) / len(members)
        places[members[0]] = -1
    return np.asarray(rows[np.argsort(places, kind="stable")])


def _sizes(most: int, classes: int, parts: int) -> NDArray[np.int64]:
    fewest = max(2 * classes, most // SMALLEST)
    sizes = np.unique(np.round(np.geomspace(min(fewest, most), most, parts)).astype(np.int64))
    if len(sizes) < 3:
        raise InputError(f"expected training images for three sizes or more, received {most} of {classes} classes")
    return sizes


def _wrong(
    head: Head,
    X: NDArray[np.float32],
    y: Codes,
    trials: list[Trial],
    sizes: NDArray[np.int64],
    progress: Progress,
) -> Floats:
    """Return, for each size and seed, 1 where an image was taken for another class: shape (sizes, seeds, judged)."""
    judged = np.sort(np.concatenate([held for _, held in trials[0]]))
    wrong = np.zeros((len(sizes), len(trials), len(judged)))
    total, done = len(sizes) * len(trials) * len(trials[0]), 0
    for number, trial in enumerate(trials):
        for order, held in trial:
            for place, size in enumerate(sizes):
                rows = np.sort(order[:size])
                head.fit(X[rows].reshape(-1, X.shape[2]), np.repeat(y[rows], X.shape[1]), None)
                predicted = head.predict_proba(X[held, 0]).argmax(axis=1)
                wrong[place, number, np.searchsorted(judged, held)] = predicted != y[held]
                done += 1
                progress(done, total)
    return wrong


def _summarise(sizes: NDArray[np.int64], wrong: Floats, folds: int, warnings: list[str]) -> GrowthResult:
    resampled = _resampled(wrong)
    last, half = int(sizes[-1]), sizes <= sizes[-1] / 2
    errors = wrong.mean(axis=(1, 2))[None]
    weights = _weights(errors[0], wrong.shape[2])
    laws, many = power_law.fit(sizes, errors, weights), power_law.fit(sizes, resampled, weights)
    check = None
    if half.sum() >= 3:
        early = power_law.fit(sizes[half], errors[:, half], weights[half])
        early_many = power_law.fit(sizes[half], resampled[:, half], weights[half])
        check = _forecast(1 - early.at(last), 1 - early_many.at(last), wrong.shape[2])
    return GrowthResult(
        sizes=sizes.tolist(),
        accuracies=[_measured(one) for one in wrong],
        judged=wrong.shape[2],
        folds=folds,
        forecast=_forecast(1 - laws.at(2 * last), 1 - many.at(2 * last), wrong.shape[2]),
        gain=float((laws.at(last) - laws.at(2 * last))[0]),
        check=check,
        warnings=warnings,
    )


def _resampled(wrong: Floats) -> Floats:
    """Return the mean errors (resamples, sizes) of images and seeds drawn with replacement, the same at every size."""
    draw = np.random.default_rng(0)
    _, seeds, judged = wrong.shape
    of_images = draw.multinomial(judged, np.full(judged, 1 / judged), RESAMPLES) / judged
    of_seeds = draw.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    return np.stack([((of_images @ one.T) * of_seeds).sum(axis=1) for one in wrong], axis=1)


def _weights(errors: Floats, judged: int) -> Floats:
    """Return one over the variance of each error; half an error more on either side keeps that from being zero."""
    smoothed = (errors * judged + 0.5) / (judged + 1)
    return np.asarray(judged / (smoothed * (1 - smoothed)))


def _measured(wrong: Floats) -> Estimate:
    """Return the mean accuracy of one size, from errors of shape (seeds, judged)."""
    seeds, judged = wrong.shape
    accuracy = float(1 - wrong.mean())
    variance = wrong.mean(axis=0).var() / judged + wrong.mean(axis=1).var(ddof=1) / seeds
    effective = min(judged, accuracy * (1 - accuracy) / variance) if variance > 0 else judged
    return Estimate(accuracy, *wilson(accuracy, float(effective)))


def _forecast(value: Floats, resampled: Floats, judged: int) -> Estimate:
    low, high = np.quantile(resampled, (0.025, 0.975))
    least, most = wilson(float(value[0]), judged)
    return Estimate(float(value[0]), float(min(low, least)), float(max(high, most)))


def _write(summary: GrowthResult, wrong: Floats, out_dir: Path) -> None:
    spreads = wrong.mean(axis=2).std(axis=1, ddof=1)
    publish_csv(
        out_dir / TABLE,
        ["images", "accuracy", "low", "high", "deviation_over_seeds"],
        [
            [size, *(f"{number:.6f}" for number in (one.value, one.low, one.high, spread))]
            for size, one, spread in zip(summary.sizes, summary.accuracies, spreads, strict=True)
        ],
    )
    numbers: dict[str, float] = {"images": summary.sizes[-1], "judged": summary.judged, "folds": summary.folds}
    numbers["gain"] = summary.gain
    named = {"accuracy": summary.accuracies[-1], "forecast": summary.forecast}
    if summary.check:
        named["check"] = summary.check
    for name, one in named.items():
        parts = asdict(one)
        numbers |= {name: parts["value"], f"{name}_low": parts["low"], f"{name}_high": parts["high"]}
    publish(out_dir / FORECAST, {name: round(number, 6) for name, number in numbers.items()})
    points = [(size, one.value, one.low, one.high) for size, one in zip(summary.sizes, summary.accuracies, strict=True)]
    ahead = (2 * summary.sizes[-1], summary.forecast.value, summary.forecast.low, summary.forecast.high)
    training_curves.growth(points, ahead, _curve(summary, wrong), out_dir / PICTURE)


def _curve(summary: GrowthResult, wrong: Floats) -> list[tuple[float, float]]:
    sizes = np.array(summary.sizes)
    errors = wrong.mean(axis=(1, 2))[None]
    law = power_law.fit(sizes, errors, _weights(errors[0], summary.judged))
    return [(float(size), float(1 - law.at(size)[0])) for size in np.geomspace(sizes[0], 2 * sizes[-1], 100)]
