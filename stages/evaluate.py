"""``headstart evaluate``: judge a head or a model on the test split."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.evaluation.settings import EvaluateSettings
from pipeline.photos.remote import Root
from pipeline.wording import METRICS, UNDEFINED, counted, interval, number
from stages.console import Stage, progress, say, show_table, warn
from stages.options.of_settings import options, settings_of
from stages.options.paths import FILE, FOLDER, PLACE

if TYPE_CHECKING:
    from pipeline.evaluation.results import EvaluateResult

CLASSES_PRINTED = 20


@click.command(cls=Stage)
@click.argument("images", type=PLACE)
@click.argument("manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path))
@click.argument("features", metavar="FEATURES.h5", type=click.Path(path_type=Path))
@click.argument("trained_dir", metavar="HEAD_DIR|MODEL_DIR", type=click.Path(path_type=Path))
@click.argument("out_dir", type=FOLDER)
@options(EvaluateSettings)
@click.option("--report", type=FILE, help="Also write how many rows were forwarded, and reused, to this JSON file.")
def evaluate(
    images: Root,
    manifest: Path,
    features: Path,
    trained_dir: Path,
    out_dir: Path,
    report: Path | None,
    **chosen: Any,
) -> None:
    """Judge a head or a model on the test split, and write numbers, predictions and pictures to OUT_DIR.

    A head, joined to its base or not, is judged by FEATURES; IMAGES is then read only to draw mistakes. Of a
    fine-tuned model the trained layers run on rows that the cache keeps; those that it lacks are computed from IMAGES.
    """
    from pipeline.evaluation import evaluate
    from pipeline.storage.json_files import publish

    with progress("images") as advance:
        settings = settings_of(EvaluateSettings, chosen)
        summary = evaluate.evaluate(images, manifest, features, trained_dir, out_dir, settings, progress=advance)
    for warning in summary.warnings:
        warn(warning)
    judged, mistakes = counted(summary.metrics["n"], "test image"), counted(summary.mistakes, "mistake")
    rows = {"forwarded": summary.forwarded, "reused": summary.reused}
    if report:
        publish(report, {"images": summary.metrics["n"], **rows})
    told = ", ".join(f"{count:,} {what}" for what, count in rows.items())
    say(f"{judged}: {told}; {mistakes}; in brackets 95 % intervals\n")
    say("\n".join([*_overall(summary.metrics), *_uncalibrated(summary), ""]))
    _show_classes(summary.metrics["classes"])
    say(f"\nall numbers with their intervals, predictions and pictures -> {out_dir}")


def _uncalibrated(summary: "EvaluateResult") -> list[str]:
    if summary.temperature == 1.0:
        return []
    numbers = ", ".join(f"{METRICS[name]} {_estimate(summary.uncalibrated[name])}" for name in ("log_loss", "ece"))
    return [f"without the temperature of {summary.temperature:.3f}: {numbers}"]


def _overall(measured: dict[str, Any]) -> list[str]:
    return [f"{title:18} {_estimate(measured[name])}" for name, title in METRICS.items()]


def _show_classes(measured: dict[str, Any]) -> None:
    """Print a table of the classes; of many, those of least F1."""
    labels = list(measured)
    if len(labels) > CLASSES_PRINTED:
        defined = [label for label in labels if measured[label]["f1"]["value"] is not None]
        labels = sorted(defined, key=lambda label: measured[label]["f1"]["value"])[:CLASSES_PRINTED]
    rows = [
        (label, f"{one['n']:,}", *(_value(one[name]) for name in ("precision", "recall")), _estimate(one["f1"]))
        for label, one in ((label, measured[label]) for label in labels)
    ]
    show_table(("class", "images", "precision", "recall", "F1 [95 % interval]"), rows, right={1, 2, 3})
    if len(labels) < len(measured):
        say(f"({len(labels)} of {len(measured):,} classes, those of least F1)")


def _value(estimate: dict[str, Any]) -> str:
    return UNDEFINED if estimate["value"] is None else number(estimate["value"])


def _estimate(estimate: dict[str, Any]) -> str:
    return interval(estimate["value"], estimate["low"], estimate["high"])


if __name__ == "__main__":
    evaluate()
