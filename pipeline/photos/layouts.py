"""Where labelled images lie: folders or a CSV to candidates, each with its label and, if the source has it, its split.

Three kinds of source are understood:

* **Folders**: one folder a class, with folders inside it or not; below ``train``, ``val`` and ``test`` folders or not.
* **Names**: the class is in the file's name (``cat.0.jpg``), in one folder or below split folders.
* **CSV**: columns ``path``, ``label`` and optionally ``split``.

`train` with exactly one other split: the other is the test split, and validation is left to be taken from train.
Nothing is opened here, so what a file holds is not known: in a class folder every file is a candidate, whatever its
name.
"""

import csv
import errno
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal, NamedTuple, cast

from pipeline.errors import InputError, StorageError
from pipeline.photos.remote import Address, Root

Split = Literal["train", "val", "test"]

SPLITS_BY_WORD: Final[dict[str, Split]] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
IMAGE_SUFFIXES: Final = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".webp",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
    )
)
SYSTEM_NAMES: Final = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"})
REMEDY: Final = (
    r"expected one folder per class; where the names hold the class give --label-pattern (as '^([a-z]+)\.' for "
    "cat.0.jpg), or give a CSV of path,label with --labels"
)


class Candidate(NamedTuple):
    """A file that may be an image: `path` relative to the root (POSIX), `label`, and `split` if the source has one."""

    path: str
    label: str
    split: Split | None


class Rejected(NamedTuple):
    """A file that is not accepted: `path` relative to the root (POSIX, always valid UTF-8), and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Source:
    """What was found below an image root.

    Attributes
    ----------
    candidates : list of Candidate
        Sorted by path. Either none of them has a split, or all have: train and test, or train, val and test.
    rejected : list of Rejected
        Names that cannot be used; sorted by path.
    skipped : int
        Hidden and system files and folders, and other files beside the class folders that are no images by name.
    warnings : list of str
        What the user should know about the source.
    """

    candidates: list[Candidate]
    rejected: list[Rejected]
    skipped: int
    warnings: list[str]


def discover(root: Root, *, labels_csv: Path | None, label_pattern: str | None) -> Source:
    """List the images below a folder with their labels.

    Parameters
    ----------
    root : Path or Address
        The image root. Of an address, only what its protocol can list is found.
    labels_csv : Path or None
        A CSV with a header and the columns ``path`` (relative to `root`), ``label`` and optionally ``split``; other
        columns are ignored, so a manifest will do. Then the folders themselves are not looked at.
    label_pattern : str or None
        A regular expression whose one group, searched in a file's name, is its label. Then folders are no classes.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        The folder is none, holds no images or a single class, or is laid out in a way that leaves the labels open.
    StorageError
        A folder cannot be read.
    """
    if (labels_csv is None or isinstance(root, Path)) and not root.is_dir():
        received = "a file" if isinstance(root, Path) and root.is_file() else "nothing of that name"
        raise InputError(f"{root}: expected a folder of images, received {received}")
    if labels_csv is not None and label_pattern is not None:
        raise InputError("--labels and --label-pattern both say where labels are: expected one of them, received both")
    if labels_csv is not None:
        source = _from_csv(labels_csv)
    else:
        source = _from_folders(root, None if label_pattern is None else _compiled(label_pattern))
    _check_labels(root, source)
    return source


def printable(path: str) -> str:
    r"""Return a path as valid UTF-8; bytes that are none become ``\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def canonical(path: str) -> str:
    """Return a relative path as the manifest writes it: ``./cats//a.jpg`` becomes ``cats/a.jpg``."""
    return str(PurePosixPath(path))


def _check_labels(root: Root, source: Source) -> None:
    labels = sorted({candidate.label for candidate in source.candidates})
    if not labels:
        found = f"{len(source.rejected)} files that cannot be used" if source.rejected else "none"
        first = "".join(f", as {path} ({reason})" for path, reason in source.rejected[:1])
        raise InputError(f"{root}: expected images, received {found}{first}")
    if len(labels) == 1:
        raise InputError(f"{root}: expected at least two classes, received a single one: {labels[0]!r}: {REMEDY}")


def _as_given(found: set[Split], others: dict[Split, str]) -> tuple[dict[Split, Split | None], list[str]]:
    """Say what each split of a source is used as: `train` with exactly one other makes that one the test split."""
    if found == {"train"}:
        return {"train": None}, []
    if found == {"train", "val"}:
        warning = (
            f"the source has train and {others['val']!r} only: it is the test split, validation is taken from train"
        )
        return {"train": "train", "val": "test"}, [warning]
    return {split: split for split in found}, []


# --- folders and names


@dataclass(frozen=True)
class _Folder:
    """A folder below the root: `path` (empty for the root), and what it takes to notice that a link leads back."""

    path: str
    chain: frozenset[tuple[int, int]]  # (st_dev, st_ino) of the folder and of all above it

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class _Listing(NamedTuple):
    folders: list[_Folder]
    files: list[str]  # paths

    @property
    def images(self) -> list[str]:
        """The files that are images by their name."""
        return [path for path in self.files if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES]  # noqa: PTH122


