"""``headstart growth``: accuracy over the number of training photos, and what twice as many would bring."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from stages.console import Stage, progress
from stages.options.param_types import FloatRange

if TYPE_CHECKING:
    from pipeline.heads.selection.learning_curve import Estimate


@click.command(cls=Stage)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--parts", type=click.IntRange(3), default=8, show_default=True, help="Sizes of the training split.")
@click.option("--seeds", type=click.IntRange(2), default=5, show_default=True, help="Orders in which images are taken.")
@click.option(
    "--folds",
    type=click.IntRange(0),
    help="0: the validation split judges; else k-fold.  [default: 0 from 200 validation images on, else 5]",
)
@click.option(
    "--C",
    "C",
    type=FloatRange(0.0, min_open=True),
    default=0.01,
    show_default=True,
    help="Inverse strength of the penalty of the logistic head.",
)
def growth(manifest: Path, features: Path, out_dir: Path, parts: int, seeds: int, folds: int | None, C: float) -> None:
    """Fit a logistic head on growing parts of the training split, and forecast what twice the photos would bring."""
    from pipeline.heads.logistic import LogisticHead
    from pipeline.heads.selection import learning_curve

    head = LogisticHead(C=C, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=0)
    with progress("fits") as report:
        summary = learning_curve.grow(
            manifest, features, out_dir, head=head, parts=parts, seeds=seeds, folds=folds, progress=report
        )
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
