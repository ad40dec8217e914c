"""A tree of folders, listed once: its images, and what is left out, with the reason."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.errors import StorageError
from pipeline.photos.remote import Address, Root
from pipeline.photos.source import Rejected, is_utf8, printable

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


SYSTEM_NAMES: Final = frozenset(
    (
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "icon\r",
        "__macosx",
        "@eadir",
        "#recycle",
        "lost+found",
    )
)


@dataclass(frozen=True)
class Folder:
    """A folder below the root: `path` (empty for the root), and what it takes to notice that a link leads back."""

    path: str
    chain: frozenset[tuple[int, int]]  # (st_dev, st_ino) of the folder and of all above it

    @property
    def name(self) -> str:
        """Its last part."""
        return self.path.rpartition("/")[2]


class Listing(NamedTuple):
    """What lies in a folder, and is neither hidden nor a link that leads in a circle."""

    folders: list[Folder]
    files: list[str]  # paths

    @property
    def images(self) -> list[str]:
        """The files that are images by their name."""
        return [path for path in self.files if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES]  # noqa: PTH122


@dataclass
class Tree:
    """The folders below a root, each listed once; collects what is rejected and skipped on the way."""

    root: Root
    rejected: list[Rejected] = field(default_factory=list)
    skipped: int = 0
    peeked: dict[str, Listing] = field(default_factory=dict)

    def top(self) -> Folder:
        """Return the root itself."""
        return Folder("", frozenset({_identity(self.root)} if isinstance(self.root, Path) else ()))

    def peek(self, folder: Folder) -> Listing:
        """List a folder, and keep the listing for the next call."""
        if folder.path not in self.peeked:
            self.peeked[folder.path] = self._scan(folder)
        return self.peeked[folder.path]

    def files(self, top: Folder) -> Iterator[str]:
        """Yield the paths of all files below a folder."""
        stack = [top]
        while stack:
            folder = stack.pop()
            listing = self.peeked.pop(folder.path, None) or self._scan(folder)
            stack.extend(listing.folders)
            yield from listing.files

    def _scan(self, folder: Folder) -> Listing:
        listing = Listing([], [])
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

    def _list(self, address: Address, folder: Folder, listing: Listing) -> None:
        for name, is_folder in address.entries():
            path = f"{folder.path}/{name}" if folder.path else name
            if self._is_hidden(name):
                self.skipped += 1
            elif is_folder:
                listing.folders.append(Folder(path, folder.chain))
            else:
                listing.files.append(path)

    def _is_hidden(self, name: str) -> bool:
        return name.startswith(".") or name.lower() in SYSTEM_NAMES

    def _sort_in(self, entry: os.DirEntry[str], folder: Folder, listing: Listing) -> None:
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
                    listing.folders.append(Folder(path, folder.chain | {identity}))
            elif not entry.is_file():
                self._reject(path, "not a regular file" if os.path.exists(entry.path) else "a broken link")  # noqa: PTH110
            elif is_utf8(path):
                listing.files.append(path)
            else:
                self._reject(path, "the name is not UTF-8")
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            self._reject(path, "a loop of links")

    def _reject(self, path: str, reason: str) -> None:
        self.rejected.append(Rejected(printable(path), reason))


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
