"""A terminal of 80 columns to run commands in, and its screen as somebody sees it who looks at it afterwards."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Sequence

import pyte

COLUMNS, LINES = 80, 300
NEXT = "\x1e"  # a program prints it, where a fresh screen is to begin


def screens(command: Sequence[str]) -> tuple[int, list[list[str]]]:
    """Run a command in a terminal; return its status and the lines of each of its screens."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm-256color"}
    )
    os.close(theirs)
    written = b""
    while block := _read(ours):
        written += block
    os.close(ours)
    return process.wait(), [_seen(part) for part in written.decode("utf-8", "replace").split(NEXT)]


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # on Linux, when the last program has closed its end
        return b""


def _seen(written: str) -> list[str]:
    screen = pyte.Screen(COLUMNS, LINES)
    pyte.Stream(screen).feed(written)
    return "\n".join(line.rstrip() for line in screen.display).rstrip("\n").split("\n")
