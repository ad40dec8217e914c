"""What all commands share: one-line errors with their exit status, and progress on a terminal or in a log."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
from tqdm import tqdm

from pipeline.errors import HeadstartError

Progress = Callable[[int, int], None]
SECONDS_BETWEEN_LINES = 10.0

# TensorFlow greets on stderr unless told otherwise before it is loaded; its errors still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


class Stage(click.Command):
    """A click command whose foreseen errors are one line on stderr and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors of the library and of the file system into a line and a status."""
        try:
            return super().invoke(ctx)
        except (HeadstartError, OSError) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


def warn(message: str) -> None:
    """Print one warning on stderr."""
    click.echo(f"Warning: {message}", err=True)


@contextlib.contextmanager
def progress(unit: str) -> Iterator[Progress]:
    """Yield a callback ``(done, total)``: a bar with rate and time left on a terminal, a line at intervals elsewhere.

    Parameters
    ----------
    unit : str
        What is counted, in the plural: ``images``.
    """
    if sys.stderr.isatty():
        with tqdm(unit=f" {unit}", dynamic_ncols=True) as bar:
            yield lambda done, total: _move(bar, done, total)
    else:
        yield _Lines(unit)


def _move(bar: "tqdm[Any]", done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


class _Lines:
    """A line on stderr every few seconds, and none for work that is over before the first is due."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.started = self.printed = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.printed < SECONDS_BETWEEN_LINES or not done:
            return
        self.printed = now
        rate = done / (now - self.started)
        left = (total - done) / rate
        click.echo(f"{done:,} of {total:,} {self.unit}, {rate:,.1f} a second, {left:,.0f} s left", err=True)
