"""A lock on an open file that nobody waits for, and that the system lets go of when its holder ends, however it ends.

Linux and macOS have it as ``flock``, which is shared or exclusive. Windows locks a range of bytes: one far behind any
content, so that others can read what the holder wrote. There is no shared kind: who only looks holds it for a moment,
so looks are taken one at a time.
"""

import os
from typing import Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEHIND: Final = 0x7FFF0000  # the byte that Windows locks
# Linux and macOS name and remove a file, and open a folder, while somebody holds it; Windows does none of these.
POSIX: Final = fcntl is not None


def held(descriptor: int, *, shared: bool) -> bool:
    """Lock an open file, without waiting; False if another holds it so that it cannot be.

    OSError if there are no locks on this file system.
    """
    try:
        if POSIX:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        else:
            _lock_byte(descriptor)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _lock_byte(descriptor: int) -> None:
    import msvcrt

    at = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, BEHIND, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    finally:
        os.lseek(descriptor, at, os.SEEK_SET)
