"""A CSV of path, label and perhaps split, as a source of photos."""

import csv
from collections.abc import Iterator
from pathlib import Path

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


def from_csv(path: Path, root: Root) -> Source:
    """Read a CSV of labels; InputError with the line if it is none.

    That of `predict` is one, too: its photos without a label are rejected.
    """
    lines: dict[str, int] = {}
    rows: list[tuple[str, str, Split | None]] = []
    words: dict[Split, str] = {}
    rejected: list[Rejected] = []
    for line, row in _rows(path):
        relative = _relative(row["path"], root)
        if not row["label"] and "error" in row:
            rejected.append(Rejected(relative, row["error"] or "the classifier gave it no label"))
            continue
        problem = _problem(row, relative)
        if not problem and relative in lines:
            problem = f"{relative!r} is listed twice: expected once, received on line {lines[relative]} too"
        split = SPLITS_BY_WORD.get(split_word(row["split"])) if "split" in row else None
        if not problem and "split" in row and split is None:
            problem = f"expected a split (train, val or test) in every row, received {row['split']!r}"
        if problem:
            raise InputError(f"{path}, line {line}: {problem}")
        lines[relative] = line
        rows.append((relative, row["label"], split))
        if split:
            words.setdefault(split, row["split"])
    if words and "train" not in words:
        raise InputError(
            f"{path}: expected rows of the split 'train', received {', '.join(map(repr, words.values()))} only"
        )
    used, warnings = as_given(set(words), words)
    candidates = sorted(Candidate(relative, label, used[split] if split else None) for relative, label, split in rows)
    return Source(candidates, sorted(rejected), 0, warnings)


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a labels file with its line number; values other than the path are stripped of blanks."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            if not {"path", "label"} <= set(header):
                raise InputError(f"{path}, line 1: expected a header with path,label[,split], received {header}")
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: expected {len(header)} fields, received {len(fields)}"
                    )
                row = dict(zip(header, map(csv_cells.plain, fields), strict=True))
                yield (
                    reader.line_num,
                    {
                        name: row[name] if name == "path" else row[name].strip()
                        for name in ("path", "label", "split", "error")
                        if name in row
                    },
                )
    except FileNotFoundError:
        raise InputError(f"{path}: expected a CSV of path,label[,split], received nothing of that name") from None
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: expected CSV, received what is none: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8, received byte {error.object[error.start]:#x}") from error


def _relative(path: str, root: Root) -> str:
    """Return a path as the manifest writes it, without blanks around it unless they are part of the file's name."""
    relative = canonical(path)
    if path != path.strip() and isinstance(root, Path) and not (root / relative).exists():
        return canonical(path.strip())
    return relative


def _problem(row: dict[str, str], relative: str) -> str | None:
    if not row["path"]:
        return "expected a path, received none"
    if leaves_root(relative):
        return f"expected a path below the image root, received {row['path']!r}"
    if not row["label"]:
        return "expected a label, received none"
    return None
