"""What a folder of somebody else holds may lead anywhere: to a pipe that never ends, or to a device."""

import errno
import stat
from pathlib import Path


def require_regular(path: Path) -> None:
    """Raise OSError if there is a pipe, a device or a socket at a path, from which reading may never come to an end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of a folder, opening it says what it is
        raise OSError(errno.EINVAL, "a pipe, a device or a socket, not a file", str(path))
