"""``headstart train``: fit a light head on the features."""

import os
import re
import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipeline.heads import registry, training_time
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense import ACTIVATIONS, OPTIMIZERS, STANDARDIZE
from pipeline.heads.knn import METRICS
from pipeline.heads.registry import HEADS
from pipeline.heads.selection import grid_search
from pipeline.heads.train import Summary
from stages.console import Stage, progress, warn
from stages.options.param_types import FloatRange, widths
from stages.options.paths import FILE, FOLDER


def _folds(ctx: click.Context, parameter: click.Parameter, folds: int) -> int:
    if folds == 1:
        raise click.BadParameter("expected 0, or 2 or more, received 1", ctx, parameter)
    return folds


def _bytes(ctx: click.Context, parameter: click.Parameter, text: str) -> int:
    """Turn ``500MB``, ``2.5GB`` or a plain number of bytes into a number of bytes; units are powers of 1,000."""
    found = re.fullmatch(r"([0-9]+(?:[.][0-9]+)?) *(|k|M|G|T)B?", text)
    if not found:
        raise click.BadParameter(f"expected bytes as in 500MB or 2GB, received {text!r}", ctx, parameter)
    return int(float(found[1]) * 1000 ** ("kMGT".index(found[2]) + 1 if found[2] else 0))


FRACTION = FloatRange(0.0, 1.0, min_open=True)


@click.command(cls=Stage)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("head_dir", type=FOLDER)
@click.option("--head", type=click.Choice(list(HEADS)), default="logistic", show_default=True, help="Kind of head.")
@click.option(
    "--class-weight",
    type=click.Choice(["none", "balanced"]),
    default="none",
    show_default=True,
    callback=lambda _, __, value: None if value == "none" else value,
    help="Whether rare classes weigh more.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is random.")
