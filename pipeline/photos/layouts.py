"""Where labelled images lie: folders or a CSV to candidates, each with its label and, if the source has it, its split.

Three kinds of source are understood:

* **Folders**: one folder a class, with folders inside it or not; below ``train``, ``val`` and ``test`` folders or not.
* **Names**: the class is in the file's name (``cat.0.jpg``), in one folder or below split folders.
* **CSV**: columns ``path``, ``label`` and optionally ``split``.

`train` with exactly one other split: the other is the test split, and validation is left to be taken from train.
Nothing is opened here, so what a file holds is not known: in a class folder every file is a candidate, whatever its
name.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final, cast

from pipeline.errors import InputError
from pipeline.photos.folder_tree import Folder, Tree
from pipeline.photos.labels_csv import from_csv
from pipeline.photos.remote import Root
from pipeline.photos.source import (
    SPLITS_BY_WORD,
    Candidate,
    Rejected,
    Source,
    Split,
    as_given,
    printable,
    some,
    split_word,
)
from pipeline.wording import counted

NAMED: Final = 5  # folders in a message
_WORD: Final = re.compile("[a-z]+")
REMEDY: Final = (
    r"expected one folder per class; where the names hold the class give `label_pattern` (as '^([a-z]+)\.' for "
    "cat.0.jpg), or give a CSV of path,label as `labels`"
)


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
        raise InputError("`labels` and `label_pattern` both say where labels are: expected one of them, received both")
    if labels_csv is not None:
        source = from_csv(labels_csv, root)
    else:
        source = _from_folders(root, None if label_pattern is None else _compiled(label_pattern))
    _check_labels(root, source)
    return replace(source, warnings=source.warnings + _look_alikes({one.label for one in source.candidates}))


def _check_labels(root: Root, source: Source) -> None:
    labels = sorted({candidate.label for candidate in source.candidates})
    if not labels:
        found = f"{len(source.rejected)} files that cannot be used" if source.rejected else "none"
        first = "".join(f", as {path} ({reason})" for path, reason in source.rejected[:1])
        raise InputError(f"{root}: expected images, received {found}{first}")
    if len(labels) == 1:
        raise InputError(f"{root}: expected at least two classes, received a single one: {labels[0]!r}: {REMEDY}")


def _look_alikes(labels: Iterable[str]) -> list[str]:
    """Return a warning for classes whose names differ only as `_likeness` says."""
    alike: dict[str, list[str]] = {}
    for label in sorted(labels):
        alike.setdefault(_likeness(label), []).append(label)
    return [
        f"{len(names)} classes have names that look alike: {', '.join(map(ascii, names))}. If they are one class, give "
        "them one name"
        for names in alike.values()
        if len(names) > 1
    ]


def _likeness(label: str) -> str:
    """Return a name without what people do not see in it, or mistake: case, blanks and dashes, encoding, zeros."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", label) if unicodedata.category(c) != "Cf")
    plain = " ".join(re.sub(r"[-_\u2010-\u2015]", " ", plain.casefold()).split())
    return str(Decimal(plain).normalize()) if re.fullmatch(r"[0-9]+([.][0-9]+)?", plain) else plain


def _misread(root: Root, base: str, candidates: Sequence[Candidate]) -> Iterator[str]:
    """Yield a warning for folders that are taken for the classes where others, or the splits, may be meant."""
    inner: dict[str, set[str]] = {}
    for candidate in candidates:
        below = candidate.path.removeprefix(f"{base}/" if base else "").split("/")
        inner.setdefault(candidate.label, set()).add(below[1] if len(below) > 2 else "")
    words = {SPLITS_BY_WORD.get(word) for label in inner for word in _WORD.findall(label.lower())} - {None}
    where = f"{root / printable(base)}: the folders {_named(inner)} are taken for the classes, though"
    counts = Counter(name for names in inner.values() for name in names)
    shared = sorted(name for name, count in counts.items() if count > 1)
    if "train" in words and len(words) > 1:
        yield f"{where} some are named like splits: if they are, call them train, val and test"
    elif shared and "" not in counts:
        yield f"{where} several of them hold {_named(shared)}: if these are the classes, or splits, they belong on top"


