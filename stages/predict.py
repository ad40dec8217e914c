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
from stages.options import settings
from stages.options.param_types import FloatRange

if TYPE_CHECKING:
    from pipeline.inference.predict import Asked, Prediction

Write = Callable[[Iterable["Prediction"], Sequence[str], "Asked", TextIO], int]
ABSTAINED = "?"


@click.command(cls=Stage)
@click.argument("trained", metavar="HEAD_DIR|MODEL_DIR|EXPORT", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--output",
    default="-",
    show_default=True,
    help="A .csv or .jsonl file; - is a table on a terminal, and CSV in a pipe.",
)
@settings.trained
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images a batch.")
@click.option(
    "--min-confidence",
    type=FloatRange(0.0, 1.0),
    help="Abstain, with an empty label, where the label's probability is below this.  [default: never]",
)
@click.option(
    "--nearest",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Name so many of the most similar training photos; needs --features and --manifest.",
)
@click.option(
    "--familiarity",
    is_flag=True,
    help="Tell which fraction of the training photos lies at least as far from the others; near 0, a photo is of "
    "another kind. Needs --features and --manifest.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="--familiarity goes by the distance to the nearest training photo of this rank.",
)
@click.option(
    "--features", metavar="FEATURES.h5", type=click.Path(path_type=Path), help="What the head was trained on."
)
@click.option("--manifest", metavar="MANIFEST.csv", type=click.Path(path_type=Path), help="Which of these train.")
@click.option(
    "--explain",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write a PNG a photo to DIR that shows where the evidence for its label lies.",
)
@settings.cache
def predict(
    trained: Path,
    paths: tuple[Path, ...],
    output: str,
    cache: Path,
    weights: str | None,
    engine: str,
    precision: Any,
    batch_size: int,
    familiarity: bool,
    neighbours: int,
    **asked: Any,
) -> None:
    """Label PATHS, image files or folders of them, with a trained head or a model.

    A file that cannot be used gets a row with its error; the exit status is then 1.
    """
    from pipeline.inference.predict import Asked, Predictor, expand

    wanted = Asked(familiarity=neighbours if familiarity else 0, **asked)
    write = _writer(output)
    files = expand(paths)
    predictor = Predictor(
        trained,
        weights=weights,
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        cache=cache,
        asked=wanted,
    )
    for warning in predictor.warnings:
        warn(warning)
    with _opened(output) as target, progress("images") as advance:
        failed = write(predictor.predict(files, progress=advance), predictor.classes, wanted, target)
    if failed:
        raise click.ClickException(f"{failed:,} of {len(files):,} files could not be used; their rows say why")


def _writer(output: str) -> Write:
    kind = Path(output).suffix.lower() if output != "-" else "terminal" if sys.stdout.isatty() else ".csv"
    writers: dict[str, Write] = {".csv": _csv, ".jsonl": _json_lines, "terminal": _table}
    if kind not in writers:
        raise click.UsageError(f"--output: expected a name ending in .csv or .jsonl, or -, received {output}")
    if kind != "terminal" and Path(output).is_dir():
        raise click.UsageError(f"--output: expected a file, received the folder {output}")
    return writers[kind]


@contextlib.contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    from pipeline.storage.atomic import published

    if output == "-":
        yield sys.stdout
    else:
        with published(Path(output)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file


def _csv(predictions: "Iterable[Prediction]", classes: Sequence[str], asked: "Asked", target: TextIO) -> int:
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["path", "label", *(f"p_{name}" for name in classes), *_extra_columns(asked), "error"])
    failed = 0
    for found in predictions:
        probabilities = [f"{found.probabilities[name]:.6f}" if found.probabilities else "" for name in classes]
        extra = _extra_fields(found, asked)
        writer.writerow([_name(found.path), found.label or "", *probabilities, *extra, found.error or ""])
        failed += found.error is not None
    return failed


def _extra_columns(asked: "Asked") -> list[str]:
    names = ["abstained"] if asked.min_confidence is not None else []
    for place in range(1, asked.nearest + 1):
        names += [f"nearest_{place}", f"similarity_{place}"]
    return names + ["familiarity"] * bool(asked.familiarity) + ["heat_map"] * bool(asked.explain)


def _extra_fields(found: "Prediction", asked: "Asked") -> list[str]:
    fields = []
    if asked.min_confidence is not None:
        fields.append(str(int(found.abstained)) if found.probabilities else "")
    for one in found.nearest:
        fields += [one.path, f"{one.similarity:.6f}"]
    fields += [""] * (2 * (asked.nearest - len(found.nearest)))
    if asked.familiarity:
        fields.append("" if found.familiarity is None else f"{found.familiarity:.6f}")
    if asked.explain:
        fields.append(_name(found.heat_map) if found.heat_map else "")
    return fields


def _json_lines(predictions: "Iterable[Prediction]", classes: Sequence[str], asked: "Asked", target: TextIO) -> int:
    failed = 0
    for found in predictions:
        row: dict[str, Any] = {
            "path": _name(found.path),
            "label": found.label,
            "probabilities": found.probabilities,
        }
        if asked.min_confidence is not None:
            row["abstained"] = found.abstained
        if asked.nearest:
            row["nearest"] = [one._asdict() for one in found.nearest]
        if asked.familiarity:
            row["familiarity"] = found.familiarity
        if asked.explain:
            row["heat_map"] = _name(found.heat_map) if found.heat_map else None
        target.write(json.dumps(row | {"error": found.error}, ensure_ascii=False) + "\n")
        failed += found.error is not None
    return failed


def _table(predictions: "Iterable[Prediction]", classes: Sequence[str], asked: "Asked", target: TextIO) -> int:
    failed = 0
    width = max(map(len, [*classes, ABSTAINED]))
    for found in predictions:
        failed += found.error is not None
        if not found.probabilities:
            target.write(f"{'-':{width}}         {_name(found.path)}: {found.error}\n")
            continue
        best = max(found.probabilities.values()) if found.label is None else found.probabilities[found.label]
        familiar = "" if found.familiarity is None else f"  familiarity {found.familiarity:.3f}"
        target.write(f"{found.label or ABSTAINED:{width}}  {best:6.3f}  {_name(found.path)}{familiar}\n")
        for one in found.nearest:
            target.write(f"{'':{width}}  {one.similarity:6.3f}    like {one.path} ({one.label})\n")
    return failed


def _name(path: Path) -> str:
    r"""Return the path as text that any output takes; bytes that are no UTF-8 become ``\xNN``."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


if __name__ == "__main__":
    predict()
