"""``headstart growth``: accuracy over the number of training photos, and what twice as many would bring."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.heads.settings import GrowthSettings
from pipeline.wording import interval, number
from stages.console import Stage, progress, say, warn
from stages.options.of_settings import options, settings_of
from stages.options.paths import FOLDER

if TYPE_CHECKING:
    from pipeline.heads.selection.learning_curve import Estimate


@click.command(cls=Stage)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("out_dir", type=FOLDER)
@options(GrowthSettings)
def growth(manifest: Path, features: Path, out_dir: Path, **chosen: Any) -> None:
    """Fit a logistic head on growing parts of the training split, and forecast what twice the photos would bring."""
    from pipeline.heads.selection import learning_curve

    settings = settings_of(GrowthSettings, chosen)
    with progress("fits") as report:
        summary = learning_curve.grow(manifest, features, out_dir, settings, progress=report)
    for warning in summary.warnings:
        warn(warning)
    for size, accuracy in zip(summary.sizes, summary.accuracies, strict=True):
        say(f"{size:7,} images  accuracy {_written(accuracy)}")
    judge = f"{summary.folds} folds" if summary.folds else "the validation split"
    say(
        f"Twice the {summary.sizes[-1]:,} images would bring an accuracy of about {_written(summary.forecast)}, "
        f"{number(100 * summary.gain, 1, sign=True)} points, if the curve goes on as it did; "
        f"judged by {judge}, {summary.judged:,} images."
    )
    if summary.check:
        say(
            f"The same forecast from half of them was {_written(summary.check)}; measured: "
            f"{summary.accuracies[-1].value:.3f}."
        )
    say(f"-> {out_dir}")


def _written(one: "Estimate") -> str:
    return interval(one.value, one.low, one.high)


if __name__ == "__main__":
    growth()