def _named(folders: Collection[str]) -> str:
    return some([repr(printable(name)) for name in sorted(folders)], NAMED, ", ")


# --- folders and names


def _from_folders(root: Root, pattern: re.Pattern[str] | None) -> Source:
    tree = Tree(root)
    base = _unwrapped(tree, pattern)
    folders = _split_folders(tree, base, pattern)
    candidates: list[Candidate] = []
    warnings: list[str] = []
    if folders is None:
        tops: list[tuple[Split | None, Folder]] = [(None, base)]
    else:
        _leave_out_strays(tree, base, "split folders")
        used, warnings = as_given(set(folders), {split: folder.name for split, folder in folders.items()})
        tops = [(used[split], _unnested(tree, folder)) for split, folder in folders.items()]
    for split, top in tops:
        if pattern is None:
            candidates += _by_class_folder(tree, top, split, warnings)
        else:
            candidates += _by_name(tree, top, split, pattern)
    if base.path:
        what = "classes" if folders is None else "splits"
        warnings.insert(0, f"{root} holds nothing but {printable(base.path)!r}: the folders in there are the {what}")
    candidates.sort()
    if folders is None and pattern is None:
        warnings += _misread(root, base.path, candidates)
    tree.rejected.sort()
    return Source(candidates, tree.rejected, tree.skipped, warnings)


def _unwrapped(tree: Tree, pattern: re.Pattern[str] | None) -> Folder:
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


def _unnested(tree: Tree, folder: Folder) -> Folder:
    """Descend from ``training_set`` to ``training_set/training_set``."""
    while True:
        listing = tree.peek(folder)
        if (
            len(listing.folders) != 1
            or listing.images
            or split_word(listing.folders[0].name) != split_word(folder.name)
        ):
            return folder
        _leave_out_strays(tree, folder, "split folder")
        folder = listing.folders[0]


def _split_folders(tree: Tree, base: Folder, pattern: re.Pattern[str] | None) -> dict[Split, Folder] | None:
    """Return the folders that are splits, or None where folders are classes: a class may well be called ``train``."""
    folders = tree.peek(base).folders
    known = [(SPLITS_BY_WORD.get(split_word(folder.name)), folder) for folder in folders]
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


def _holds_folders_only(tree: Tree, folder: Folder) -> bool:
    listing = tree.peek(folder)
    return bool(listing.folders) and not listing.images


def _leave_out_strays(tree: Tree, folder: Folder, beside: str) -> None:
    """Count the files beside folders that matter, such as a README; an image among them has no label."""
    listing = tree.peek(folder)
    if listing.images:
        strays = f"{counted(len(listing.images), 'image')}, as {sorted(listing.images)[0]}"
        raise InputError(
            f"{tree.root / folder.path}: {strays}, beside the {beside}, where nothing tells the class: "
            "expected every image inside one"
        )
    tree.skipped += len(listing.files)


def _by_class_folder(tree: Tree, top: Folder, split: Split | None, warnings: list[str]) -> Iterator[Candidate]:
    listing = tree.peek(top)
    if listing.images and not listing.folders:
        flat = f"{tree.root / top.path}: {counted(len(listing.images), 'image')} in a flat folder"
        if split == "test":
            raise InputError(
                f"{flat}: photos without a label test nothing. Move the folder away from the others, and label them "
                "with a trained head"
            )
        raise InputError(f"{flat}: {REMEDY}")
    _leave_out_strays(tree, top, "class folders")
    for folder in listing.folders:
        rejected = len(tree.rejected)
        paths = list(tree.files(folder))
        if not paths and len(tree.rejected) == rejected:
            warnings.append(f"class folder {printable(folder.path)!r} is empty")
        yield from (Candidate(path, folder.name, split) for path in paths)


def _by_name(tree: Tree, top: Folder, split: Split | None, pattern: re.Pattern[str]) -> Iterator[Candidate]:
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
        raise InputError(f"`label_pattern`: expected a regular expression, received {pattern!r}: {error}") from error
    if compiled.groups != 1:
        raise InputError(
            f"`label_pattern`: expected exactly one group (in parentheses) that is the label, received {pattern!r} "
            f"with {compiled.groups}"
        )
    return compiled


# --- CSV
