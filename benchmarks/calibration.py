"""How well probabilities hold: `python benchmarks/calibration.py [--sets 500] [MANIFEST.csv FEATURES.h5]`.

First how often the interval of the expected calibration error holds the truth, on simulated test splits of two classes:
the share that is right, and how sure the probabilities are of it, are known. Then, given a manifest and features, each
head on the test split before and after its temperature; and the log loss on other images of a temperature from few
images, by what the temperature is held to be beforehand, over random divisions of validation and test images together;
numbers of images that would leave fewer others than themselves are left out.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import probabilities
from pipeline.features.features_file import Features
from pipeline.heads import registry, store, train
from pipeline.heads.calibration import calibrate
from pipeline.heads.calibration.temperature import CENTRE, DEVIATION, fit_temperature
from pipeline.heads.resolve import Training
from pipeline.models import classifier
from pipeline.photos import manifest
from pipeline.stats import calibration_error, intervals

Floats = NDArray[np.float64]

# images, accuracy, temperature that would make the probabilities hold
SETTINGS = [(n, accuracy, t) for accuracy in (0.9, 0.97, 0.99) for t in (1.0, 3.0, 0.5) for n in (200, 400, 1000)]
ROWS = (20, 50, 100, 180)
DRAWS = 40
# Mean and deviation of the normal prior on the temperature's logarithm; the last is next to none.
PRIORS = ((0.0, 0.3), (0.0, 0.5), (CENTRE, DEVIATION), (0.2, 0.5), (0.0, 1.0), (0.0, 100.0))
HEADS = {
    "logistic": {"C": 0.01, "l1_ratio": 0.0, "class_weight": None, "max_iter": 1000, "seed": 0},
    "ridge": {"alpha": 1000.0, "class_weight": None},
    "centroid": {"class_weight": None},
    "knn": {"neighbors": 5, "metric": "cosine", "class_weight": None},
    "dense": {
        "hidden": (256,),
        "activation": "relu",
        "dropout": 0.5,
        "l1": 0.0,
        "l2": 0.0,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "batch_size": 32,
        "epochs": 50,
        "patience": 10,
        "class_weight": None,
        "standardize": "standard",
        "seed": 0,
    },
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?")
    parser.add_argument("features", type=Path, nargs="?")
    parser.add_argument("--sets", type=int, default=500, help="simulated test splits a setting; 0 is none")
    parser.add_argument("--resamples", type=int, default=500, help="of each bootstrap")
    options = parser.parse_args()
    if options.sets:
        simulate(options.sets, options.resamples)
    if options.manifest:
        measure(options.manifest, options.features)


def simulate(sets: int, resamples: int) -> None:
    """Print the mean estimate, and how often the interval held the truth."""
    print(f"{'images':>6}  {'accuracy':8}  temperature  truth   plain   corrected  held   length")
    for n, accuracy, temperature in SETTINGS:
        scale = spread(accuracy)
        population = scale * np.abs(np.random.default_rng(1).normal(size=10**6))
        truth = float(np.abs(sigmoid(population) - sigmoid(population * temperature)).mean())
        found = []
        for number in range(sets):
            rng = np.random.default_rng([2, number])
            margin = scale * np.abs(rng.normal(size=n))
            wrong = (rng.random(n) >= sigmoid(margin)).astype(np.int64)
            sure = sigmoid(margin * temperature)
            probabilities = np.stack([sure, 1 - sure], axis=1)
            one = calibration_error.calibration_error(wrong, probabilities, seed=number, resamples=resamples)
            bins = calibration_error.bins(wrong, probabilities)
            plain = sum(part.images * abs(part.accuracy - part.confidence) for part in bins) / n
            found.append((plain, one["value"], one["low"] <= truth <= one["high"], one["high"] - one["low"]))
        plain, value, held, length = np.mean(found, axis=0)
        print(
            f"{n:6,}  {accuracy:<8}  {temperature:<11}  {truth:.4f}  {plain:.4f}  {value:.4f}     {held:.3f}  "
            f"{length:.4f}",
            flush=True,
        )


def sigmoid(logits: Floats) -> Floats:
    """Return probabilities of log odds."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def spread(accuracy: float) -> float:
    """Return the scale of half-normal log odds whose mean probability is this."""
    sample = np.abs(np.random.default_rng(0).normal(size=10**5))
    return intervals.farthest(0.0, 1e3, lambda scale: bool(sigmoid(scale * sample).mean() <= accuracy))


def measure(manifest_path: Path, features_path: Path) -> None:
    """Print what each head's temperature does on the test split, and what it would from fewer images."""
    table = manifest.read(manifest_path)
    with tempfile.TemporaryDirectory() as folder:
        for name, params in HEADS.items():
            head = registry.HEADS[name](**params)  # type: ignore[arg-type]
            chosen = Training(head=head, calibrate="temperature")
            train.fit(manifest_path, features_path, Path(folder) / name, chosen)
            evaluated(name, Path(folder) / name, table, features_path)
        columns = ", ".join(f"N({centre:g}, {deviation:g})" for centre, deviation in PRIORS)
        print(f"\nlog loss on other images, {DRAWS} draws; no temperature, {columns}")
        for name in HEADS:
            few(name, Path(folder) / name, table, features_path)


def evaluated(name: str, folder: Path, table: manifest.Manifest, features_path: Path) -> None:
    """Print calibration error and log loss on the test split, before and after."""
    test, trained = table.distinct("test"), classifier.load(folder, None)
    y = np.array([trained.classes.index(label) for label in test.labels])
    given = probabilities.predict(trained, test, Path(), features_path, tta=False, progress=lambda done, total: None)
    cells = []
    for rows in (given.uncalibrated, given.calibrated):
        one = calibration_error.calibration_error(y, rows, seed=0, resamples=2000)
        cells.append(f"{one['value']:.4f} [{one['low']:.4f}, {one['high']:.4f}] {calibrate.log_loss(rows, y):.4f}")
    print(f"{name:9} temperature {trained.temperature:.3f}  {'  ->  '.join(cells)}  ({len(y)} images)", flush=True)


def few(name: str, folder: Path, table: manifest.Manifest, features_path: Path) -> None:
    """Print the mean log loss on other images, by how many the temperature is fitted on, and how."""
    head, record = store.load(folder)
    parts = [table.distinct(split) for split in ("val", "test")]
    with Features(features_path) as features:
        given = np.vstack([head.predict_proba(features.gather_views(part.digests)[:, 0]) for part in parts])
    y = np.array([record["classes"].index(label) for part in parts for label in part.labels])
    logits = np.log(np.maximum(given, np.finfo(np.float64).tiny))
    for n in (rows for rows in ROWS if 2 * rows <= len(y)):
        losses = []
        for draw in range(DRAWS):
            order = np.random.default_rng([n, draw]).permutation(len(y))
            own, other = order[:n], order[n:]
            temperatures = [1.0] + [
                fit_temperature(logits[own], y[own], centre=centre, deviation=deviation) for centre, deviation in PRIORS
            ]
            losses.append([calibrate.log_loss(calibrate.apply(given[other], t), y[other]) for t in temperatures])
        print(f"{name:9} {n:4} images: {'  '.join(f'{loss:.4f}' for loss in np.mean(losses, axis=0))}", flush=True)


if __name__ == "__main__":
    main()
