"""``headstart predict``: labels for photos."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from stages.console import Stage, progress, warn

if TYPE_CHECKING:
    from pipeline.prediction import Prediction

Write = Callable[[Iterable["Prediction"], Sequence[str], TextIO], int]


@click.command(cls=Stage)
@click.argument("trained", metavar="HEAD_DIR|MODEL_DIR", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--output",
    default="-",
    show_default=True,
    help="A .csv or .jsonl file; - is a table on a terminal, and CSV in a pipe.",
)
@click.option("--weights", help="As in extract, checked by digest.  [default: those the head was trained on]")
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorflow", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto is OpenVINO on a CPU, TensorFlow on a GPU.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Of the arithmetic.  [default: as the head was trained; for a model float32]",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a batch.")
@click.option("--cache", type=click.Path(path_type=Path), help="[default: $HEADSTART_CACHE, else .headstart]")
def predict(trained: Path, paths: tuple[Path, ...], output: str, cache: Path | None, **options: Any) -> None:
    """Label PATHS, image files or folders of them, with a trained head or a model.

    A file that cannot be used gets a row with its error; the exit status is then 1.
    """
    from pipeline import prediction, row_cache

    write = _writer(output)
    files = prediction.expand(paths)
    predictor = prediction.Predictor(trained, cache=cache or row_cache.default_root(Path.cwd()), **options)
    for warning in predictor.warnings:
        warn(warning)
    with _opened(output) as target, progress("images") as advance:
        failed = write(predictor.predict(files, progress=advance), predictor.classes, target)
    if failed:
        raise click.ClickException(f"{failed:,} of {len(files):,} files could not be used; their rows say why")


def _writer(output: str) -> Write:
    kind = Path(output).suffix.lower() if output != "-" else "terminal" if sys.stdout.isatty() else ".csv"
    writers: dict[str, Write] = {".csv": _csv, ".jsonl": _json_lines, "terminal": _table}
    if kind not in writers:
        raise click.UsageError(f"--output: expected a name ending in .csv or .jsonl, or -, received {output}")
    return writers[kind]


@contextlib.contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    from pipeline.files import published

    if output == "-":
        yield sys.stdout
    else:
        with published(Path(output)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file


def _csv(predictions: "Iterable[Prediction]", classes: Sequence[str], target: TextIO) -> int:
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["path", "label", *(f"p_{name}" for name in classes), "error"])
    failed = 0
    for found in predictions:
        probabilities = [f"{found.probabilities[name]:.6f}" if found.label else "" for name in classes]
        writer.writerow([_name(found), found.label or "", *probabilities, found.error or ""])
        failed += found.error is not None
    return failed


def _json_lines(predictions: "Iterable[Prediction]", classes: Sequence[str], target: TextIO) -> int:
    failed = 0
    for found in predictions:
        row = {
            "path": _name(found),
            "label": found.label,
            "probabilities": found.probabilities,
            "error": found.error,
        }
        target.write(json.dumps(row, ensure_ascii=False) + "\n")
        failed += found.error is not None
    return failed


def _table(predictions: "Iterable[Prediction]", classes: Sequence[str], target: TextIO) -> int:
    failed = 0
    width = max(map(len, classes))
    for found in predictions:
        if found.label is None:
            target.write(f"{'-':{width}}         {_name(found)}: {found.error}\n")
        else:
            target.write(f"{found.label:{width}}  {found.probabilities[found.label]:6.3f}  {_name(found)}\n")
        failed += found.error is not None
    return failed


def _name(found: "Prediction") -> str:
    r"""Return the path as text that any output takes; bytes that are no UTF-8 become ``\xNN``."""
    return str(found.path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


if __name__ == "__main__":
    predict()
