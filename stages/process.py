"""What a command finds around it and may lose: its streams, its folder, and the signals that stop it."""

import atexit
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click

STDOUT: Final = "standard output"
INTERRUPTED: Final = 128 + signal.SIGINT  # as a shell tells it
# Windows has no SIGHUP.
STOPS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Program(click.Command):
    """A command that says in one line what it lacks of its process, and ends like any other when it is stopped."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a program."""
        open_streams()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # click itself could not print
            from pipeline.wording import printable_lines

            click.echo(printable_lines(f"Error: {error.filename}: {error.strerror}"), err=True)
            drop_stdout()
            sys.exit(1)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Read the arguments."""
        try:
            os.getcwd()  # noqa: PTH109
        except FileNotFoundError:
            raise click.ClickException("expected a working directory, received one that was removed") from None
        with leaving_when_interrupted():
            return super().make_context(info_name, args, parent, **extra)


@contextlib.contextmanager
def leaving_when_interrupted() -> Iterator[None]:
    """Exit as after Ctrl-C, of which click would make status 1."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None


def open_streams() -> None:
    """Open the standard streams that the caller closed, lest a file that is opened later gets what is printed.

    What is written to a standard output that was closed fails; what is told on standard error is lost.
    """
    for number, (name, flags) in enumerate((("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        if getattr(sys, name) is not None:
            continue
        descriptor = os.open(os.devnull, flags)
        if descriptor != number:
            with contextlib.suppress(OSError):  # taken by now, and not ours
                os.fstat(number)
                number = descriptor
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
        setattr(sys, f"__{name}__", getattr(sys, name))
    if sys.stdout is sys.__stdout__:
        for call in ("write", "flush"):
            setattr(sys.stdout, call, _naming(getattr(sys.stdout, call)))


def _naming(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let an error of a stream's method name the stream, as errors of files name theirs."""

    def named(*arguments: Any) -> Any:
        try:
            return call(*arguments)
        except OSError as error:
            error.filename = error.filename or STDOUT
            raise

    return named


def drop_stdout() -> None:
    """Let what is yet printed go nowhere: else Python complains as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def stoppable() -> Iterator[list[int]]:
    """While the block runs, let each signal that stops a process raise KeyboardInterrupt; yield those that came.

    So workers end, and files written aside are removed, whichever it is. A signal that is ignored, as under nohup,
    stays ignored.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in STOPS}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield received
    except Exception:
        if received:  # a library made something else of it
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # what is done is done: 0 and not 130


@contextlib.contextmanager
def only_ours() -> Iterator[None]:
    """Drop what libraries write to stderr past Python's stream, as converters do; what is told here comes through."""
    shown = sys.stderr
    try:
        descriptor = shown.fileno()
    except (OSError, ValueError):  # a stream that is no file takes nothing from libraries
        yield
        return
    shown.flush()
    kept = os.dup(descriptor)
    with Path(os.devnull).open("wb") as nowhere, os.fdopen(kept, "w", buffering=1, encoding="utf-8") as ours:
        os.dup2(nowhere.fileno(), descriptor)
        try:
            with contextlib.redirect_stderr(ours):
                yield
        finally:
            os.dup2(kept, descriptor)


def take_any_letter() -> None:
    """Let letters that a stream's encoding lacks stand as escapes: a class's name must not end a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
