"""Write aside, rename: no reader ever sees half a file.

What is written aside is held by a lock until it is renamed. So whoever first writes into a folder can tell what
killed processes left there, which nobody holds, and removes it.
"""

import contextlib
import csv
import functools
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from pipeline.storage import flock
from pipeline.storage.csv_cells import guarded

MARK: Final = ".headstart"  # in the names of what is written aside, so that nothing of a user's is taken for it
_ASIDE: Final = re.compile(rf"(^|/)\.[^/]*-[^/]{{8}}{re.escape(MARK)}[^/]*")
LONGEST_STEM: Final = 100  # bytes of a name in that of its file aside: a system allows 255, some only 143
_SPECIAL: Final = re.compile(r"[\r;\t]")


@contextlib.contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends without an error, it takes the name `path`.

    The temporary file is fsynced before it is renamed, and its folder after. If the block raises, the temporary file is
    removed and whatever stood at `path` before still stands there. The folder of `path` is made if it is missing. The
    temporary name keeps the suffix, since some writers choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear(os.path.abspath(path.parent))  # noqa: PTH100 -- without following links
    with naming(path):
        temporary, descriptor = _new_file(path)
        with _closed_at_the_end(descriptor) as let_go:
            try:
                yield temporary
                _fsync(temporary)
                let_go()
                temporary.replace(path)
            except BaseException:
                let_go()
                temporary.unlink(missing_ok=True)
                raise
        _fsync(path.parent)


def _new_file(path: Path) -> tuple[Path, int]:
    """Return an empty file beside `path`, and the descriptor that holds it."""
    while True:
        token = f"{secrets.token_urlsafe(6)}{MARK}"
        temporary = path.with_name(f".{_short(path.stem)}-{token}{_short(path.suffix)}")
        # The system applies the umask, which cannot be read without setting it for all threads of the process.
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        if _holds(descriptor, temporary, shared=True):
            return temporary, descriptor
        os.close(descriptor)


@contextlib.contextmanager
def _closed_at_the_end(descriptor: int) -> Iterator[Callable[[], None]]:
    """Close a file when the block ends; yield what closes it before, on Windows, which moves no open file."""
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        yield (lambda: None) if flock.POSIX else stack.close


@contextlib.contextmanager
def published_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends without an error, it takes the name `path`.

    Its files are fsynced first. A folder that stood at `path` steps aside and is removed, in two renames: a kill
    between them leaves nothing at `path`, until the next that writes beside it brings the old folder back. If the block
    raises, the new folder is removed and the old one was never touched. The parent of `path` is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), _new_folder(path.parent, path.name) as aside:
        new, old = aside / "new", aside / "old" / path.name
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            _fsync(file)
        _fsync(new)
        if path.exists():
            old.parent.mkdir()
            path.replace(old)
        try:
            new.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
        _fsync(path.parent)


@contextlib.contextmanager
def _new_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder that is held, and removed with all that is in it when the block ends."""
    _clear(os.path.abspath(parent))  # noqa: PTH100
    aside = Path(tempfile.mkdtemp(prefix=f".{_short(name)}-", suffix=MARK, dir=parent))
    lock = _lock_of(aside)
    descriptor = os.open(lock, os.O_RDONLY if flock.POSIX else os.O_CREAT | os.O_RDWR)
    with _closed_at_the_end(descriptor) as let_go:
        try:
            _holds(descriptor, lock, shared=True)
            yield aside
        finally:
            let_go()
            shutil.rmtree(aside, ignore_errors=True)


def _lock_of(left: Path) -> Path:
    """Return what is held of what is written aside: itself, or on Windows, which opens no folder, a file in it."""
    return left if flock.POSIX or not left.is_dir() else left / "held"


@functools.lru_cache(maxsize=256)
def _clear(folder: str) -> None:
    """Remove, once a process, what killed processes left aside in a folder."""
    with contextlib.suppress(OSError):
        for left in Path(folder).glob(f".*-????????{MARK}*"):
            with contextlib.suppress(OSError):  # not ours to remove: it harms nobody
                _remove_abandoned(left)


def _remove_abandoned(left: Path) -> None:
    """Remove what was written aside, unless somebody holds it; a folder that had stepped aside comes back."""
    lock = _lock_of(left)
    descriptor = os.open(lock, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with _closed_at_the_end(descriptor) as let_go:
        if not _holds(descriptor, lock, shared=False):
            return
        let_go()
        if not left.is_dir():
            left.unlink()
            return
        for old in (left / "old").glob("*"):
            if not (left.parent / old.name).exists():
                old.replace(left.parent / old.name)
        shutil.rmtree(left)


def _holds(descriptor: int, path: Path, *, shared: bool) -> bool:
    """Lock an open file; tell whether it is locked now and still stands at `path`.

    A writer's lock is shared: HDF5 locks what it reads, too.
    """
    try:
        if not flock.held(descriptor, shared=shared):
            return False
    except OSError:  # no locks on this file system: a writer goes on, and nothing is taken for abandoned
        return shared
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _short(name: str) -> str:
    return name.encode("utf-8", "ignore")[:LONGEST_STEM].decode("utf-8", "ignore")


def publish_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Publish rows as UTF-8 CSV such that any text is read again as it was: see `pipeline.storage.csv_cells`.

    A row has as many fields as there are columns; what is no text is written as ``str`` gives it.
    """
    with published(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write = row_writer(file)
        write(header)
        for row in rows:
            write(row)


def row_writer(file: TextIO) -> Callable[[Sequence[object]], object]:
    """Return what writes a row of CSV, as `publish_csv` does, to a file that is open with newline=""."""
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Sequence[object]) -> object:
        # The writer does not quote a carriage return unless it ends lines, but the reader takes one for an end. Some
        # spreadsheets take a semicolon, or a tab, for the end of a cell: behind it a formula could begin.
        special = any(_SPECIAL.search(str(value)) for value in row)
        return (quoted if special else plain).writerow([*map(guarded, row)])

    return write


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error of the file system name the file it was for, not one aside, and not none, as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None or _ASIDE.search(str(error.filename)):
            error.strerror = error.strerror or str(error)  # NumPy and Pillow say what failed in words alone
            error.filename = os.fspath(path)
        raise


def _fsync(path: Path) -> None:
    if path.is_dir() and not flock.POSIX:
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
