"""Write aside, rename: no reader ever sees half a file."""

import contextlib
import csv
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO


@contextlib.contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends without an error, it takes the name `path`.

    The temporary file is fsynced before it is renamed, and its folder after. If the block raises, the temporary file
    is removed and whatever stood at `path` before still stands there.

    Parameters
    ----------
    path : Path
        The name to publish under. Its folder is made if it is missing. The temporary name keeps the suffix, since
        some writers choose their format by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_urlsafe(6)}{path.suffix}")
    # The system applies the umask, which cannot be read without setting it for all threads of the process.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _name(error, path)
        raise
    _fsync(path.parent)


@contextlib.contextmanager
def published_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends without an error, it takes the name `path`.

    Its files are fsynced first. A folder that stood at `path` steps aside and is removed, in two renames: a kill
    between them leaves nothing at `path`, and the old folder whole under a hidden name beside it. If the block raises,
    the new folder is removed and the old one was never touched.

    Parameters
    ----------
    path : Path
        The name to publish under. Its parent is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    new, old = aside / "new", aside / "old"
    try:
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            _fsync(file)
        _fsync(new)
        if path.exists():
            path.replace(old)
        try:
            new.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
        _fsync(path.parent)
    except OSError as error:
        _name(error, path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def publish_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Publish rows as UTF-8 CSV such that any text, line ends among them, is read again as it was.

    Parameters
    ----------
    path : Path
        The name to publish under.
    header : sequence of str
        The columns' names.
    rows : iterable of sequence
        As many fields each as there are columns; what is no text is written as ``str`` gives it.
    """
    with published(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write = row_writer(file)
        write(header)
        for row in rows:
            write(row)


def row_writer(file: TextIO) -> Callable[[Sequence[object]], object]:
    """Return what writes a row of CSV such that it is read again as it was; the file is open with newline=""."""
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Sequence[object]) -> object:
        # The writer does not quote a carriage return unless it ends lines, but the reader takes one for an end.
        return (quoted if any("\r" in str(value) for value in row) else plain).writerow(row)

    return write


def _name(error: BaseException, path: Path) -> None:
    """Let an error of the file system that names no file, as a write to a full disk, name the one it was for."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = os.fspath(path)


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
