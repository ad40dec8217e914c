"""``headstart predict``: labels for photos."""

import contextlib
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from pipeline.inference.settings import PredictSettings
from pipeline.wording import counted, printable
from stages.console import Stage, progress, tell, warn
from stages.options.of_settings import options, settings_of

if TYPE_CHECKING:
    from pipeline.inference.prediction import Prediction

Write = Callable[[Iterable["Prediction"], Sequence[str], PredictSettings, TextIO], int]
ABSTAINED = "?"


@click.command(cls=Stage)
@click.argument("trained", metavar="HEAD_DIR|MODEL_DIR|EXPORT|imagenet", type=click.Path(path_type=Path))
@click.argument("paths", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--output",
    default="-",
    show_default=True,
    help="A .csv or .jsonl file; - is a table on a terminal, and CSV in a pipe.",
)
@options(PredictSettings)
def predict(trained: Path, paths: tuple[Path, ...], output: str, **chosen: Any) -> None:
    """Label PATHS, image files or folders of them, with a trained head or a model.

    The word imagenet stands for the packaged base with its own classifier, for ImageNet's 1,000 classes.

    A file that cannot be used gets a row with its error; the exit status is then 1.
    """
    from pipeline.inference import imagenet, predict

    settings = settings_of(PredictSettings, chosen)
    write = _writer(output, top=imagenet.TOP if imagenet.is_meant(trained) else 1)
    own = [*([] if output == "-" else [Path(output)]), *([settings.explain] if settings.explain else [])]
    files = predict.expand(paths, but=own)
    predictor = predict.Predictor(trained, settings.runtime, settings)
    for warning in predictor.warnings:
        warn(warning)
    with progress("images") as advance, _opened(output) as target:  # within, so that rows stand above the bar
        predictions = _begun(files.predictions(predictor, progress=advance))
        failed = write(predictions, predictor.classes, settings, target)
    if output != "-":
        tell(f"{counted(len(files), 'image')} -> {output}")
    if failed:
        raise click.ClickException(f"{failed:,} of {counted(len(files), 'file')} could not be used; their rows say why")


def _begun(predictions: "Iterable[Prediction]") -> "Iterator[Prediction]":
    """Return them after the first is there, so that what cannot begin writes not even a header."""
    later = iter(predictions)
    return itertools.chain(list(itertools.islice(later, 1)), later)


def _writer(output: str, *, top: int) -> Write:
    kind = Path(output).suffix.lower() if output != "-" else "terminal" if sys.stdout.isatty() else ".csv"
    writers: dict[str, Write] = {".csv": _csv, ".jsonl": _json_lines, "terminal": partial(_table, top=top)}
    if kind not in writers:
        raise click.UsageError(f"--output: expected a name ending in .csv or .jsonl, or -, received {output}")
    if kind != "terminal" and Path(output).is_dir():
        raise click.UsageError(f"--output: expected a file, received the folder {output}")
    return writers[kind]


@contextlib.contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    from pipeline.storage.atomic import published

    if output == "-":
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")  # as in a file, whatever the terminal's own is
        yield sys.stdout
    else:
        with published(Path(output)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            yield file


def _csv(predictions: "Iterable[Prediction]", classes: Sequence[str], asked: PredictSettings, target: TextIO) -> int:
    from pipeline.storage.atomic import row_writer

    write = row_writer(target)
    write(["path", "label", *(f"p_{name}" for name in classes), *_extra_columns(asked), "error"])
    failed = 0
    for found in predictions:
        probabilities = [f"{found.probabilities[name]:.6f}" if found.probabilities else "" for name in classes]
        extra = _extra_fields(found, asked)
        write([_name(found.path), found.label or "", *probabilities, *extra, found.error or ""])
        failed += found.error is not None
    return failed


def _extra_columns(asked: PredictSettings) -> list[str]:
    names = ["abstained"] if asked.min_confidence is not None else []
    for place in range(1, asked.nearest + 1):
        names += [f"nearest_{place}", f"similarity_{place}"]
    return names + ["familiarity", "kind"] * asked.familiarity + ["heat_map"] * bool(asked.explain)


def _extra_fields(found: "Prediction", asked: PredictSettings) -> list[str]:
    fields = []
    if asked.min_confidence is not None:
        fields.append(str(int(found.abstained)) if found.probabilities else "")
    for one in found.nearest:
        fields += [one.path, f"{one.similarity:.6f}"]
    fields += [""] * (2 * (asked.nearest - len(found.nearest)))
    if asked.familiarity:
        told = found.familiarity
        fields += ["", ""] if told is None else [f"{told.score:.6f}", told.kind]
    if asked.explain:
        fields.append(_name(found.heat_map) if found.heat_map else "")
    return fields


def _json_lines(
    predictions: "Iterable[Prediction]", classes: Sequence[str], asked: PredictSettings, target: TextIO
) -> int:
    failed = 0
    for found in predictions:
        row: dict[str, Any] = {"path": _name(found.path), "label": found.label, "probabilities": found.probabilities}
        if asked.min_confidence is not None:
            row["abstained"] = found.abstained
        if asked.nearest:
            row["nearest"] = [one._asdict() for one in found.nearest]
        if asked.familiarity:
            told = found.familiarity
            row |= {"familiarity": told and told.score, "kind": told and told.kind}
        if asked.explain:
            row["heat_map"] = _name(found.heat_map) if found.heat_map else None
        target.write(json.dumps(row | {"error": found.error}, ensure_ascii=False) + "\n")
        failed += found.error is not None
    return failed


def _table(
    predictions: "Iterable[Prediction]", classes: Sequence[str], asked: PredictSettings, target: TextIO, *, top: int = 1
) -> int:
    """Write a row a photo, and below it so many of its most probable classes, the label counted."""
    failed = 0
    width = max(len(printable(label)) for label in [*classes, ABSTAINED])
    for found in predictions:
        failed += found.error is not None
        if not found.probabilities:
            target.write(f"{'-':{width}}         {printable(f'{_name(found.path)}: {found.error}')}\n")
            continue
        best = max(found.probabilities.values()) if found.label is None else found.probabilities[found.label]
        told = found.familiarity
        familiar = "" if told is None else f"  familiarity {told.score:.3f}, {told.kind}"
        label, name = printable(found.label or ABSTAINED), printable(_name(found.path))
        target.write(f"{label:{width}}  {best:6.3f}  {name}{familiar}\n")
        for other in sorted(set(found.probabilities) - {found.label}, key=found.probabilities.__getitem__)[::-1][
            : top - 1
        ]:
            target.write(f"{printable(other):{width}}  {found.probabilities[other]:6.3f}\n")
        for one in found.nearest:
            like = printable(f"{one.path} ({one.label})")
            target.write(f"{'':{width}}  {one.similarity:6.3f}    like {like}\n")
    return failed


def _name(path: Path) -> str:
    r"""Return the path as text that any output takes; bytes that are no UTF-8 become ``\xNN``."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


if __name__ == "__main__":
    predict()
