"""Who writes which rows: a writer's lock is a file of its own, held for as long as the writer lives.

``<folder>/<writer>.json`` holds host, process, range and run. One that is held belongs to a living process; one that is
not belonged to a writer that was killed. Writers of one run share their rows: the one who hands out the work, the
workers, and a worker that was given up and is still at it.
``<folder>/mutex`` is held for the moment in which somebody looks and enters.
"""

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TextIO

from pipeline.errors import ArtefactError, BusyError
from pipeline.storage import flock
from pipeline.storage.json_files import Document, fields_of

_MUTEX: Final = "mutex"
_TRIES: Final = 100  # for a folder that others remove
PATIENCE_SECONDS: Final = 10.0  # the mutex is held for milliseconds: who holds it for longer is stopped, or hangs


@dataclass(frozen=True)
class Writer:
    """A process that computes the rows whose digest, read as a fraction of its range, lies in [low, high)."""

    host: str
    pid: int
    low: float
    high: float
    run: str = ""

    def overlaps(self, low: float, high: float) -> bool:
        """Tell whether some rows of [low, high) are among its own."""
        return self.low < high and low < self.high

    def bars(self, low: float, high: float, run: str) -> bool:
        """Tell whether it keeps a writer of another run from the rows of [low, high)."""
        return self.overlaps(low, high) and not (run and run == self.run)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.host else "somebody"


LOCK: Final = Document("the lock of a writer", "`hs.extract`", fields_of(Writer))


@contextlib.contextmanager
def mutex(folder: Path) -> Iterator[None]:
    """Hold `folder`, made if it is missing: while the block runs, nobody else enters or looks.

    BusyError, which says which, if another process holds it and does not go on; OSError if it cannot be written.
    """
    file = _lock_mutex(folder)
    while not _stands(file, folder):  # it was removed while this process waited for it
        file.close()
        file = _lock_mutex(folder)
    with file:
        yield


def _lock_mutex(folder: Path) -> TextIO:
    file = _opened(folder)
    try:
        _wait_for(file, shared=False)
    except BaseException:
        file.close()
        raise
    return file


def _opened(folder: Path) -> TextIO:
    tries = 0
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return (folder / _MUTEX).open("a")
        except FileNotFoundError:  # somebody removed the folder as soon as it was made
            tries += 1
            if tries == _TRIES:
                raise


def _wait_for(file: TextIO, *, shared: bool) -> None:
    """Lock an open mutex; BusyError if whoever holds it does not let go."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not flock.held(file.fileno(), shared=shared):
        if time.monotonic() > deadline:
            raise BusyError(f"{file.name}: {_holder(file)} holds it and does not go on: let it go on, or end it")
        time.sleep(0.01)


def _holder(file: TextIO) -> str:
    """Say who has locked a file, as far as this system tells."""
    # Linux lists "7: FLOCK  ADVISORY  WRITE 4711 fe:00:16073100 0 EOF"; of a file in layers, device numbers differ.
    inode = f":{os.fstat(file.fileno()).st_ino}"
    with contextlib.suppress(OSError):
        held = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
        pids = [line[4] for line in held if line[1] == "FLOCK" and line[5].endswith(inode) and int(line[4]) > 0]
        if pids:
            return f"process {', '.join(pids)} on {socket.gethostname()}"
    return "a process that this system does not tell"


def _stands(file: TextIO, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), (folder / _MUTEX).stat())
    except FileNotFoundError:
        return False


def living(folder: Path) -> list[Writer]:
    """Return the writers at work; whoever can read `folder` can ask."""
    return [writer for _, writer in _looked_at(folder) if writer]


def abandoned(folder: Path) -> list[Path]:
    """Return the files of writers that were killed; whoever can read `folder` can ask."""
    return [path for path, writer in _looked_at(folder) if writer is None]


def _looked_at(folder: Path) -> list[tuple[Path, Writer | None]]:
    try:
        with (folder / _MUTEX).open() as file:
            _wait_for(file, shared=True)
            return _entries(folder)
    except FileNotFoundError:
        return []  # nobody ever wrote there


def cleared(folder: Path) -> list[Writer]:
    """Within `mutex`: remove the files of writers that were killed and return those at work."""
    entries = _entries(folder)
    for path, writer in entries:
        if writer is None:
            path.unlink(missing_ok=True)
    return [writer for _, writer in entries if writer]


def _entries(folder: Path) -> list[tuple[Path, Writer | None]]:
    """Return each lock file with its writer, or with None where nobody holds it any more."""
    found: list[tuple[Path, Writer | None]] = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as file:
            if flock.held(file.fileno(), shared=True):
                found.append((path, None))
            else:
                found.append((path, _writer(path, file.read())))
    return found


def _writer(path: Path, text: str) -> Writer:
    """Return who holds a lock. One of another version may say it in other words: somebody, who bars everybody."""
    try:
        said = LOCK.parse(text, path)
    except ArtefactError:
        return Writer("", 0, 0.0, 1.0)
    return Writer(**{name: said[name] for name in LOCK.fields})


@contextlib.contextmanager
def alone(folder: Path, busy: Callable[[Writer], str]) -> Iterator[None]:
    """Be the only writer of `folder` while the block runs; BusyError, with what `busy` says of it, beside another one.

    OSError if the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        with mutex(folder):
            for other in cleared(folder):
                raise BusyError(busy(other))
            held.enter_context(entered(folder, 0.0, 1.0))
        yield


@contextlib.contextmanager
def entered(folder: Path, low: float, high: float, run: str = "") -> Iterator[None]:
    """Be a writer of [low, high) while the block runs; enter within `mutex`, and leave whenever you like.

    Parameters
    ----------
    folder : Path
        Of the locks.
    low, high : float
        From 0 to 1.
    run : str
        Shared by the writers of one run; empty for a writer that has no others beside it.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    path = folder / f"{uuid.uuid4().hex}.json"
    with path.open("x") as file:
        flock.held(file.fileno(), shared=False)  # nobody else has it: its name is new, and `mutex` is held
        try:
            json.dump(asdict(Writer(socket.gethostname(), os.getpid(), low, high, run)), file)
            file.flush()
            yield
        finally:
            with contextlib.suppress(OSError):  # a lock that nobody holds binds nobody
                path.unlink()
    with contextlib.suppress(OSError):  # Windows does not remove an open file
        path.unlink(missing_ok=True)
