"""``headstart finetune``: trunk and head joined into a model, with the layers above a cut trained on if asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.models.settings import Runtime
from pipeline.photos.remote import Root
from pipeline.photos.settings import Policy
from pipeline.setting import build, described
from stages.console import Stage, progress, show_table, tell, warn
from stages.options.of_settings import options as options_of
from stages.options.param_types import FloatRange, names, widths
from stages.options.paths import FILE, FOLDER, PLACE

if TYPE_CHECKING:
    from pipeline.models.finetuning import Summary


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("head_dir", type=click.Path(path_type=Path))
@click.argument("model_dir", type=FOLDER)
@click.option("--head", help="The kind that HEAD_DIR must hold.  [default: any]")
@click.option(
    "--epochs", type=click.IntRange(0), default=0, show_default=True, help="Passes at most; 0 joins trunk and head."
)
@click.option(
    "--cut",
    default="block-1",
    show_default=True,
    help="What lies above it trains, what lies below is cached; image trains all.",
)
@click.option(
    "--new-conv",
    default="none",
    show_default=True,
    callback=widths,
    help="Fresh convolutions of these widths above the cut, as in 256,256, instead of the base's layers.",
)
@click.option(
    "--freeze", default="none", show_default=True, callback=names, help="Layers above the cut that do not, as in A,B."
)
@click.option("--new-head", is_flag=True, help="Start from a random head instead of the trained one.")
@click.option(
    "--optimizer",
    type=click.Choice(["adam", "rmsprop", "sgd"]),
    default="adam",
    show_default=True,
    help="With Keras' settings besides rate and decay.",
)
@click.option(
    "--learning-rate",
    type=FloatRange(0.0, min_open=True),
    default=1e-5,
    show_default=True,
    help="Of the head, at its highest.",
)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "cosine"]),
    default="constant",
    show_default=True,
    help="Of the rate, after the warm-up.",
)
@click.option(
    "--warmup-epochs",
    type=FloatRange(0.0),
    default=0.0,
    show_default=True,
    help="In which the rate rises from 0.",
)
@click.option(
    "--layer-decay",
    type=FloatRange(0.0, 1.0),
    default=1.0,
    show_default=True,
    help="Each block's share of the rate of the block above it.",
)
@click.option(
    "--weight-decay", type=FloatRange(0.0), default=0.0, show_default=True, help="Of kernels, times the rate."
)
@click.option(
    "--label-smoothing",
    type=FloatRange(0.0, 1.0, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of each target that is spread over the classes.",
)
@click.option(
    "--batch-norm",
    type=click.Choice(["inference", "train"]),
    default="inference",
    show_default=True,
    help="Above the cut: with the statistics it came with, or with those of each batch.",
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Images a step.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Stop after so many epochs without a lower validation loss, keep the best weights; 0 is off.",
)
@click.option(
    "--class-weight",
    type=click.Choice(["none", "balanced"]),
    default="none",
    show_default=True,
    callback=lambda _, __, value: None if value == "none" else value,
    help="Whether rare classes weigh more.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is random.")
@click.option("--deterministic", is_flag=True, help="The same bits again on this machine; up to twice as slow.")
@click.option("--live-augment", is_flag=True, help="Read pixels anew in each epoch, changed at random as below.")
@options_of(Policy)
@options_of(Runtime, only=("weights", "engine", "cache"))
@click.option("--report", type=FILE, help="Write what was done, and how long it took, as JSON.")
def finetune(
    images: Root,
    manifest: Path,
    features: Path,
    head_dir: Path,
    model_dir: Path,
    head: str | None,
    weights: str | None,
    engine: str,
    cache: Path,
    report: Path | None,
    **options: Any,
) -> None:
    """Join the trunk and the head of HEAD_DIR into MODEL_DIR, from image to probabilities.

    With --epochs above 0, first train the head and the layers above --cut; a run that was killed goes on at the epoch.
    """
    from pipeline.models import finetuning

    _require_kind(head_dir, head)
    chosen = finetuning.Settings(
        policy=build(Policy, options),
        **{name: value for name, value in options.items() if name not in described(Policy)},
    )
    with progress("images") as extracting, progress("batches") as training:
        run = finetuning.Run(
            weights=weights,
            engine=engine,
            cache=cache,
            extracting=extracting,
            progress=training,
            told=lambda row: tell(_epoch(row)),
        )
        summary = finetuning.finetune(
            images, manifest, features, head_dir, model_dir, settings=chosen, run=run, report_path=report
        )
    for warning in summary.warnings:
        warn(warning)
    if summary.history:
        _show_layers(summary)
    click.echo(f"{_outcome(summary)} -> {model_dir}")


def _require_kind(head_dir: Path, kind: str | None) -> None:
    from pipeline import heads

    if kind is not None and (found := heads.name_of(heads.load(head_dir)[0])) != kind:
        raise click.BadParameter(f"expected a head of kind {kind} in {head_dir}, received {found}", param_hint="--head")


def _epoch(row: dict[str, float]) -> str:
    numbers = [f"{name.replace('_', ' ')} {value:.5f}" for name, value in row.items() if name != "epoch"]
    return f"epoch {row['epoch']:.0f}: {', '.join(numbers)}"


def _show_layers(summary: "Summary") -> None:
    """Print the layers above the cut, one a line, and those below it summed up."""
    below = [layer for layer in summary.layers if layer.place == "trunk"]
    rows = [("(below the cut)", f"{sum(layer.parameters for layer in below):,}", "frozen")] if below else []
    rows += [
        (layer.name, f"{layer.parameters:,}", f"{layer.trained:,}" if layer.trained else "frozen")
        for layer in summary.layers
        if layer.place != "trunk"
    ]
    rows.append(("all", f"{summary.trained + summary.frozen:,}", f"{summary.trained:,}"))
    show_table(("layer", "parameters", "train"), rows, right={1, 2})
    click.echo()


def _outcome(summary: "Summary") -> str:
    if not summary.history:
        return f"joined {len(summary.layers)} layers of trunk and head, {summary.frozen:,} numbers, none trained"
    best = summary.history[summary.best_epoch - 1]
    score = "val " if "val_loss" in best else "train "
    loss, accuracy = (best["val_loss"], best["val_accuracy"]) if score == "val " else (best["loss"], best["accuracy"])
    resumed = f", resumed after epoch {summary.resumed_after}" if summary.resumed_after else ""
    return (
        f"{len(summary.history)} epochs in {summary.training_seconds:,.1f} s{resumed}; epoch {summary.best_epoch}: "
        f"{score}loss {loss:.5f}, accuracy {accuracy:.3f}"
    )


if __name__ == "__main__":
    finetune()
