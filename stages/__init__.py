"""The command line: one click command a file, each thin. Paths and options in, one library call, one line out."""

import os
import sys
from types import TracebackType


def _stopped(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print what ended the program; after Ctrl-C before there was a command, a word, and exit with its status."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write("Stopped.\n")
    sys.stderr.flush()
    os._exit(130)


sys.excepthook = _stopped
