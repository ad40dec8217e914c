"""What an audit found, as CSV: a finding a row, the surest first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.audit.findings import Findings
from pipeline.photos.duplicates.near_duplicates import Pairs
from pipeline.photos.manifest import Manifest
from pipeline.storage.atomic import publish_csv

DUPLICATES, ISSUES = "duplicates.csv", "label_issues.csv"
OUTLIERS, CONFUSABLE = "outliers.csv", "confusable.csv"

ONE: Final = ("path", "split", "label")
PAIR: Final = (*(f"{name}_a" for name in ONE), *(f"{name}_b" for name in ONE))
OUTLIERS_LISTED: Final = 100  # at least, so that the edge of the data can be seen even where nothing stands out

Fields = list[object]


def write(found: Findings, out_dir: Path) -> None:
    """Publish the four tables in a folder."""
    publish_csv(
        out_dir / DUPLICATES,
        ["kind", *PAIR, "bits", "likeness", "cosine", "turned", "leakage", "conflict"],
        [*_copies(found), *_same(found), *_alike(found)],
    )
    publish_csv(out_dir / ISSUES, [*ONE, "suggested", "p_label", "p_suggested", "margin", "confident"], _issues(found))
    publish_csv(out_dir / OUTLIERS, [*ONE, "distance", "own_class_distance", "score", "outlier"], _outliers(found))
    publish_csv(
        out_dir / CONFUSABLE,
        ["label_a", "label_b", "images", "confused", "told_apart", "low", "high", "inseparable"],
        _confusable(found),
    )


def _one(images: Manifest, row: int) -> Fields:
    return [images.paths[row], images.splits[row], images.labels[row]]


def _copies(found: Findings) -> Iterator[Fields]:
    for path, row in found.copies:
        first = _one(found.images, row)
        yield ["bytes", *first, path, *first[1:], 0, *_rounded(1.0, 1.0), 0, 0, 0]


def _same(found: Findings) -> Iterator[Fields]:
    leaks, differ = found.leaks(), found.contradictions()
    for place, row in enumerate(_pairs(found.images, found.duplicates.same, found.duplicates.cosines)):
        kind = "pixels" if found.duplicates.identical[place] else "near"
        yield [kind, *row, int(leaks[place]), int(differ[place])]


def _alike(found: Findings) -> Iterator[Fields]:
    cosines = found.duplicates.cosines[len(found.duplicates.same) :]
    for row in _pairs(found.images, found.duplicates.alike, cosines):
        yield ["alike", *row, 0, 0]


def _pairs(images: Manifest, pairs: Pairs, cosines: np.ndarray) -> Iterator[Fields]:
    for place in range(len(pairs)):
        sides = [*_one(images, pairs.first[place]), *_one(images, pairs.second[place])]
        measured = _rounded(pairs.likeness[place], cosines[place])
        yield [*sides, int(pairs.distances[place]), *measured, int(pairs.orientations[place] != 0)]


def _issues(found: Findings) -> Iterator[Fields]:
    classes = found.images.classes
    codes, issues = found.images.codes(classes), found.issues
    for image, suggested, margin, sure in zip(
        issues.images, issues.suggested, issues.margins, issues.confident, strict=True
    ):
        row = found.probabilities[image]
        own = row[codes[image]]
        yield [*_one(found.images, image), classes[suggested], *_rounded(own, row[suggested], margin), int(sure)]


def _outliers(found: Findings) -> Iterator[Fields]:
    distances = found.distances
    listed = max(int(distances.outlying.sum()), OUTLIERS_LISTED)
    for image in np.argsort(-distances.scores, kind="stable")[:listed]:
        numbers = _rounded(distances.overall[image], distances.own_class[image], distances.scores[image])
        yield [*_one(found.images, image), *numbers, int(distances.outlying[image])]


def _confusable(found: Findings) -> Iterator[Fields]:
    classes = found.images.classes
    for pair in found.confusable:
        numbers = [pair.images, pair.confused, *_rounded(pair.share, pair.low, pair.high)]
        yield [classes[pair.first], classes[pair.second], *numbers, int(pair.inseparable)]


def _rounded(*numbers: float) -> list[str]:
    return [f"{number:.4f}" for number in numbers]
