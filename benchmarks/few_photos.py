"""Few photos a class, for every head: accuracy, log loss and calibration error on other photos, and a picture.

    python benchmarks/few_photos.py MANIFEST.csv FEATURES.h5 PICTURE.png [--counts 5 10 20 50 --seeds 5 --heads dense]

So many images a class are drawn from train and val, anew for each seed; every head gets the same ones, one in eight of
them for validation, and is trained with the defaults of the command line. The test split judges, before and after the
temperature. First validation images choose however few they are, without a temperature, as they would do without folds;
then as `train` does. Printed are means over the seeds, and the lowest and highest accuracy.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.features.features_file import Features
from pipeline.heads import store, train
from pipeline.heads.calibration import calibrate
from pipeline.heads.registry import HEADS
from pipeline.heads.settings import TrainSettings
from pipeline.photos import manifest, splits
from pipeline.stats import calibration_error


def draw(table: manifest.Manifest, count: int, seed: int) -> manifest.Manifest:
    """Return a manifest of `count` images of each class, one in eight of them, but at least one in all, in val."""
    generator = np.random.default_rng(seed)
    labels = np.array(table.labels)
    chosen = np.concatenate([generator.permutation(np.flatnonzero(labels == one))[:count] for one in table.classes])
    generator.shuffle(chosen)
    held = max(1, len(chosen) // 8)
    return replace(table.take(chosen.tolist()), splits=["val"] * held + ["train"] * (len(chosen) - held))


def measured(name: str, learned: manifest.Manifest, features: Path, X: np.ndarray, y: np.ndarray) -> list[float]:
    """Return the accuracy on test rows, then log loss and calibration error, uncalibrated and calibrated."""
    with tempfile.TemporaryDirectory() as folder:
        manifest.write(learned, Path(folder) / "manifest.csv")
        train.train(Path(folder) / "manifest.csv", features, Path(folder) / "head", TrainSettings(head=name))  # type: ignore[arg-type]
        head, record = store.load(Path(folder) / "head")
    raw = head.predict_proba(X)
    found = [float((raw.argmax(axis=1) == y).mean())]
    for rows in (raw, calibrate.apply(raw, calibrate.of_record(record, Path(folder)))):
        error = calibration_error.calibration_error(y, rows, seed=0, resamples=2)["value"]
        found += [calibrate.log_loss(rows, y), float(error)]
    return found


def main() -> None:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--heads", nargs="+", choices=list(HEADS), default=list(HEADS))
    chosen = parser.parse_args()
    table = manifest.read(chosen.manifest)
    test = table.distinct("test")
    with Features(chosen.features) as features:
        X = features.gather(test.digests).reshape(len(test), -1)
    y = np.array([table.classes.index(label) for label in test.labels])
    print(f"{len(y):,} test images, {len(table.classes)} classes, means of {chosen.seeds} seeds")
    print("accuracy (lowest to highest); log loss, calibration error: uncalibrated -> calibrated")
    found: Any = np.empty((len(chosen.heads), len(chosen.counts), chosen.seeds, 5))
    for fewest in (1, splits.FEWEST_VAL):
        manifest.FEWEST_VAL = fewest  # type: ignore[misc]
        print("folds choose" if fewest > 1 else "validation images choose")
        for row, name in enumerate(chosen.heads):
            for column, count in enumerate(chosen.counts):
                for seed in range(chosen.seeds):
                    learned = draw(table.distinct("train", "val"), count, seed)
                    found[row, column, seed] = measured(name, learned, chosen.features, X, y)
                one, mean = found[row, column], found[row, column].mean(axis=0)
                print(
                    f"{name:10}{count:4} a class  {mean[0]:.4f} ({one[:, 0].min():.4f} to {one[:, 0].max():.4f})  "
                    f"{mean[1]:.4f} -> {mean[3]:.4f}, {mean[2]:.4f} -> {mean[4]:.4f}",
                    flush=True,
                )
    picture(found[..., 0], chosen.heads, chosen.counts, chosen.picture, len(y))


def picture(found: np.ndarray, heads: list[str], counts: list[int], path: Path, n: int) -> None:
    """Draw a curve a head, with its range over the seeds."""
    from matplotlib.figure import Figure

    from pipeline.plots.style import CURVES

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(counts), dtype=float)
    for row, (name, (colour, marker)) in enumerate(zip(heads, CURVES, strict=False)):
        mean, low, high = found[row].mean(axis=1), found[row].min(axis=1), found[row].max(axis=1)
        beside = places + (row - (len(found) - 1) / 2) * 0.07
        axes.errorbar(
            beside, mean, yerr=[mean - low, high - mean], color=colour, marker=marker, capsize=2, lw=1.3, label=name
        )
    axes.set_xticks(places, [str(count) for count in counts])
    axes.set(xlabel="photos a class", ylabel=f"accuracy on {n:,} test images")
    axes.set_title(f"mean of {found.shape[2]} draws; bars: lowest to highest", loc="left", fontsize=10)
    axes.grid(visible=True, color="#DDDDDD")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
