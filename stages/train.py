"""``headstart train``: fit a light head on the features."""

import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline import costs, heads, training
from pipeline.heads.dense import ACTIVATIONS, OPTIMIZERS, STANDARDIZE
from stages.console import Stage, progress, warn
from stages.lists import widths


@click.command(cls=Stage)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("head_dir", type=click.Path(path_type=Path))
@click.option(
    "--head", type=click.Choice(list(heads.HEADS)), default="logistic", show_default=True, help="Kind of head."
)
@click.option(
    "--class-weight",
    type=click.Choice(["none", "balanced"]),
    default="none",
    show_default=True,
    callback=lambda _, __, value: None if value == "none" else value,
    help="Whether rare classes weigh more.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is random in the fit.")
@click.option("--report", type=click.Path(path_type=Path), help="Write how long it took as JSON.")
@click.option(
    "--C",
    "C",
    type=click.FloatRange(0.0, min_open=True),
    default=0.01,
    show_default=True,
    help="logistic: inverse strength of the penalty.",
)
@click.option(
    "--l1-ratio",
    type=click.FloatRange(0.0, 1.0),
    default=0.0,
    show_default=True,
    help="logistic: share of the L1 penalty; the rest is L2.",
)
@click.option(
    "--max-iter",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="logistic: iterations of the solver at most.",
)
@click.option(
    "--hidden",
    default="256",
    show_default=True,
    callback=widths,
    help="dense: widths of the hidden layers, as in 256,128, or none.",
)
@click.option(
    "--activation",
    type=click.Choice(list(ACTIVATIONS)),
    default="relu",
    show_default=True,
    help="dense: of the hidden layers.",
)
@click.option(
    "--dropout",
    type=click.FloatRange(0.0, 1.0, max_open=True),
    default=0.5,
    show_default=True,
    help="dense: fraction dropped before each layer but the first; of the features if there are no hidden layers.",
)
@click.option("--l1", type=click.FloatRange(0.0), default=0.0, show_default=True, help="dense: L1 penalty on kernels.")
@click.option("--l2", type=click.FloatRange(0.0), default=0.0, show_default=True, help="dense: L2 penalty on kernels.")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True, help="dense.")
@click.option(
    "--learning-rate",
    type=click.FloatRange(0.0, min_open=True),
    default=0.001,
    show_default=True,
    help="dense: of the optimizer.",
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="dense: rows a step.")
@click.option("--epochs", type=click.IntRange(1), default=50, show_default=True, help="dense: passes at most.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    help="dense: stop after so many epochs without a lower validation loss, keep the best weights; 0 is off.",
)
@click.option(
    "--standardize",
    type=click.Choice(STANDARDIZE),
    default="standard",
    show_default=True,
    help="dense: bring each feature to mean 0 and deviation 1, or leave it.",
)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    manifest: Path,
    features: Path,
    head_dir: Path,
    head: str,
    report: Path | None,
    **options: Any,
) -> None:
    """Fit a light head on FEATURES.h5, with the labels and splits of MANIFEST.csv, and keep it in HEAD_DIR."""
    _refuse_options_of_other_heads(ctx, head)
    unfitted = heads.HEADS[head](**{name: options[name] for name in heads.parameters_of(head)})
    started = time.monotonic()
    with progress("epochs") as advance:
        summary = training.train(manifest, features, head_dir, head=unfitted, progress=advance)
    if report:
        costs.write(report, costs.Cost(stage="train", seconds=round(time.monotonic() - started, 3)))
    for warning in summary.warnings:
        warn(warning)
    scores = f"train accuracy {summary.train.accuracy:.3f}"
    if summary.val:
        scores += f", val accuracy {summary.val.accuracy:.3f}"
    click.echo(f"{head}: {summary.n_parameters:,} parameters, {scores} -> {head_dir}")


def _refuse_options_of_other_heads(ctx: click.Context, head: str) -> None:
    """Refuse an option that would be ignored, so that nobody believes it had an effect."""
    every = {name for kind in heads.HEADS for name in heads.parameters_of(kind)}
    for parameter in ctx.command.params:
        name = parameter.name or ""
        foreign = name in every and name not in heads.parameters_of(head)
        if foreign and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            owners = ", ".join(kind for kind in heads.HEADS if name in heads.parameters_of(kind))
            raise click.UsageError(f"{parameter.opts[0]} is an option of --head {owners}, received --head {head}", ctx)


if __name__ == "__main__":
    train()
