"""A process that finds what Windows has: no ``fcntl``, locks of bytes, open files that nobody moves or removes.

This is run before the tests of a process, as its ``sitecustomize``. What Python's own modules are on this system they
stay: they are imported first.
"""

# ruff: noqa: F401 -- these look for what is hidden below
import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from typing import Any

BEHIND = 0x7FFF0000


def locking(descriptor: int, mode: int, count: int) -> None:
    """Lock so many bytes from where the file stands, exclusively, as of this open file and not of the process."""
    if (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR)) != (2, 1, BEHIND):
        raise ValueError("expected one byte, far behind any content")
    try:
        FLOCK(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None


def refusing_open_files(change: Callable[..., Any]) -> Callable[..., Any]:
    """Let what moves or removes refuse what this process has open, or has open below it."""

    def changed(path: Any, *others: Any, **named: Any) -> Any:
        target = os.path.abspath(os.fsdecode(path))
        for number in os.listdir("/proc/self/fd"):
            try:
                opened = os.readlink(f"/proc/self/fd/{number}")
            except OSError:
                continue
            if opened == target or opened.startswith(f"{target}/"):
                raise PermissionError(32, "The process cannot access the file because it is used", os.fspath(path))
        return change(path, *others, **named)

    return changed


def opening_no_folder(path: Any, flags: int, mode: int = 0o777, **named: Any) -> int:
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return OPEN(path, flags, mode, **named)


FLOCK, OPEN = fcntl.flock, os.open
msvcrt = types.ModuleType("msvcrt")
msvcrt.__dict__.update(locking=locking, LK_NBLCK=2)
sys.modules["msvcrt"] = msvcrt
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios")))  # type: ignore[arg-type]
shutil._use_fd_functions = False  # type: ignore[attr-defined]  # as where folders cannot be opened
for name in ("unlink", "remove", "rename", "replace", "rmdir"):
    setattr(os, name, refusing_open_files(getattr(os, name)))
os.open = opening_no_folder
for name in ("killpg", "O_NOFOLLOW", "O_NONBLOCK"):
    delattr(os, name)
del signal.SIGHUP
