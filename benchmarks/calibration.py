"""How well probabilities hold: `python benchmarks/calibration.py [--sets 500] [MANIFEST.csv FEATURES.h5]`.

First how often the interval of the expected calibration error holds the truth, on simulated test splits of two classes:
the share that is right, and how sure the probabilities are of it, are known. Then, given a manifest and features, each
head on the test split before and after its temperature. Then a temperature from few images: all images are divided at
random into those that a head learns from, those that the temperature is fitted on, and others, whose log loss is
compared with that without a temperature, by what the temperature is held to be beforehand. Last what the
out-of-distribution score calls photos of the classes learned from, and photos of a class that was held back.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import probabilities
from pipeline.features.features_file import Features
from pipeline.heads import registry, train
from pipeline.heads.calibration import calibrate
from pipeline.heads.calibration.temperature import CENTRE, DEVIATION, fit_temperature
from pipeline.heads.resolve import Training
from pipeline.inference import out_of_distribution
from pipeline.models import classifier
from pipeline.photos import manifest
from pipeline.stats import calibration_error, intervals

Floats, Rows, Codes = NDArray[np.float64], NDArray[np.float32], NDArray[np.int64]

# images, accuracy, temperature that would make the probabilities hold
SETTINGS = [(n, accuracy, t) for accuracy in (0.9, 0.97, 0.99) for t in (1.0, 3.0, 0.5) for n in (200, 400, 1000)]
ROWS = (20, 50, 100, 180)
DRAWS = 40
# Mean and deviation of the normal prior on the temperature's logarithm; the last is next to none.
PRIORS: tuple[tuple[float, float], ...] = (
    (0.0, 0.3),
    (0.0, 0.5),
    (CENTRE, DEVIATION),
    (0.2, 0.5),
    (0.0, 1.0),
    (0.0, 100.0),
)
HEADS: dict[str, dict[str, Any]] = {
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
SHARES = (0.06, 0.5)  # of all images are learned from
FEW_HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"logistic {C:g}": ("logistic", HEADS["logistic"] | {"C": C}) for C in (0.001, 0.01, 1.0, 100.0)},
    **{name: (name, HEADS[name]) for name in ("ridge", "centroid", "knn")},
    "dense": ("dense", HEADS["dense"] | {"epochs": 30, "patience": 0}),
}
SEEN = (20, 50, 100, 200, 400, 1200)
SPLITS = ("train", "val", "test")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?")
    parser.add_argument("features", type=Path, nargs="?")
    parser.add_argument("--sets", type=int, default=500, help="simulated test splits a setting; 0 is none")
    parser.add_argument("--resamples", type=int, default=500, help="of each bootstrap")
    parser.add_argument("--fits", type=int, default=2, help="of each head, for a temperature from few images")
    options = parser.parse_args()
    if options.sets:
        simulate(options.sets, options.resamples)
    if options.manifest:
        measure(options.manifest, options.features, options.fits)


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


def measure(manifest_path: Path, features_path: Path, fits: int) -> None:
    """Print what temperatures do, on the test split and from fewer images, and which photos are called strangers."""
    table = manifest.read(manifest_path)
    with tempfile.TemporaryDirectory() as folder:
        for name, params in HEADS.items():
            head = registry.HEADS[name](**params)
            chosen = Training(head=head, calibrate="temperature")
            train.fit(manifest_path, features_path, Path(folder) / name, chosen)
            evaluated(name, Path(folder) / name, table, features_path)
    images = table.distinct(*SPLITS)
    with Features(features_path) as features:
        X = features.gather(images.digests).reshape(len(images), -1).astype(np.float32)
    few(X, np.array([images.classes.index(label) for label in images.labels]), fits)
    strangers(images, features_path)


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


def few(X: Rows, y: Codes, fits: int) -> None:
    """Print by what factor a temperature changes the log loss on other images, by how many it is fitted on, and how."""
    names = ["certain, none" if deviation > 9 else f"N({centre:g}, {deviation:g})" for centre, deviation in PRIORS]
    print(
        f"\nfactor of a temperature on the log loss on other images, {fits} fits of {DRAWS} draws, by the prior on ln T"
    )
    print(f"{'head':14}{'learned from':>13}{'fitted on':>10}{'no T':>9}{''.join(f'{name:>15}' for name in names)}")
    factors = {}
    for name, (kind, params) in FEW_HEADS.items():
        for share in SHARES:
            size = round(share * len(y))
            losses = [one for fit in range(fits) for one in few_losses(kind, params, X, y, size, fit)]
            for n in sorted({n for n, _ in losses}):
                none, *others = np.mean([row for count, row in losses if count == n], axis=0)
                factors[name, size, n] = np.array(others) / none
                cells = "".join(f"{factor:15.3f}" for factor in factors[name, size, n])
                print(f"{name:14}{size:13,}{n:10}{none:9.4f}{cells}", flush=True)
    for n in ROWS:
        shown("geometric mean of", n, [row for (_, _, count), row in factors.items() if count == n])
    shown("geometric mean of", "all", list(factors.values()))
    for name in FEW_HEADS:
        shown("geometric mean of", name, [row for (head, _, _), row in factors.items() if head == name])
    print(f"{'worst':46}{''.join(f'{factor:15.3f}' for factor in np.max(list(factors.values()), axis=0))}")


def shown(what: str, of: object, factors: list[Floats]) -> None:
    """Print the geometric mean of factors, if there are any."""
    if factors:
        means = np.exp(np.mean(np.log(factors), axis=0))
        print(f"{f'{what} {of}':46}{''.join(f'{factor:15.3f}' for factor in means)}")


def few_losses(kind: str, params: dict[str, Any], X: Rows, y: Codes, size: int, fit: int) -> list[tuple[int, Floats]]:
    """Return for each number of images and draw that number and the losses, without a temperature and by prior."""
    order = np.random.default_rng([size, fit]).permutation(len(y))
    own, rest = np.sort(order[:size]), order[size:]
    if len(np.unique(y[own])) < y.max() + 1:
        return []
    given, actual = registry.HEADS[kind](**params).fit(X[own], y[own], None).predict_proba(X[rest]), y[rest]
    logits = np.log(np.maximum(given, np.finfo(np.float64).tiny))
    found = []
    for n in (rows for rows in ROWS if 2 * rows <= len(rest)):
        for draw in range(DRAWS):
            chosen = np.random.default_rng([n, draw]).permutation(len(rest))
            inside, outside = chosen[:n], chosen[n:]
            temperatures = [1.0] + [
                fit_temperature(logits[inside], actual[inside], centre=centre, deviation=deviation)
                for centre, deviation in PRIORS
            ]
            applied = [calibrate.apply(given[outside], temperature) for temperature in temperatures]
            found.append((n, np.array([calibrate.log_loss(rows, actual[outside]) for rows in applied])))
    return found


def strangers(table: manifest.Manifest, features_path: Path) -> None:
    """Print what `predict --familiarity` calls photos of the classes learned from, and those of a class held back."""
    kinds = get_args(out_of_distribution.Kind)
    print(f"\nphotos of classes learned from, and of another one: {', '.join(kinds)}; and the least score of the first")
    with Features(features_path) as features, tempfile.TemporaryDirectory() as folder:
        rows, described = features.gather(table.digests).reshape(len(table), -1), features.spec
        labels, path = np.array(table.labels), Path(folder) / "seen.csv"
        for n in SEEN:
            shares, least = [], []
            for draw in range(DRAWS // 2):
                foreign = table.classes[draw % len(table.classes)]
                own = np.random.default_rng([n, draw]).permutation(np.flatnonzero(labels != foreign))
                if len(own) < n + 50:
                    continue
                manifest.write(replace(table.take(np.sort(own[:n]).tolist()), splits=["train"] * n), path)
                seen = out_of_distribution.TrainingPhotos(features_path, path, described)
                k = seen.rank(None)
                found = [
                    seen.familiarity(seen.nearest(rows[which], k), k)
                    for which in (own[n : n + 400], np.flatnonzero(labels == foreign))
                ]
                shares.append([[np.mean([one.kind == kind for one in some]) for kind in kinds] for some in found])
                least.append(min(one.score for one in found[0]))
            if shares:
                ordinary, strange = np.mean(shares, axis=0)
                told = "; ".join(", ".join(f"{share:.3f}" for share in some) for some in (ordinary, strange))
                print(f"{n:5,} photos learned from: {told}; {min(least):.3f}", flush=True)


if __name__ == "__main__":
    main()
