"""What the tests run in worker processes, which import this module: not pytest, and nothing else that takes time."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

from pipeline.errors import StorageError


def square(number: int) -> int:
    time.sleep(0.002 * (number % 3))  # so that chunks end out of order
    return number * number


def killed_by_thirteens(number: int) -> int:
    if number % 13 == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def exit_on_three(number: int) -> int:
    if number == 3:
        os._exit(1)
    return number


def disk_fails_on_seven(number: int) -> int:
    if number == 7:
        raise StorageError("seven: the disk fails")
    return number


def hears_ctrl_c(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) != signal.SIG_IGN


def loaded_modules(_: int) -> list[str]:
    return sorted(sys.modules)


def process_id(_: int) -> int:
    return os.getpid()


def crash_on_marked(path: str) -> object:
    from pipeline.photos.inspection import inspect

    if path.endswith("crash.png"):
        os._exit(139)
    return inspect(path)


def fail_on_marked(path: str) -> object:
    from pipeline.photos.inspection import inspect

    def refused(_: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    if not path.endswith("007.png"):
        return inspect(path)
    read, Path.read_bytes = Path.read_bytes, refused  # type: ignore[method-assign]
    try:
        return inspect(path)
    finally:
        Path.read_bytes = read  # type: ignore[method-assign]