@dataclass
class _Tree:
    """The folders below a root, each listed once; collects what is rejected and skipped on the way."""

    root: Root
    rejected: list[Rejected] = field(default_factory=list)
    skipped: int = 0
    peeked: dict[str, _Listing] = field(default_factory=dict)

    def top(self) -> _Folder:
        return _Folder("", frozenset({_identity(self.root)} if isinstance(self.root, Path) else ()))

    def peek(self, folder: _Folder) -> _Listing:
        """List a folder, and keep the listing for the next call."""
        if folder.path not in self.peeked:
            self.peeked[folder.path] = self._scan(folder)
        return self.peeked[folder.path]

    def files(self, top: _Folder) -> Iterator[str]:
        """Yield the paths of all files below a folder."""
        stack = [top]
        while stack:
            folder = stack.pop()
            listing = self.peeked.pop(folder.path, None) or self._scan(folder)
            stack.extend(listing.folders)
            yield from listing.files

    def _scan(self, folder: _Folder) -> _Listing:
        listing = _Listing([], [])
        if isinstance(self.root, Address):
            self._list(self.root / folder.path, folder, listing)
            return listing
        try:
            with os.scandir(self.root / folder.path) as entries:
                for entry in entries:
                    self._sort_in(entry, folder, listing)
        except OSError as error:
            raise StorageError(f"{self.root / folder.path}: the folder cannot be read: {error.strerror}") from error
        listing.folders.sort(key=lambda inner: inner.path)
        return listing

    def _list(self, address: Address, folder: _Folder, listing: _Listing) -> None:
        for name, is_folder in address.entries():
            path = f"{folder.path}/{name}" if folder.path else name
            if self._is_hidden(name):
                self.skipped += 1
            elif is_folder:
                listing.folders.append(_Folder(path, folder.chain))
            else:
                listing.files.append(path)

    def _is_hidden(self, name: str) -> bool:
        return name.startswith(".") or name.lower() in SYSTEM_NAMES

    def _sort_in(self, entry: os.DirEntry[str], folder: _Folder, listing: _Listing) -> None:
        if self._is_hidden(entry.name):
            self.skipped += 1
            return
        path = f"{folder.path}/{entry.name}" if folder.path else entry.name
        try:
            if entry.is_dir():
                identity = _identity(Path(entry.path))
                if identity in folder.chain:
                    self._reject(path, "a link to a folder above it")
                else:
                    listing.folders.append(_Folder(path, folder.chain | {identity}))
            elif not entry.is_file():
                self._reject(path, "a broken link" if entry.is_symlink() else "not a regular file")
            elif _is_utf8(path):
                listing.files.append(path)
            else:
                self._reject(path, "the name is not UTF-8")
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            self._reject(path, "a loop of links")

    def _reject(self, path: str, reason: str) -> None:
        self.rejected.append(Rejected(printable(path), reason))


def _from_folders(root: Root, pattern: re.Pattern[str] | None) -> Source:
    tree = _Tree(root)
    base = _unwrapped(tree, pattern)
    folders = _split_folders(tree, base, pattern)
    candidates: list[Candidate] = []
    warnings: list[str] = []
    if folders is None:
        tops: list[tuple[Split | None, _Folder]] = [(None, base)]
    else:
        _leave_out_strays(tree, base, "split folders")
        used, warnings = _as_given(set(folders), {split: folder.name for split, folder in folders.items()})
        tops = [(used[split], _unnested(tree, folder)) for split, folder in folders.items()]
    for split, top in tops:
        if pattern is None:
            candidates += _by_class_folder(tree, top, split, warnings)
        else:
            candidates += _by_name(tree, top, split, pattern)
    candidates.sort()
    tree.rejected.sort()
    return Source(candidates, tree.rejected, tree.skipped, warnings)


def _unwrapped(tree: _Tree, pattern: re.Pattern[str] | None) -> _Folder:
    """Descend from the root while all it holds is one folder of folders, as archives are often packed."""
    base = tree.top()
    while True:
        listing = tree.peek(base)
        if len(listing.folders) != 1 or listing.images:
            return base
        if pattern is None and not tree.peek(listing.folders[0]).folders:
            return base  # a class
        _leave_out_strays(tree, base, "wrapping folder")
        base = listing.folders[0]


def _unnested(tree: _Tree, folder: _Folder) -> _Folder:
    """Descend from ``training_set`` to ``training_set/training_set``."""
    while True:
        listing = tree.peek(folder)
        if len(listing.folders) != 1 or listing.images or _word(listing.folders[0].name) != _word(folder.name):
            return folder
        _leave_out_strays(tree, folder, "split folder")
        folder = listing.folders[0]


