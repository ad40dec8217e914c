"""``headstart growth``: accuracy over the number of training photos, and what twice as many would bring."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.heads.settings import GrowthSettings
from stages.console import Stage, progress, warn
from stages.options.of_settings import options, settings_of

if TYPE_CHECKING:
    from pipeline.heads.selection.learning_curve import Estimate


@click.command(cls=Stage)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
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
        click.echo(f"{size:7,} images  accuracy {_interval(accuracy)}")
    judge = f"{summary.folds} folds" if summary.folds else "the validation split"
    click.echo(
        f"Twice the {summary.sizes[-1]:,} images would bring an accuracy of about {_interval(summary.forecast)}, "
        f"{100 * summary.gain.value:+.1f} points [{100 * summary.gain.low:+.1f}, {100 * summary.gain.high:+.1f}], "
        f"if the curve goes on as it did; judged by {judge}, {summary.judged:,} images."
    )
    if summary.check:
        click.echo(
            f"The same forecast from half of them was {_interval(summary.check)}; measured: "
            f"{summary.accuracies[-1].value:.3f}."
        )
    click.echo(f"-> {out_dir}")


def _interval(one: "Estimate") -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


if __name__ == "__main__":
    growth()
