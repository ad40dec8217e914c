"""The manifest: one row an image, with its digest, label and split.

Paths, labels and splits live in this file and nowhere else. `preparation` makes it. Its sha256 stands in
``manifest.json`` beside it; people may edit it all the same, and then a reader says that it was edited.
"""

import csv
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from sys import intern
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, EditedWarning
from pipeline.photos.splits import FEWEST_VAL, SPLITS
from pipeline.storage import csv_cells, json_files
from pipeline.storage.atomic import publish_csv
from pipeline.storage.digests import of_file
from pipeline.storage.regular_files import require_regular

QUARANTINE: Final = "quarantine.csv"  # beside the manifest: what was not accepted
COLUMNS: Final = ("path", "digest", "label", "split", "width", "height", "format")


class Row(NamedTuple):
    """One image: `path` POSIX, relative to the image root; `digest` 32 bytes; upright `width` and `height` in px."""

    path: str
    digest: bytes
    label: str
    split: str
    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Manifest:
    """The columns of a manifest, one entry an image.

    Attributes
    ----------
    paths : list of str, N
        POSIX, relative to the image root.
    digests : ndarray of shape (N, 32), uint8
        sha256 of each file's bytes.
    labels : list of str, N
    splits : list of {"train", "val", "test"}, N
    widths, heights : ndarray of shape (N,), int32
        In px, of the upright image.
    formats : list of str, N
        One of `decode.FORMATS`.
    """

    paths: list[str]
    digests: NDArray[np.uint8]
    labels: list[str]
    splits: list[str]
    widths: NDArray[np.int32]
    heights: NDArray[np.int32]
    formats: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def classes(self) -> list[str]:
        """The distinct labels, sorted."""
        return sorted(set(self.labels))

    def codes(self, classes: Sequence[str]) -> NDArray[np.int64]:
        """Return where each image's label stands among some classes, (N,)."""
        code_of = {label: code for code, label in enumerate(classes)}
        return np.array([code_of[label] for label in self.labels], np.int64)

    def distinct(self, *splits: str) -> "Manifest":
        """Return the rows of some splits, one for each digest (that of the first path), in the order of the digests."""
        first: dict[bytes, int] = {}
        for index in sorted(range(len(self)), key=self.paths.__getitem__):
            if self.splits[index] in splits:
                first.setdefault(self.digests[index].tobytes(), index)
        return self.take([first[digest] for digest in sorted(first)])

    def learned(self) -> tuple["Manifest", "Manifest"]:
        """Return the distinct images to learn from, and those to choose and to stop by: train and val.

        Fewer than `FEWEST_VAL` validation images are learned from, too, and the second part is empty.
        """
        train, val = self.distinct("train"), self.distinct("val")
        return (train, val) if len(val) >= FEWEST_VAL else (self.distinct("train", "val"), val.take([]))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images of each class in each split."""
        found = Counter(zip(self.labels, self.splits, strict=True))
        return {label: {split: found[label, split] for split in SPLITS} for label in self.classes}

    def take(self, indices: Sequence[int]) -> "Manifest":
        """Return the rows at these indices, in their order."""
        where = np.array(indices, dtype=np.intp)
        return Manifest(
            paths=[self.paths[i] for i in indices],
            digests=self.digests[where],
            labels=[self.labels[i] for i in indices],
            splits=[self.splits[i] for i in indices],
            widths=self.widths[where],
            heights=self.heights[where],
            formats=[self.formats[i] for i in indices],
        )


def from_rows(rows: Sequence[Row]) -> Manifest:
    """Return rows as columns."""
    return Manifest(
        paths=[row.path for row in rows],
        digests=np.frombuffer(b"".join(row.digest for row in rows), dtype=np.uint8).reshape(-1, 32),
        labels=[row.label for row in rows],
        splits=[row.split for row in rows],
        widths=np.array([row.width for row in rows], dtype=np.int32),
        heights=np.array([row.height for row in rows], dtype=np.int32),
        formats=[row.format for row in rows],
    )


def write(manifest: Manifest, path: Path) -> None:
    """Publish a manifest as CSV: UTF-8, lines end in a line feed, digests are lower-case hexadecimal.

    After it ``manifest.json`` is published, with its sha256.
    """
    columns = (
        manifest.paths,
        (digest.tobytes().hex() for digest in manifest.digests),
        manifest.labels,
        manifest.splits,
        map(str, manifest.widths),
        map(str, manifest.heights),
        manifest.formats,
    )
    publish_csv(path, COLUMNS, zip(*columns, strict=True))
    json_files.publish(digests_of(path), {"files": {path.name: of_file(path)}})


def digests_of(path: Path) -> Path:
    """Return where the sha256 of a manifest stands: ``manifest.json`` beside it."""
    named = path.with_suffix(".json")
    return named if named != path else path.with_name(f"{path.name}.json")


def _tell_edited(path: Path) -> None:
    """Warn if a manifest is not as it was written, or if nobody can tell.

    Warns
    -----
    EditedWarning
        People edit a manifest by hand, and then know it; nobody knows of a flipped bit.
    """
    digests = digests_of(path)
    try:
        expected = json_files.LISTED.read(digests)["files"].get(path.name)
    except ArtefactError:
        expected = None
    received = of_file(path)
    if received != expected:
        told = (
            f"it was edited since `hs.prepare` wrote it, or is damaged: sha256 {received}, and not {expected}"
            if expected
            else f"{digests.name} beside it does not tell its sha256, so nobody knows whether it was edited"
        )
        warnings.warn(f"{path}: {told}", EditedWarning, stacklevel=3)


def read(path: Path) -> Manifest:
    """Read a manifest and verify each of its rows.

    Raises
    ------
    ArtefactError
        The file is missing, or a row is not what a manifest's rows are; the message names the line.

    Warns
    -----
    EditedWarning
        It is not as `hs.prepare` wrote it.
    """
    rows: list[Row] = []
    known: dict[str, int] = {}
    contents: dict[bytes, Row] = {}
    for line, fields in _read_csv(path):
        row = _row(fields, f"{path}, line {line}")
        before = known.setdefault(row.path, line)
        if before != line:
            raise ArtefactError(
                f"{path}, line {line}: expected each path once, received {row.path!r} of line {before} again"
            )
        same = contents.setdefault(row.digest, row)
        if (same.label, same.split) != (row.label, row.split):
            raise ArtefactError(
                f"{path}, line {line}: expected {same.label!r} in {same.split}, as the identical file of line "
                f"{known[same.path]}, received {row.label!r} in {row.split}"
            )
        rows.append(row)
    _tell_edited(path)
    return from_rows(rows)


def leaves_root(path: str) -> bool:
    """Tell whether a path of an image would be looked for outside the image root, or could be no path at all."""
    return path.startswith("/") or ".." in path.split("/") or "\0" in path


def _row(fields: list[str], where: str) -> Row:
    if len(fields) != len(COLUMNS):
        raise ArtefactError(f"{where}: expected {len(COLUMNS)} fields, received {len(fields)}")
    path, digest, label, split, width, height, name = fields
    if not path or not label:
        raise ArtefactError(f"{where}: expected a path and a label, received {path!r} and {label!r}")
    if leaves_root(path):
        raise ArtefactError(f"{where}: expected a path below the image root, received {path!r}")
    if len(digest) != 64 or digest.strip("0123456789abcdef"):
        raise ArtefactError(f"{where}: expected a digest of 64 hexadecimal digits, received {digest!r}")
    if split not in SPLITS:
        raise ArtefactError(f"{where}: expected the split train, val or test, received {split!r}")
    if not (width.isdecimal() and height.isdecimal() and len(width) < 10 and len(height) < 10):  # fits 32 bits
        raise ArtefactError(f"{where}: expected width and height in px, received {width!r} and {height!r}")
    # A million rows share a few labels, splits and formats: one string each.
    return Row(path, bytes.fromhex(digest), intern(label), intern(split), int(width), int(height), intern(name))


def _read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row of a manifest with the number of its (last) line."""
    try:
        require_regular(path)
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise ArtefactError(f"{path}, line 1: expected {','.join(COLUMNS)}, received {','.join(header)!r}")
            for fields in reader:
                yield reader.line_num, [*map(csv_cells.plain, fields)]
    except FileNotFoundError:
        raise ArtefactError(
            f"{path}: expected a manifest, as 'prepare' writes it, received nothing of that name"
        ) from None
    except IsADirectoryError:
        raise ArtefactError(f"{path}: expected a manifest, as 'prepare' writes it, received a folder") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ArtefactError(f"{path}: expected a manifest in CSV, received what is none: {error}") from error
