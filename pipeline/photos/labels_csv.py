"""A CSV of path, label and perhaps split, as a source of photos."""

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipeline.errors import InputError
from pipeline.photos.manifest import leaves_root
from pipeline.photos.remote import Root
from pipeline.photos.source import (
    SPLITS_BY_WORD,
    Candidate,
    Rejected,
    Source,
    Split,
    as_given,
    canonical,
    split_word,
)
from pipeline.storage import csv_cells

NEEDED: Final = "a header with path,label[,split], separated by commas"
COLUMNS: Final = ("path", "label", "split", "error")
UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
LONGEST: Final = 100  # characters of a header that are told


def from_csv(path: Path, root: Root) -> Source:
    """Read a CSV of labels; InputError with the line if it is none.

    That of `predict` is one, too: its photos without a label are rejected, and its paths may lead to the root.
    """
    lines: dict[str, tuple[int, str]] = {}
    rows: list[tuple[str, str, Split | None]] = []
    words: dict[Split, str] = {}
    rejected: list[Rejected] = []
    warnings: list[str] = []
    absent = 0
    for line, row in _rows(path, warnings):
        relative, there = _relative(row["path"], root)
        if not row["label"] and "error" in row:
            rejected.append(Rejected(relative, row["error"] or "the classifier gave it no label"))
            continue
        problem = _problem(row, relative)
        if not problem and relative in lines:
            before, label = lines[relative]
            other = f", as {label!r} and as {row['label']!r}" if label != row["label"] else ""
            problem = f"{relative!r} is listed twice{other}: expected once, received on line {before} too"
        split = SPLITS_BY_WORD.get(split_word(row["split"])) if "split" in row else None
        if not problem and "split" in row and split is None:
            problem = f"expected a split (train, val or test) in every row, received {row['split']!r}"
        if problem:
            raise InputError(f"{path}, line {line}: {problem}")
        lines[relative] = line, row["label"]
        rows.append((relative, row["label"], split))
        absent += not there
        if split:
            words.setdefault(split, row["split"])
    _check(path, root, rows, rejected, absent)
    if words and "train" not in words:
        raise InputError(
            f"{path}: expected rows of the split 'train', received {', '.join(map(repr, words.values()))} only"
        )
    used, notes = as_given(set(words), words)
    candidates = sorted(Candidate(relative, label, used[split] if split else None) for relative, label, split in rows)
    return Source(candidates, sorted(rejected), 0, warnings + notes)


def _check(
    path: Path, root: Root, rows: list[tuple[str, str, Split | None]], rejected: list[Rejected], absent: int
) -> None:
    if not rows:
        first = "".join(f", and {len(rejected)} without, as {name} ({why})" for name, why in rejected[:1])
        raise InputError(f"{path}: expected rows with a label, received none{first}")
    labels = {label for _, label, _ in rows}
    if len(labels) == 1:
        raise InputError(f"{path}: expected at least two classes, received {min(labels)!r} in each row")
    if absent == len(rows):
        raise InputError(
            f"{path}: expected paths of files below {root}, with their suffix, received {len(rows)} of which none is "
            f"there, as {rows[0][0]!r}"
        )


def _rows(path: Path, warnings: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a labels file with its line number; values other than the path are stripped of blanks."""
    try:
        _require_text(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(filter(any, reader), [])]
            if not {"path", "label"} <= set(header):
                told = ",".join(header)[:LONGEST]
                raise InputError(f"{path}, line {max(1, reader.line_num)}: expected {NEEDED}, received {told!r}")
            for name, count in Counter(header).items():
                if count > 1 and name in COLUMNS:
                    raise InputError(f"{path}: expected one column {name!r}, received {count}")
            splits = set() if "split" in header else set(header) - set(COLUMNS)
            for fields in reader:
                if not any(map(str.strip, fields)):
                    continue
                if len(fields) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: expected {len(header)} fields, received {len(fields)}"
                    )
                row = dict(zip(header, map(csv_cells.plain, fields), strict=True))
                splits = {name for name in splits if _says_split(name, row[name])}
                yield (
                    reader.line_num,
                    {name: row[name] if name == "path" else row[name].strip() for name in COLUMNS if name in row},
                )
            warnings += [
                f"{path}: column {name!r} is not read: splits (train, val or test) are taken from a column 'split'"
                for name in sorted(splits)
            ]
    except FileNotFoundError:
        raise InputError(f"{path}: expected a CSV of path,label[,split], received nothing of that name") from None
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: expected CSV, received what is none: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8, received byte {error.object[error.start]:#x}") from error


def _says_split(name: str, value: str) -> bool:
    """Tell whether a column seems to hold splits: ``set`` with the value ``Train``, or ``is_valid`` with any."""
    return split_word(value) in SPLITS_BY_WORD or split_word(name.removeprefix("is_")) in SPLITS_BY_WORD


def _require_text(path: Path) -> None:
    """Raise InputError for what spreadsheets save as Unicode text, UTF-16, and for what is no text, as a workbook."""
    with path.open("rb") as file:
        start = file.read(LONGEST)
    if start.startswith(UTF_16) or b"\0" in start:
        found = "UTF-16" if start.startswith(UTF_16) or start[1:8:2] == bytes(4) else "a file that is no text"
        raise InputError(f"{path}: expected CSV in UTF-8, received {found}: save it again as such")


def _relative(path: str, root: Root) -> tuple[str, bool]:
    """Return a path as the manifest writes it, and whether a file is there, which of an address nobody asks.

    Where none is there, the path is read in other ways: without blanks around it, with the slashes of this machine,
    with accents encoded otherwise, and from the working directory, as `predict` writes it, or from the top.
    """
    relative = canonical(path)
    if not isinstance(root, Path):
        return (canonical(path.strip()) if path != path.strip() else relative), True
    if _is_there(root, relative):
        return relative, True
    plain = path.strip()
    for other in (plain, plain.replace("\\", "/"), *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))):
        for one in (other, os.path.relpath(other, root)):
            if one and _is_there(root, canonical(one)):
                return canonical(one), True
    return relative, False


def _is_there(root: Path, relative: str) -> bool:
    return not leaves_root(relative) and os.path.lexists(root / relative)


def _problem(row: dict[str, str], relative: str) -> str | None:
    if not row["path"]:
        return "expected a path, received none"
    if leaves_root(relative):
        return f"expected a path below the image root, received {row['path']!r}"
    if not row["label"]:
        return "expected a label, received none"
    return None
