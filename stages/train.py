"""``headstart train``: fit a light head on the features."""

import time
from pathlib import Path
from typing import Any

import click

from pipeline.heads import training_time
from pipeline.heads.score import Score
from pipeline.heads.selection.grid_search import NOT_TRIED
from pipeline.heads.settings import TrainSettings
from pipeline.heads.train import TrainResult
from pipeline.photos.splits import FEWEST_VAL
from pipeline.stats.intervals import proportion
from pipeline.wording import counted, epoch
from stages.console import Stage, progress, say, tell, warn
from stages.options.of_settings import given, options, settings_of
from stages.options.paths import FILE, FOLDER


@click.command(cls=Stage)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("head_dir", type=FOLDER)
@options(TrainSettings)
@click.option("--report", type=FILE, help="Also write how long it took to this JSON file.")
def train(manifest: Path, features: Path, head_dir: Path, report: Path | None, **chosen: Any) -> None:
    """Fit a light head on FEATURES.h5, with the labels and splits of MANIFEST.csv, and keep it in HEAD_DIR."""
    from pipeline.heads import train

    settings = settings_of(TrainSettings, chosen)
    started = time.monotonic()
    with progress("fits and epochs" if settings.search else "epochs") as advance:
        summary = train.train(manifest, features, head_dir, settings, given=given(), progress=advance, told=_told)
    if report:
        cost = training_time.Cost(stage="train", seconds=round(time.monotonic() - started, 3))
        training_time.write(report, cost, **_calibration(summary))
    for warning in summary.warnings:
        warn(warning)
    for line in (*_folded(summary), *_searched(summary), *_threshold(summary)):
        say(line)
    say(f"{settings.head}: {_outcome(summary)} -> {head_dir}")


def _outcome(summary: TrainResult) -> str:
    told = f"{summary.n_parameters:,} parameters, train accuracy {summary.train.accuracy:.3f}"
    if summary.val:
        told += f", val accuracy {summary.val.accuracy:.3f}"
    if summary.out_of_fold:
        told += f", out-of-fold accuracy {_interval(summary.out_of_fold)}"
    if summary.views > 1 and summary.passes:
        told += f", {summary.passes}"
    if summary.calibrated:
        told += f", temperature {summary.calibrated['temperature']:.3f}"
    return told


def _told(row: dict[str, float]) -> None:
    tell(epoch(row))


def _calibration(summary: TrainResult) -> dict[str, float]:
    """Return what a calibration did on the images that it was fitted on, flat."""
    if summary.calibrated is None:
        return {}
    found, flat = summary.calibrated, {}
    for state in ("before", "after"):
        flat[f"log_loss_{state}"] = found[state]["log_loss"]
        ends = {"": "value", "_low": "low", "_high": "high"}
        flat |= {f"ece_{state}{end}": found[state]["ece"][name] for end, name in ends.items()}
    return {"temperature": found["temperature"], "calibration_rows": found["rows"], **flat}


def _folded(summary: TrainResult) -> list[str]:
    """Return a line that says what chose in place of the validation split, if that had too few images."""
    if summary.val:
        return []
    start = f"fewer than {FEWEST_VAL} validation images choose by chance, so they were learned from"
    if not summary.out_of_fold:
        return [f"{start}; no image was held out, so nothing is known of how good this is"]
    return [f"{start}, and {summary.folds} folds of all {summary.out_of_fold.rows:,} images chose instead"]


def _interval(score: Score) -> str:
    """Return an accuracy with its 95 % interval."""
    low, high = proportion(round(score.accuracy * score.rows), score.rows)
    return f"{score.accuracy:.3f} [{low:.3f}, {high:.3f}]"


def _searched(summary: TrainResult) -> list[str]:
    if summary.searched is None:
        return []
    trials, chosen = summary.searched.trials, summary.searched.trials[summary.searched.chosen]
    best = trials[summary.searched.best]
    params = ", ".join(f"{name} {value}" for name, value in chosen.params.items())
    candidates, images = counted(len(trials), "candidate"), counted(summary.searched.rows, "image")
    losing = f" ({len(summary.searched.losing):,} more {NOT_TRIED})" if summary.searched.losing else ""
    return [
        f"searched {candidates}{losing} on {images} held out: {params}, "
        f"accuracy {chosen.accuracy:.3f}, loss {chosen.loss:.4f}, the simplest within a standard error of the least, "
        f"{best.loss:.4f} ± {best.error:.4f}"
    ]


def _threshold(summary: TrainResult) -> list[str]:
    if summary.threshold is None:
        return []
    found = summary.threshold
    return [
        f"{found['positive']} from a probability of {found['value']:.4f} on: on the images held out, which chose it, "
        f"precision {found['precision']:.3f}, recall {found['recall']:.3f}"
    ]


if __name__ == "__main__":
    train()