def _split_folders(tree: _Tree, base: _Folder, pattern: re.Pattern[str] | None) -> dict[Split, _Folder] | None:
    """Return the folders that are splits, or None where folders are classes: a class may well be called ``train``."""
    folders = tree.peek(base).folders
    known = [(SPLITS_BY_WORD.get(_word(folder.name)), folder) for folder in folders]
    names = ", ".join(repr(printable(folder.name)) for folder in folders)
    where = tree.root / printable(base.path)
    trains = [folder for split, folder in known if split == "train"]
    if not trains:
        if len(folders) > 1 and all(split for split, _ in known):
            raise InputError(f"{where}: expected a train folder beside the other splits, received {names}")
        return None
    if len(folders) == 2 and len(trains) == 1:
        (other_split, other), *_ = [pair for pair in known if pair[1] not in trains]
        if other_split:
            return {"train": trains[0], other_split: other}
        if pattern or all(_holds_folders_only(tree, folder) for folder in folders):
            return {"train": trains[0], "test": other}
        return None
    if not any(split and split != "train" for split, _ in known):
        return None
    counts = Counter(split for split, _ in known)
    if None in counts or max(counts.values()) > 1:
        raise InputError(f"{where}: expected one folder each for train, val and test, received {names}")
    return {cast(Split, split): folder for split, folder in known}


def _holds_folders_only(tree: _Tree, folder: _Folder) -> bool:
    listing = tree.peek(folder)
    return bool(listing.folders) and not listing.images


def _word(name: str) -> str:
    """Reduce a folder's name to a key of `SPLITS_BY_WORD`: ``Training_Set`` to ``training``."""
    return re.sub(r"[-_ ]", "", name.lower()).removesuffix("set")


def _leave_out_strays(tree: _Tree, folder: _Folder, beside: str) -> None:
    """Count the files beside folders that matter, such as a README; an image among them has no label."""
    listing = tree.peek(folder)
    if listing.images:
        raise InputError(
            f"{tree.root / folder.path}: {len(listing.images)} images, as {sorted(listing.images)[0]}, lie beside the "
            f"{beside}, where nothing tells their class: expected every image inside one"
        )
    tree.skipped += len(listing.files)


def _by_class_folder(tree: _Tree, top: _Folder, split: Split | None, warnings: list[str]) -> Iterator[Candidate]:
    listing = tree.peek(top)
    if listing.images and not listing.folders:
        raise InputError(f"{tree.root / top.path}: {len(listing.images)} images lie in a flat folder: {REMEDY}")
    _leave_out_strays(tree, top, "class folders")
    for folder in listing.folders:
        rejected = len(tree.rejected)
        paths = list(tree.files(folder))
        if not paths and len(tree.rejected) == rejected:
            warnings.append(f"class folder {printable(folder.path)!r} is empty")
        yield from (Candidate(path, folder.name, split) for path in paths)


def _by_name(tree: _Tree, top: _Folder, split: Split | None, pattern: re.Pattern[str]) -> Iterator[Candidate]:
    for path in tree.files(top):
        match = pattern.search(path.rpartition("/")[2])
        if match and match[1]:
            yield Candidate(path, match[1], split)
        else:
            tree.rejected.append(Rejected(path, f"the name does not match the label pattern {pattern.pattern!r}"))


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--label-pattern: expected a regular expression, received {pattern!r}: {error}") from error
    if compiled.groups != 1:
        raise InputError(
            f"--label-pattern: expected exactly one group (in parentheses) that is the label, received {pattern!r} "
            f"with {compiled.groups}"
        )
    return compiled


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- CSV


def _from_csv(path: Path) -> Source:
    lines: dict[str, int] = {}
    rows: list[tuple[str, str, Split | None]] = []
    words: dict[Split, str] = {}
    for line, row in _rows(path):
        relative = canonical(row["path"])
        problem = _problem(row, relative)
        if not problem and relative in lines:
            problem = f"{relative!r} is listed twice: expected once, received on line {lines[relative]} too"
        split = SPLITS_BY_WORD.get(_word(row["split"])) if "split" in row else None
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
    used, warnings = _as_given(set(words), words)
    candidates = sorted(Candidate(relative, label, used[split] if split else None) for relative, label, split in rows)
    return Source(candidates, [], 0, warnings)


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
                row = dict(zip(header, fields, strict=True))
                yield (
                    reader.line_num,
                    {
                        name: row[name] if name == "path" else row[name].strip()
                        for name in ("path", "label", "split")
                        if name in row
                    },
                )
    except FileNotFoundError:
        raise InputError(f"{path}: expected a CSV of path,label[,split], received nothing of that name") from None
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: expected CSV, received what is none: {error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8, received byte {error.object[error.start]:#x}") from error


def _problem(row: dict[str, str], relative: str) -> str | None:
    if not row["path"]:
        return "expected a path, received none"
    if relative.startswith("/") or ".." in relative.split("/") or "\0" in relative:
        return f"expected a path below the image root, received {row['path']!r}"
    if not row["label"]:
        return "expected a label, received none"
    return None