@click.option("--report", type=FILE, help="Write how long it took as JSON.")
@click.option(
    "--C",
    "C",
    type=FloatRange(0.0, min_open=True),
    default=0.01,
    show_default=True,
    help="logistic: inverse strength of the penalty.",
)
@click.option(
    "--l1-ratio",
    type=FloatRange(0.0, 1.0),
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
    "--alpha",
    type=FloatRange(0.0, min_open=True),
    default=1000.0,
    show_default=True,
    help="ridge: strength of the penalty.",
)
@click.option("--neighbors", type=click.IntRange(1), default=5, show_default=True, help="knn: training rows that vote.")
@click.option(
    "--metric",
    type=click.Choice(METRICS),
    default="cosine",
    show_default=True,
    help="knn: what is near, of standardised features.",
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
    type=FloatRange(0.0, 1.0, max_open=True),
    default=0.5,
    show_default=True,
    help="dense: fraction dropped before each layer but the first; of the features if there are no hidden layers.",
)
@click.option("--l1", type=FloatRange(0.0), default=0.0, show_default=True, help="dense: L1 penalty on kernels.")
@click.option("--l2", type=FloatRange(0.0), default=0.0, show_default=True, help="dense: L2 penalty on kernels.")
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True, help="dense.")
@click.option(
    "--learning-rate",
    type=FloatRange(0.0, min_open=True),
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
@click.option(
    "--search", is_flag=True, help="Choose the head's own parameters by trying a grid over those that are not given."
)
@click.option(
    "--folds",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    callback=_folds,
    help="search: judge by so many folds of the training split; 0 is on the validation split.",
)
@click.option(
    "--trials",
    type=click.IntRange(2),
    default=66,
    show_default=True,
    help="search: candidates at most; of a larger grid so many are drawn.",
)
@click.option(
    "--jobs", type=click.IntRange(0), default=0, show_default=True, help="search: folds at a time; 0 is one a core."
)
@click.option(
    "--calibrate",
    type=click.Choice([*calibrate.METHODS, "none"]),
    default="temperature",
    show_default=True,
    callback=lambda _, __, value: None if value == "none" else value,
    help="Make the probabilities hold, on the validation split.",
)
@click.option("--precision-at-least", type=FRACTION, help="Of two classes: choose a threshold on the validation split.")
@click.option("--recall-at-least", type=FRACTION, help="The same for a recall.")
@click.option("--positive", help="The class whose precision or recall is meant.  [default: the second by name]")
@click.option(
    "--memory",
    default="4GB",
    show_default=True,
    callback=_bytes,
    help="Features that would take more are read in blocks, as often as needed.",
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
    from pipeline.heads import train

    _refuse_what_has_no_effect(ctx, head, options)
    unfitted = HEADS[head](**{name: options[name] for name in registry.parameters_of(head)})
    search, wish = _search(ctx, options), _wish(options)
    started = time.monotonic()
    with progress("fits and epochs" if search else "epochs") as advance:
        summary = train.train(
            manifest,
            features,
            head_dir,
            head=unfitted,
            search=search,
            calibrate=options["calibrate"],
            wish=wish,
            memory=options["memory"],
            progress=advance,
        )
    if report:
        cost = training_time.Cost(stage="train", seconds=round(time.monotonic() - started, 3))
        training_time.write(report, cost, **_calibration(summary))
    for warning in summary.warnings:
        warn(warning)
    for line in (*_searched(summary), *_threshold(summary)):
        click.echo(line)
    scores = f"train accuracy {summary.train.accuracy:.3f}"
    if summary.val:
        scores += f", val accuracy {summary.val.accuracy:.3f}"
    if summary.calibrated:
        scores += f", temperature {summary.calibrated['temperature']:.3f}"
    click.echo(f"{head}: {summary.n_parameters:,} parameters, {scores} -> {head_dir}")


def _search(ctx: click.Context, options: dict[str, Any]) -> grid_search.Search | None:
    """Return how to search, if it was asked for: parameters that were given keep their value."""
    if not options["search"]:
        return None
    given = {name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    jobs = options["jobs"] or os.cpu_count() or 1
    return grid_search.Search(options["folds"], options["trials"], frozenset(given), jobs, options["seed"])


def _wish(options: dict[str, Any]) -> thresholds.Wish | None:
    for metric in ("precision", "recall"):
        if options[f"{metric}_at_least"] is not None:
            return thresholds.Wish(metric, options[f"{metric}_at_least"], options["positive"])
    return None


def _calibration(summary: Summary) -> dict[str, float]:
    """Return what a calibration did on the images that it was fitted on, flat."""
    if summary.calibrated is None:
        return {}
    found, flat = summary.calibrated, {}
    for state in ("before", "after"):
        flat[f"log_loss_{state}"] = found[state]["log_loss"]
        ends = {"": "value", "_low": "low", "_high": "high"}
        flat |= {f"ece_{state}{end}": found[state]["ece"][name] for end, name in ends.items()}
    return {"temperature": found["temperature"], "calibration_rows": found["rows"], **flat}


def _searched(summary: Summary) -> list[str]:
    if summary.searched is None:
        return []
    trials, chosen = summary.searched.trials, summary.searched.trials[summary.searched.chosen]
    best = trials[summary.searched.best]
    params = ", ".join(f"{name} {value}" for name, value in chosen.params.items())
    return [
        f"searched {len(trials)} candidates on {summary.searched.rows:,} images held out: {params}, "
        f"accuracy {chosen.accuracy:.3f}, loss {chosen.loss:.4f}, the simplest within a standard error of the least, "
        f"{best.loss:.4f} ± {best.error:.4f}"
    ]


def _threshold(summary: Summary) -> list[str]:
    if summary.threshold is None:
        return []
    found = summary.threshold
    return [
        f"{found['positive']} from a probability of {found['value']:.4f} on: on the validation split, which chose it, "
        f"precision {found['precision']:.3f}, recall {found['recall']:.3f}"
    ]


def _refuse_what_has_no_effect(ctx: click.Context, head: str, options: dict[str, Any]) -> None:
    """Refuse an option that would be ignored, so that nobody believes it had an effect."""

    def given(name: str) -> bool:
        return ctx.get_parameter_source(name) is not ParameterSource.DEFAULT

    own = set(registry.parameters_of(head)) | ({"seed"} if options["search"] else set())
    every = {name for kind in HEADS for name in registry.parameters_of(kind)}
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in every - own and given(name):
            owners = ", ".join(kind for kind in HEADS if name in registry.parameters_of(kind))
            raise click.UsageError(f"{parameter.opts[0]} is an option of --head {owners}, received --head {head}", ctx)
        if name in ("folds", "trials", "jobs") and given(name) and not options["search"]:
            raise click.UsageError(f"{parameter.opts[0]} is an option of --search, which was not given", ctx)
    wishes = [name for name in ("precision_at_least", "recall_at_least") if options[name] is not None]
    if len(wishes) == 2:
        raise click.UsageError("expected --precision-at-least or --recall-at-least, received both", ctx)
    if options["positive"] is not None and not wishes:
        raise click.UsageError("--positive is an option of --precision-at-least and --recall-at-least", ctx)


if __name__ == "__main__":
    train()
