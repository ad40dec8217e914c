"""What a source of photos gives: candidates with their labels, and what was left out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, NamedTuple

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


def printable(path: str) -> str:
    r"""Return a path as valid UTF-8; bytes that are none become ``\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def canonical(path: str) -> str:
    """Return a relative path as the manifest writes it: ``./cats//a.jpg`` becomes ``cats/a.jpg``."""
    return str(PurePosixPath(path))


def is_utf8(path: str) -> bool:
    """Whether a path can be written down as text."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_given(found: set[Split], others: dict[Split, str]) -> tuple[dict[Split, Split | None], list[str]]:
    """Say what each split of a source is used as: `train` with exactly one other makes that one the test split."""
    if found == {"train"}:
        return {"train": None}, []
    if found == {"train", "val"}:
        warning = (
            f"the source has train and {others['val']!r} only: it is the test split, validation is taken from train"
        )
        return {"train": "train", "val": "test"}, [warning]
    return {split: split for split in found}, []


def split_word(name: str) -> str:
    """Reduce a folder's name to a key of `SPLITS_BY_WORD`: ``Training_Set`` to ``training``."""
    return re.sub(r"[-_ ]", "", name.lower()).removesuffix("set")


def some(names: Sequence[str], most: int = 10, between: str = "; ") -> str:
    """Join names for a message, which must stay one readable line."""
    rest = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return between.join([*names[:most], *rest])
