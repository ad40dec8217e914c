"""Weights that somebody gave as a file, and graphs in int8, kept by their sha256: what was trained on them finds them.

::

    <root>/weights/<sha256>       in the cache
    <head>/base-weights           in the folder of a head that carries them
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pipeline.backbones.weights import Weights
from pipeline.errors import ArtefactError, StorageError, WeightsError, storing
from pipeline.features.spec import Spec
from pipeline.storage import digests
from pipeline.storage.atomic import published
from pipeline.storage.json_files import SHA256

FOLDER: Final = "weights"
CARRIED: Final = "base-weights"
LARGEST: Final = 2**33  # bytes; the largest base of the table has 1.4 GB, and an optimiser's state may lie beside it
_DAMAGED: Final = ".damaged"


def keep(root: Path, path: Path, sha256: str) -> None:
    """Copy weights into the cache at `root`, unless they are there. One that is full or read-only keeps none."""
    place = root / FOLDER / sha256
    if not place.is_file():
        with contextlib.suppress(OSError):
            copy(path, place, sha256)


def carry(folder: Path, weights: Weights | None) -> None:
    """Copy weights into the folder of a head; without any that lie in a file, remove those that stood there before.

    StorageError if the disk fails, is full or cannot be written.
    """
    place = folder / CARRIED
    with storing(f"{place}: cannot be written"):
        if weights and weights.path and weights.sha256:
            copy(weights.path, place, weights.sha256)
        else:
            place.unlink(missing_ok=True)


def copy(path: Path, place: Path, sha256: str) -> None:
    """Copy weights; StorageError if the copy has another sha256. An OSError of the disk is the caller's."""
    with published(place) as aside:
        shutil.copyfile(path, aside)
        if (received := digests.of_file(aside)) != sha256:
            raise StorageError(f"{path}: expected sha256 {sha256}, received {received} as it was copied")


def carried(folder: Path, sha256: str) -> Path | None:
    """Return the weights that the folder of a head carries; None if it carries none.

    ArtefactError if they are not those that the head was trained on, or no file, or larger than any weights.
    """
    place = folder / CARRIED
    if not os.path.lexists(place):
        return None
    if not place.is_file() or place.stat().st_size > LARGEST:
        raise ArtefactError(f"{place}: expected a file of weights of at most {LARGEST:,} bytes, received another thing")
    if (received := digests.of_file(place)) != sha256:
        raise ArtefactError(
            f"{place}: expected sha256 {sha256}, as the head beside it says, received {received}; put the weights "
            "there, or remove the file"
        )
    return place


def find(root: Path, sha256: str) -> Path | None:
    """Return weights that the cache at `root` keeps; None if it has none, or if they are damaged and were set aside."""
    place = root / FOLDER / sha256
    return place if place.is_file() and verify(place) else None


def graph_of(described: Spec, source: Path, root: Path | None) -> Weights | None:
    """Return the graph that a spec in int8 names, which its folder carries or the cache keeps; None for another spec.

    Parameters
    ----------
    described : mapping
        The spec.
    source : Path
        What has it.
    root : Path or None
        The cache folder.

    Raises
    ------
    ArtefactError
        The spec names none, or the graph beside it is not its own.
    WeightsError
        The graph is nowhere.
    """
    if described.get("precision") != "int8":
        return None
    sha256 = str((described.get("graph") or {}).get("sha256"))
    if not SHA256.fits(sha256):
        raise ArtefactError(f"{source}: graph.sha256: expected {SHA256.expected}, received {sha256!r}")
    path = carried(source, sha256) or (root and find(root, sha256))
    if not path:
        raise WeightsError(
            f"{source}: its features are those of a graph in int8 with sha256 {sha256}, which is neither in the cache "
            "nor beside it: `hs.train(with_weights=True)` puts it there, where the photos were extracted"
        )
    return Weights(path, sha256, None)


def kept(root: Path) -> list[Path]:
    """List the kept weights, but those that were set aside; each file's name is its sha256."""
    return sorted(path for path in (root / FOLDER).glob("[0-9a-f]*") if path.is_file() and path.suffix != _DAMAGED)


def orphans(root: Path, going: Iterable[Spec | None], staying: Iterable[Spec | None]) -> list[Path]:
    """List the kept weights and graphs of specs that go, but those of specs that stay; a spec may be lost."""
    return [path for path in kept(root) if path.name in _named(going) - _named(staying)]


def _named(specs: Iterable[Spec | None]) -> set[str]:
    parts = (part for one in specs if one for part in (one.get("weights", {}), one.get("graph", {})))
    return {part["sha256"] for part in parts if "sha256" in part}


def set_aside(root: Path) -> list[Path]:
    """List those that were set aside."""
    return sorted((root / FOLDER).glob(f"*{_DAMAGED}"))


def verify(path: Path) -> bool:
    """Read weights in full and return whether they are what their name says; else set them aside.

    StorageError if the disk fails, or they may not be read or set aside.
    """
    with storing(f"{path}: damaged, and cannot be set aside"):
        if not (sound := digests.of_file(path) == path.name):
            path.rename(path.with_name(f"{path.name}{_DAMAGED}"))
        return sound
