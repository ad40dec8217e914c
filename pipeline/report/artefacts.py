"""The artefacts of other stages as plain rows and objects, refused with their name where they are not what they were.

What an option names must be there. What an older or another run did not leave beside it may be absent: then there is
no row of it.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.errors import ArtefactError, InputError
from pipeline.evaluation import compare, predictions_file
from pipeline.evaluation.predictions_file import Predictions
from pipeline.features.probe.cut_file import CUT
from pipeline.heads import training_time
from pipeline.heads.store import HEAD, HEAD_FILE, SEARCH_FILE, require_digest
from pipeline.models.model import MODEL, MODEL_FILE
from pipeline.storage import csv_cells, json_files
from pipeline.storage.digests import of_file
from pipeline.storage.json_files import whole
from pipeline.storage.regular_files import require_regular

Row = dict[str, str]
Document = dict[str, Any]

AUDIT: Final = json_files.Document(
    "an audit", "`hs.audit`", dict.fromkeys(("images", "leakage", "conflicts"), whole()), each=whole(), listed=True
)


@dataclass(frozen=True)
class Evaluated:
    """One head or model as it was judged, and what is known of how it was made.

    Attributes
    ----------
    name : str
        That of the folder.
    folder : Path
        Written by `evaluate`.
    metrics : dict
        As in ``all_metrics.json``.
    predictions : Predictions
    classes : list of Row
        Precision, recall and F1 of each class, as text.
    curves : list of Row
        An epoch a row; none for a head without epochs.
    reliability : list of Row
        A bin of confidences a row; none where the evaluation left none.
    trained : Path or None
        The folder of the head or model that was evaluated; None if that is not among those given.
    record : dict or None
        Its ``head.json`` or ``model.json``.
    search : list of Row
        A candidate a row; none without a search.
    cost : dict or None
        What its training took.
    """

    name: str
    folder: Path
    metrics: dict[str, float]
    predictions: Predictions
    classes: list[Row]
    curves: list[Row]
    reliability: list[Row]
    trained: Path | None
    record: Document | None
    search: list[Row]
    cost: Document | None


@dataclass(frozen=True)
class Probed:
    """``cut.json`` with the tables beside it."""

    cut: Document
    layers: list[Row]
    backbones: list[Row]


@dataclass(frozen=True)
class Audited:
    """``audit.json`` with the tables beside it."""

    counts: dict[str, int]
    duplicates: list[Row]
    label_issues: list[Row]
    outliers: list[Row]
    confusable: list[Row]


def rows(path: Path, columns: Sequence[str], step: str, *, optional: bool = False, listed: bool = True) -> list[Row]:
    """Read a table.

    Parameters
    ----------
    path : Path
        UTF-8 CSV with a header.
    columns : sequence of str
        Those it must have.
    step : str
        Who writes it, for the message.
    optional : bool
        Whether a missing file is a table without rows.
    listed : bool
        Whether its digest stands in the ``digests.json`` beside it.

    Raises
    ------
    ArtefactError
        It is missing, is no CSV, lacks a column, or is not as it was written.
    """
    if optional and not path.exists():
        return []
    try:
        require_regular(path)
        data = path.read_bytes()
        table = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
        header, *lines = [[*map(csv_cells.plain, line)] for line in table] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtefactError(f"{path}: expected a table written by `hs.{step}`, received: {error}") from error
    if missing := [column for column in columns if column not in header]:
        raise ArtefactError(
            f"{path}: expected the columns {', '.join(columns)} of `hs.{step}`, received none named "
            f"{', '.join(missing)}"
        )
    if any(len(line) != len(header) for line in lines):
        raise ArtefactError(f"{path}: expected {len(header)} fields in each row, received another number")
    if listed:
        json_files.require_listed(path, data, f"`hs.{step}`")
    return [dict(zip(header, line, strict=True)) for line in lines]


def numeric(row: Row, column: str) -> float:
    """Return a field as a number; NaN where it is empty, absent or none."""
    try:
        return float(row.get(column) or math.nan)
    except ValueError:
        return math.nan


def probed(cut_path: Path) -> Probed:
    """Read what `probe` left: ``cut.json``, ``layers.csv`` and, if bases were compared, ``backbones.csv``."""
    estimated = ("accuracy", "accuracy_low", "accuracy_high", "shown")
    layers = ("cut", "depth", "pooling", *estimated, "bytes", "multiply_adds")
    contenders = ("backbone", "size", "cut", "pooling", *estimated)
    return Probed(
        CUT.read(cut_path),
        rows(cut_path.with_name("layers.csv"), layers, "probe"),
        rows(cut_path.with_name("backbones.csv"), contenders, "probe", optional=True),
    )


def audited(folder: Path) -> Audited:
    """Read what `audit` left in its folder."""
    one, pair = ("path", "split", "label"), ("kind", "path_a", "path_b", "leakage", "conflict")
    return Audited(
        AUDIT.read(folder / "audit.json"),
        rows(folder / "duplicates.csv", pair, "audit"),
        rows(folder / "label_issues.csv", (*one, "suggested", "p_suggested", "confident"), "audit"),
        rows(folder / "outliers.csv", (*one, "score", "outlier"), "audit"),
        rows(folder / "confusable.csv", ("label_a", "label_b", "told_apart", "inseparable"), "audit"),
    )


def evaluated(folders: Sequence[Path], trained: Sequence[Path], reports: Path | None) -> list[Evaluated]:
    """Read evaluations, each with the head or model that it is of and with its cost, where these are given.

    Parameters
    ----------
    folders : sequence of Path
        Written by `evaluate`, or folders of such folders.
    trained : sequence of Path
        Heads, models, or folders of such. What was evaluated is found by its digest, whatever it is named; by its name
        only where the evaluation tells no digest.
    reports : Path or None
        Folder of ``NAME.json``.

    Raises
    ------
    ArtefactError
        A file is missing or damaged.
    InputError
        Two evaluations have the same name.
    """
    found, _ = compare.once_each(compare.expand(folders))
    names = [folder.name for folder in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"expected evaluations of different names, received {', '.join(twice)} twice")
    made = records(trained)
    by_name, by_digest = {path.parent.name: path for path in made}, {of_file(path): path for path in made}
    told = predictions_file.subjects(found, found)
    record_of = {
        folder: by_digest.get(told[folder].identity) if folder in told else by_name.get(folder.name) for folder in found
    }
    return [_evaluated(folder, record_of[folder], reports) for folder in found]


def _evaluated(folder: Path, record: Path | None, reports: Path | None) -> Evaluated:
    predictions = predictions_file.read_predictions(folder)
    cost = None if reports is None else reports / f"{folder.name}.json"
    classes = ("label", "images", "precision", "recall", "f1")
    made = _record(record, predictions.classes) if record else None
    return Evaluated(
        name=folder.name,
        folder=folder,
        metrics=predictions_file.read_metrics(folder),
        predictions=predictions,
        classes=rows(folder / "classes.csv", classes, "evaluate"),
        curves=rows(folder / "learning_curves.csv", ("epoch", "loss", "accuracy"), "evaluate", optional=True),
        reliability=rows(
            folder / "reliability.csv", ("temperature", "images", "confidence"), "evaluate", optional=True
        ),
        trained=record and record.parent,
        record=made,
        search=_search(record, made["files"]) if record and made else [],
        cost=asdict(training_time.read(cost)) if cost and cost.exists() else None,
    )


def _record(path: Path, classes: Sequence[str]) -> Document:
    """Read ``head.json`` or ``model.json``; its classes must be those that were judged."""
    kind = HEAD if path.name == HEAD_FILE else MODEL
    found = kind.read(path)
    if found["classes"] != classes:
        kind.refuse(path, f"classes {', '.join(classes)}, as it was evaluated", ", ".join(found["classes"]))
    return found


def _search(record: Path, files: dict[str, str]) -> list[Row]:
    """Read the table of the search that a head's record lists; none if it lists none."""
    if SEARCH_FILE not in files:
        return []
    path = record.with_name(SEARCH_FILE)
    require_digest(HEAD, path, files[SEARCH_FILE])
    return rows(path, ("loss", "choice"), "train", listed=False)


