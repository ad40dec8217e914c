"""What the cache holds under all its specs: list it, find bit rot in it, remove what is not needed, explain a miss."""

import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, BusyError, InputError, storing
from pipeline.features import spec
from pipeline.features.cache import kept_graphs, kept_weights, row_cache, shard_files
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.cache.shard import Shard
from pipeline.storage import locks
from pipeline.storage.digests import as_keys
from pipeline.storage.locks import Writer
from pipeline.types import Progress

SHORT: Final = 8
_DAMAGED: Final = "*.damaged"
_REMOVED: Final = ".removed-"
_KEPT: Final = (kept_graphs, kept_weights)


@dataclass(frozen=True)
class Cached:
    """The rows of one spec.

    Attributes
    ----------
    folder : Path
        Where they lie; its name is the sha256 of the spec.
    spec : dict or None
        None where the description beside the rows is lost or damaged; the rows can be used all the same.
    rows, shards : int
        Of all views together.
    bytes : int
        Of all files, damaged and half-written ones among them.
    damaged : list of Path
        Files that were set aside, and shards whose header is none.
    writers : list of Writer
        The processes that are adding rows.
    """

    folder: Path
    spec: dict[str, Any] | None
    rows: int
    shards: int
    bytes: int
    damaged: list[Path]
    writers: list[Writer]

    @property
    def identity(self) -> str:
        """sha256 of the spec."""
        return self.folder.name

    @property
    def short(self) -> str:
        """The first digits of the identity, enough for people."""
        return self.identity[:SHORT]


class Waste(NamedTuple):
    """What can go: a file, or the folder of a spec; its size in bytes; what it is."""

    path: Path
    bytes: int
    what: str


def contents(root: Path) -> list[Cached]:
    """List what the cache at `root` holds, sorted by the sha256 of the spec. Of the shards only headers are read.

    StorageError if the disk fails, or a file may not be read.
    """
    return [_cached(folder) for folder in sorted((root / "rows").glob("[0-9a-f]*")) if folder.is_dir()]


def _cached(folder: Path) -> Cached:
    rows, opened, damaged = 0, 0, sorted(folder.rglob(_DAMAGED))
    for path in _shards(folder):
        try:
            rows += Shard.open(path).rows
            opened += 1
        except ArtefactError:
            damaged.append(path)
        except FileNotFoundError:
            continue  # removed just now
    at_work = [writer for view in _views(folder) for writer in locks.living(view / "locks")]
    return Cached(folder, _description(folder), rows, opened, _bytes(folder), damaged, at_work)


def _views(folder: Path) -> list[Path]:
    return sorted(view for view in folder.glob("view-*") if view.is_dir())


def _shards(folder: Path) -> list[Path]:
    return [path for view in _views(folder) for path in shard_files.shard_paths(view)]


def _description(folder: Path) -> dict[str, Any] | None:
    with storing(f"{folder}: cannot be read"), contextlib.suppress(FileNotFoundError):
        data = (folder / row_cache.SPEC_FILE).read_bytes()
        sound = hashlib.sha256(data).hexdigest() == folder.name
        return spec.ANY.parse(data, folder / row_cache.SPEC_FILE) if sound else None
    return None


def _bytes(path: Path) -> int:
    total = 0
    for file in path.rglob("*") if path.is_dir() else [path]:
        with contextlib.suppress(FileNotFoundError):
            total += file.lstat().st_size
    return total


def find(cached: Collection[Cached], digits: str) -> Cached:
    """Return the one spec whose sha256 begins with `digits`; InputError if none does, or several do."""
    meant = [one for one in cached if one.identity.startswith(digits.lower())]
    if len(meant) == 1:
        return meant[0]
    known = ", ".join(one.short for one in cached) or "none, the cache is empty"
    raise InputError(f"expected the first digits of one of the cached specs ({known}), received {digits!r}")


def verify(root: Path, progress: Progress) -> list[Path]:
    """Read all shards, graphs and weights in full, set aside what is damaged or of another spec, and return its names.

    `progress` is called with (files and graphs read so far, all of them). StorageError if the disk fails, or a file may
    not be read or set aside.
    """
    shards = [path for one in contents(root) for path in _shards(one.folder)]
    checks: list[tuple[Path, Callable[[Path], bool]]] = [(path, shard_files.verify_shard) for path in shards]
    checks += [(path, kind.verify) for kind in _KEPT for path in kind.kept(root)]
    damaged = []
    for done, (path, is_sound) in enumerate(checks, 1):
        damaged += [] if is_sound(path) else [path]
        progress(done, len(checks))
    return damaged


