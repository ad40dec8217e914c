"""Shards on the disk: found, verified, and set aside where they are damaged."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ArtefactError, StorageError, storing
from pipeline.features.cache.shard import SUFFIX, Shard


class DamagedShardError(ArtefactError):
    """A shard did not hold what its name says; it was set aside and its rows are missing again."""


def shard_paths(folder: Path) -> list[Path]:
    """Return the shards in the folder of a view, sorted."""
    return sorted(folder.glob(f"[0-9a-f]*{SUFFIX}"))


def verify_shard(path: Path) -> bool:
    """Read a shard in full and return whether it is sound; one that is not is set aside, one that is gone is no loss.

    StorageError if the disk fails, or the shard may not be read or set aside.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            shard, _ = Shard.verified(path)
            shard.require_of(path.parent.parent.name, path.parent.name.removeprefix("view-"))
    except ArtefactError:
        set_aside(path)
        return False
    return True


def leftovers(folder: Path) -> list[Path]:
    """Return what `atomic.published` left in a folder when its process was killed, or has not renamed yet."""
    return sorted(folder.glob(".*-*"))


def require_sha256(path: Path, expected: str) -> None:
    """Raise StorageError unless the disk gives back what was written."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != expected:
            raise StorageError(f"{path}: the disk gave back other bytes than were written")


@contextlib.contextmanager
def setting_aside(path: Path) -> Iterator[None]:
    """Set a shard aside, and raise DamagedShardError, if the block finds it damaged or gone."""
    try:
        yield
    except FileNotFoundError:
        raise DamagedShardError(f"{path}: the shard is gone") from None
    except ArtefactError as error:
        set_aside(path)
        raise DamagedShardError(str(error)) from error


def set_aside(path: Path) -> None:
    """Rename a damaged file, so that nobody trusts it again and somebody can still look at it.

    StorageError if the folder cannot be written.
    """
    with storing(f"{path}: damaged, and cannot be set aside"), contextlib.suppress(FileNotFoundError):  # another did
        path.replace(path.with_suffix(".damaged"))