def records(trained: Sequence[Path]) -> list[Path]:
    """Return each ``head.json`` and ``model.json`` of heads, models, or folders of such; else ArtefactError."""
    found: list[Path] = []
    for folder in trained:
        inside = [path for name in (HEAD_FILE, MODEL_FILE) for path in _at(folder, name)]
        if not inside:
            raise ArtefactError(f"{folder}: expected a head, a model, or folders of such in it, received none")
        found += inside
    return found


def _at(folder: Path, name: str) -> list[Path]:
    return [folder / name] if (folder / name).exists() else sorted(folder.glob(f"*/{name}"))


def compared(folder: Path, judged: Sequence[Evaluated]) -> Document:
    """Read ``comparison.json``; ArtefactError if it is missing, damaged, or of other evaluations."""
    path = folder / compare.SUMMARY
    found = compare.COMPARED.read(path)
    theirs = {place["name"]: place["accuracy"] for place in found["ranking"]}
    ours = {one.name: one.metrics["accuracy"] for one in judged}
    if theirs != ours:
        raise ArtefactError(
            f"{path}: expected a comparison of {_told(ours)}, received one of {_told(theirs)}; compare again"
        )
    return found


def _told(accuracies: dict[str, float]) -> str:
    return ", ".join(f"{name} ({accuracy})" for name, accuracy in sorted(accuracies.items()))
