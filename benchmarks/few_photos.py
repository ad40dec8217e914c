"""Accuracy with few photos a class, for every head: a table and a picture.

    python benchmarks/few_photos.py MANIFEST.csv FEATURES.h5 PICTURE.png [--counts 5 10 20 50 --seeds 5]

The training images of the manifest are drawn from, so many a class, anew for each seed; every head gets the same ones,
with the defaults of the command line, and is judged on the test split. The dense head has no validation images here: it
runs for --epochs. Printed are the mean accuracy over the seeds, and the lowest and highest.
"""

import argparse
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipeline.features.features_file import Features
from pipeline.heads import registry
from pipeline.heads.registry import HEADS
from pipeline.photos import manifest
from stages.train import train


def defaults(name: str) -> dict[str, Any]:
    """Return the parameters of a head as the command line has them."""
    options = {option.name: option for option in train.params}
    context = click.Context(train)
    return {
        parameter: options[parameter].process_value(context, options[parameter].get_default(context))
        for parameter in registry.parameters_of(name)
    }


def draw(codes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the places of `count` images of each class."""
    generator = np.random.default_rng(seed)
    chosen = [generator.permutation(np.flatnonzero(codes == code))[:count] for code in np.unique(codes)]
    return np.sort(np.concatenate(chosen))


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("features", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30, help="of the dense head")
    chosen = parser.parse_args()
    table = manifest.read(chosen.manifest)
    parts = [table.distinct("train"), table.distinct("test")]
    with Features(chosen.features) as features:
        X, X_test = (features.gather_views(part.digests)[:, 0] for part in parts)
    y, y_test = (np.array([table.classes.index(label) for label in part.labels]) for part in parts)
    print(f"{len(y_test):,} test images, {len(table.classes)} classes, {chosen.seeds} seeds: mean (lowest to highest)")
    print(f"{'':10}" + "".join(f"{count:>24} a class" for count in chosen.counts))
    found = np.empty((len(HEADS), len(chosen.counts), chosen.seeds))
    for row, name in enumerate(HEADS):
        params = defaults(name) | ({"epochs": chosen.epochs, "patience": 0} if name == "dense" else {})
        for column, count in enumerate(chosen.counts):
            for seed in range(chosen.seeds):
                places = draw(y, count, seed)
                head = HEADS[name](**params).fit(X[places], y[places], None)
                found[row, column, seed] = (head.predict_proba(X_test).argmax(axis=1) == y_test).mean()
        cells = (f"{one.mean():.4f} ({one.min():.4f} to {one.max():.4f})" for one in found[row])
        print(f"{name:10}" + "".join(f"{cell:>32}" for cell in cells), flush=True)
    picture(found, chosen.counts, chosen.picture, len(y_test))


def picture(found: np.ndarray, counts: list[int], path: Path, n: int) -> None:
    """Draw a curve a head, with its range over the seeds."""
    from matplotlib.figure import Figure

    from pipeline.plots.style import CURVES

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(counts), dtype=float)
    for row, (name, (colour, marker)) in enumerate(zip(HEADS, CURVES, strict=False)):
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
