"""What an evaluation leaves for other stages to read: its numbers and the probabilities given to each test image.

The four files, in the folder of an evaluation, with their sha256 in ``digests.json``::

    evaluated.json     what was evaluated: sha256 of its ``head.json`` or ``model.json``, and of the head that it is
    all_metrics.json   every overall metric, flat, numbers only
    metrics.json       those of them that DVC tracks: each is a column of `dvc exp show`, for every evaluation
    predictions.csv    an image a row: path, digest, label, predicted, correct, confidence and p_LABEL of each class
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError
from pipeline.photos.manifest import leaves_root
from pipeline.storage import csv_cells
from pipeline.storage.atomic import publish_csv, published
from pipeline.storage.json_files import Document, fields_of, number, publish_digests, require_listed, whole
from pipeline.storage.regular_files import require_regular

Key = TypeVar("Key", Path, str)

EVALUATED: Final = "evaluated.json"
ALL_METRICS: Final = "all_metrics.json"
METRICS: Final = "metrics.json"
TRACKED: Final = tuple(f"{name}{end}" for name in ("accuracy", "log_loss", "ece") for end in ("", "_low", "_high"))
RANKED: Final = tuple(f"{metric}{end}" for metric in ("accuracy", "log_loss") for end in ("", "_low", "_high"))
ALL: Final = Document(
    "metrics",
    "`hs.evaluate`",
    {"images": whole(1), **{name: number() for name in RANKED}},
    each=number(),
    listed=True,
)
PREDICTIONS: Final = "predictions.csv"
COLUMNS: Final = ("path", "digest", "label", "predicted", "correct", "confidence")
PREFIX: Final = "p_"
SUM_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Predictions:
    """Test images with what was said of them.

    Attributes
    ----------
    paths : list of str, n
        POSIX, relative to the image root.
    digests : list of str, n
        sha256 of each file's bytes, in hexadecimal; no two are equal.
    labels : list of str, n
        The truth.
    predicted : list of str, n
        The most probable class, or the one that the head's threshold decides for.
    classes : list of str, K
    probabilities : ndarray of float64, shape (n, K)
    """

    paths: list[str]
    digests: list[str]
    labels: list[str]
    predicted: list[str]
    classes: list[str]
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.paths)


def write_metrics(out_dir: Path, numbers: Mapping[str, float]) -> None:
    """Publish ``all_metrics.json`` and ``metrics.json`` in a folder, which is made if it is missing.

    `numbers` holds with ``images`` how many were judged.
    """
    tracked = {name: numbers[name] for name in TRACKED if name in numbers}
    for name, chosen in ((ALL_METRICS, dict(numbers)), (METRICS, tracked)):
        with published(out_dir / name) as temporary:
            temporary.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    publish_digests(out_dir, (ALL_METRICS, METRICS))


def read_metrics(out_dir: Path) -> dict[str, float]:
    """Return the numbers of ``all_metrics.json``; ArtefactError if there is none, or it is damaged."""
    return ALL.read(out_dir / ALL_METRICS)


@dataclass(frozen=True)
class Subject:
    """What was evaluated.

    Attributes
    ----------
    identity : str
        sha256 of ``head.json`` or ``model.json``.
    head : str or None
        sha256 of the ``head.json`` of which it is, joined to its base or not; None for a model that training changed.
    started_from : str or None
        Then, of the head that its training began with.
    """

    identity: str
    head: str | None
    started_from: str | None = None


SUBJECT: Final = Document("what was evaluated", "`hs.evaluate`", fields_of(Subject), listed=True)


def write_evaluated(out_dir: Path, subject: Subject) -> None:
    """Publish ``evaluated.json``."""
    with published(out_dir / EVALUATED) as temporary:
        temporary.write_text(json.dumps(asdict(subject), indent=2) + "\n", encoding="utf-8")
    publish_digests(out_dir, (EVALUATED,))


def read_evaluated(out_dir: Path) -> Subject:
    """Return what was evaluated; ArtefactError if that file is missing or damaged."""
    found = SUBJECT.read(out_dir / EVALUATED)
    return Subject(found["identity"], found.get("head"), found.get("started_from"))


def subjects(out_dirs: Sequence[Path], names: Sequence[Key]) -> dict[Key, Subject]:
    """Return what was evaluated in each folder that tells, by the folder's name."""
    told = ((name, folder) for name, folder in zip(names, out_dirs, strict=True) if (folder / EVALUATED).exists())
    return {name: read_evaluated(folder) for name, folder in told}


def started(subjects: Mapping[Key, Subject]) -> dict[Key, Key]:
    """Return the fine-tuned models among them, each with the head that it started from, if that is one, too."""
    names = {one.identity: name for name, one in subjects.items()}
    return {name: names[one.started_from] for name, one in subjects.items() if one.started_from in names}


def write_predictions(out_dir: Path, found: Predictions) -> None:
    """Publish ``predictions.csv``, its numbers with nine digits."""
    columns = [*COLUMNS, *(f"{PREFIX}{label}" for label in found.classes)]
    codes = [found.classes.index(guess) for guess in found.predicted]
    confidence = found.probabilities[np.arange(len(found)), codes]
    rows = zip(found.paths, found.digests, found.labels, found.predicted, confidence, found.probabilities, strict=True)
    publish_csv(
        out_dir / PREDICTIONS,
        columns,
        (
            [path, digest, label, guess, int(label == guess), *(f"{number:.9g}" for number in (sure, *row))]
            for path, digest, label, guess, sure, row in rows
        ),
    )
    publish_digests(out_dir, (PREDICTIONS,))


def read_predictions(out_dir: Path) -> Predictions:
    """Read ``predictions.csv`` back.

    ArtefactError if there is none, it is not as it was written, holds no image or one image twice, or lacks a label's
    column.
    """
    path = out_dir / PREDICTIONS
    try:
        require_regular(path)
        data = path.read_bytes()
        table = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
        header, *rows = ([*map(csv_cells.plain, row)] for row in table)
        found = _parsed(header, rows)
    except (OSError, ValueError, csv.Error) as error:
        raise ArtefactError(
            f"{path}: expected predictions written by this version of `hs.evaluate`, received: {error}; evaluate again"
        ) from error
    require_listed(path, data, ALL.maker)
    return found


def _parsed(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Predictions:
    fixed = len(COLUMNS)
    classes = [column.removeprefix(PREFIX) for column in header[fixed:]]
    if tuple(header[:fixed]) != COLUMNS or not all(column.startswith(PREFIX) for column in header[fixed:]):
        raise ValueError(f"columns {','.join(header)[:200]}")
    if not rows:
        raise ValueError("no images")
    if len(set(classes)) != len(classes):
        raise ValueError("a class twice")
    if any(len(row) != len(header) for row in rows):
        raise ValueError("a row of another length")
    paths, digests, labels, predicted = ([row[column] for row in rows] for column in range(4))
    if outside := next(filter(leaves_root, paths), None):
        raise ValueError(f"the path {outside!r}, which is not below the image root")
    if len(set(digests)) != len(digests):
        raise ValueError("an image twice")
    if strange := sorted(set(labels + predicted) - set(classes)):
        raise ValueError(f"no probabilities of {', '.join(strange)[:200]}")
    probabilities = np.array([row[fixed:] for row in rows], np.float64)
    if not np.isfinite(probabilities).all():
        raise ValueError("NaN or infinity")
    if probabilities.min() < 0 or abs(probabilities.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise ValueError("probabilities that do not add up to 1")
    return Predictions(paths, digests, labels, predicted, classes, probabilities)