def waste(root: Path, unneeded: Collection[str]) -> list[Waste]:
    """List what can go: damaged files, what killed processes left, and rows and weights of specs that nobody needs.

    `unneeded` has the sha256 of those specs. One to which a writer is adding rows stays.
    """
    found = [Waste(path, _bytes(path), "half removed") for path in sorted((root / "rows").glob(f"{_REMOVED}*"))]
    found += [Waste(path, _bytes(path), "damaged") for kind in _KEPT for path in kind.set_aside(root)]
    held = contents(root)
    going = [one for one in held if one.identity in unneeded and not one.writers]
    found += [Waste(one.folder, one.bytes, f"{one.rows:,} rows") for one in going]
    staying = [one for one in held if one not in going]
    for one in staying:
        found += [Waste(path, _bytes(path), "damaged") for path in one.damaged]
        found += [Waste(path, _bytes(path), "left by a killed process") for path in _leftovers(one.folder)]
    orphans = kept_weights.orphans(root, [one.spec for one in going], [one.spec for one in staying])
    return found + [Waste(path, _bytes(path), "weights of what goes") for path in orphans]


def _leftovers(folder: Path) -> list[Path]:
    """Return half-written files and the locks of killed writers, while nobody writes."""
    # Listed before the writers are, so that a file of a writer who comes later is not among them.
    left = [path for place in (folder, *_views(folder)) for path in shard_files.leftovers(place)]
    held = [view / "locks" for view in _views(folder)]
    abandoned = [path for lock in held for path in locks.abandoned(lock)]
    return abandoned if any(locks.living(lock) for lock in held) else left + abandoned


def remove(unneeded: Waste) -> None:
    """Remove a file, or the folder of a spec: it is renamed first, so that no reader sees half of it.

    BusyError, and nothing was removed, if a writer has begun to add rows to the spec; StorageError if the cache cannot
    be written.
    """
    path = unneeded.path
    with storing(f"{path}: cannot be removed"), contextlib.suppress(FileNotFoundError):  # another removes it, too
        if path.is_dir():
            shutil.rmtree(path if path.name.startswith(_REMOVED) else _renamed(path))
        else:
            path.unlink(missing_ok=True)


def _renamed(folder: Path) -> Path:
    with contextlib.ExitStack() as held:
        for view in _views(folder):
            held.enter_context(locks.mutex(view / "locks"))
            for writer in locks.cleared(view / "locks"):
                raise BusyError(f"{folder}: {writer} is adding rows; nothing was removed")
        return folder.rename(folder.with_name(f"{_REMOVED}{uuid.uuid4().hex}"))


def count(root: Path, asked: spec.Spec, digests: NDArray[np.uint8], views: Sequence[str]) -> tuple[int, int]:
    """Count the rows that are cached under a spec, and the rows wanted: one for each distinct digest and view.

    Parameters
    ----------
    root : Path
        The cache folder.
    asked : mapping
        The spec.
    digests : ndarray of shape (n, 32), uint8
    views : sequence of str
        Their keys; ``0`` is the image itself.

    Raises
    ------
    StorageError
        The disk fails, or a file may not be read.
    """
    distinct = np.unique(as_keys(digests)).view(np.uint8).reshape(-1, 32)
    caches = [RowCache(root, spec=spec.canonical(asked), dtype=asked["dtype"], view=view) for view in views]
    cached = sum(int(np.count_nonzero(~rows.index().missing(distinct))) for rows in caches)
    return cached, len(distinct) * len(views)


class Near(NamedTuple):
    """A cached spec, the rows that count in it, and what sets it apart: (field, cached value, asked value)."""

    cached: Cached
    rows: int
    fields: list[tuple[str, Any, Any]]


def nearest(root: Path, asked: spec.Spec, digests: NDArray[np.uint8] | None = None) -> Near | None:
    """Return the cached spec, other than the one asked for, that differs in the fewest fields; None if there is none.

    Of several the one with the most rows is nearest; with `digests`, (n, 32), only rows of these images count.
    """
    itself = spec.identity(asked)
    others = [
        Near(one, rows, spec.differences(one.spec, asked))
        for one in contents(root)
        if one.spec is not None and one.identity != itself and (rows := _rows(root, one, digests))
    ]
    return min(others, key=lambda other: (len(other.fields), -other.rows), default=None)


def _rows(root: Path, one: Cached, digests: NDArray[np.uint8] | None) -> int:
    if digests is None or one.spec is None:
        return one.rows
    return count(root, one.spec, digests, [view.name.removeprefix("view-") for view in _views(one.folder)])[0]


def explain(root: Path, asked: spec.Spec, digests: NDArray[np.uint8] | None = None) -> str | None:
    """Say in one line what sets the spec asked for apart from the nearest cached one; None if there is no other."""
    found = nearest(root, asked, digests)
    if found is None:
        return None
    one, rows, fields = found
    listed = "; ".join(f"{field}: cached {_shown(cached)}, asked {_shown(value)}" for field, cached, value in fields)
    return f"nearest cached spec {one.short} ({rows:,} rows) differs in {listed}"


def _shown(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:SHORT] + "…" if len(text) == 64 and not text.strip("0123456789abcdef") else text
