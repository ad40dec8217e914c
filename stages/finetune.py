"""``headstart finetune``: trunk and head joined into a model, with the layers above a cut trained on if asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.models.finetuning.settings import FinetuneSettings
from pipeline.photos.remote import Root
from pipeline.wording import counted, epoch
from stages.console import Stage, progress, say, show_table, tell, warn
from stages.options.of_settings import options, settings_of
from stages.options.paths import FILE, FOLDER, PLACE
from stages.process import only_ours

if TYPE_CHECKING:
    from pipeline.models.finetuning.finetune import FinetuneResult
    from pipeline.models.finetuning.rate_range import RateRange


@click.command(
    cls=Stage, kept="Features computed so far and finished epochs are in the cache; the same command goes on from them."
)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("head_dir", type=click.Path(path_type=Path))
@click.argument("model_dir", type=FOLDER)
@options(FinetuneSettings)
@click.option("--report", type=FILE, help="Also write what was done, and how long it took, to this JSON file.")
@click.option(
    "--find-learning-rate",
    is_flag=True,
    help="Keep no model: let the rate rise over 100 steps, and write table and picture of the losses to MODEL_DIR.",
)
def finetune(
    images: Root,
    manifest: Path,
    features: Path,
    head_dir: Path,
    model_dir: Path,
    report: Path | None,
    find_learning_rate: bool,
    **chosen: Any,
) -> None:
    """Join the trunk and the head of HEAD_DIR into MODEL_DIR, from image to probabilities.

    With --epochs above 0, first train the head and the layers above --cut; a run that was killed goes on at the epoch.
    """
    from pipeline.models.finetuning import finetune

    if find_learning_rate:  # then there is something that trains
        chosen["epochs"] = max(1, chosen["epochs"])
    settings = settings_of(FinetuneSettings, chosen)
    paths = (images, manifest, features, head_dir, model_dir)
    with progress("images") as extracting, progress("batches") as training:
        callbacks = finetune.Callbacks(
            importing=only_ours,
            extracting=extracting,
            progress=training,
            told=lambda row: tell(epoch(row)),
            report_path=report,
        )
        if find_learning_rate:
            found = finetune.find_learning_rate(*paths, settings, callbacks)
            say(f"{_found(found)} -> {model_dir}")
            return
        summary = finetune.finetune(*paths, settings, callbacks)
    for warning in summary.warnings:
        warn(warning)
    if summary.history:
        _show_layers(summary)
    say(f"{_outcome(summary)} -> {model_dir}")


def _found(found: "RateRange") -> str:
    steps, resumed = counted(len(found.rows), "step"), found.resumed_after
    after = f", resumed after step {resumed}" if resumed else ""
    return f"{steps}{after}: --learning-rate {found.suggested:g}, a tenth of the rate at which the loss is the least"


def _show_layers(summary: "FinetuneResult") -> None:
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
    say()


def _outcome(summary: "FinetuneResult") -> str:
    if not summary.history:
        layers = counted(len(summary.layers), "layer")
        return f"joined {layers} of trunk and head, {counted(summary.frozen, 'parameter')}, none trained"
    best = summary.scores
    score = "val " if "val_loss" in best else "train "
    loss, accuracy = (best["val_loss"], best["val_accuracy"]) if score == "val " else (best["loss"], best["accuracy"])
    resumed = f", resumed after epoch {summary.resumed_after}" if summary.resumed_after else ""
    epochs = counted(len(summary.history), "epoch")
    if summary.views > 1:
        epochs += f", each one pass over the photos, in the next of {summary.views} views,"
    return (
        f"{epochs} in {summary.training_seconds:,.1f} s{resumed}; {summary.kept}: "
        f"{score}loss {loss:.5f}, accuracy {accuracy:.3f}"
    )


if __name__ == "__main__":
    finetune()
