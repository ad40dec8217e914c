"""What all commands share: one-line errors with their exit status, warnings, progress and tables.

On a terminal there are colours and, below all that is printed, one bar, which is gone when the work is done. Elsewhere,
in a file or a pipe, there are plain lines, and those that tell how the work goes begin with the time. A table is ruled
and fitted to the width of a terminal, and aligned plain text elsewhere. ``NO_COLOR`` (https://no-color.org) takes the
colours away.
"""

import contextlib
import logging
import os
import stat
import sys
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.errors import EditedWarning, HeadstartError, SettingError, naming_extras
from pipeline.storage.cache_folder import keep_libraries_quiet
from pipeline.wording import Pace, aligned, duration, printable_lines, rich_table
from stages import process
from stages.options import params_yaml
from stages.options.translate import in_options

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from pipeline.types import Progress

    Shown = tuple[str, float, float | None]  # a text, and how much is done of how much
    Whole = Callable[[str, float | None, float], Shown]  # of what a step tells of itself, its seconds left, the time

keep_libraries_quiet()  # in the command line and what it starts; the library itself changes nothing
SECONDS_BETWEEN_LINES = 10.0
TIME: Final = "%Y-%m-%d %H:%M:%S"
LOGGER: Final = logging.getLogger("pipeline")  # above those of all modules of the library
TENSORFLOW: Final = logging.getLogger("tensorflow")
LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)  # by how often -v was given
ADVICE: Final = ("tf.function retracing", "\nInstructions for updating:")  # in messages of TensorFlow
QUIET: Final = "stages.console.quiet"
BEGINS_AGAIN: Final = "The same command begins again."
STEPS: Final = "stages.console.steps"
PIPE_CLOSED: Final = 141  # what a shell makes of the signal SIGPIPE: 128 and its number

_bars: "Final[list[Bar]]" = []  # that of the running command, if it shows one

# TensorFlow greets on stderr unless told otherwise before it is loaded; its errors still come through.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# What Dask would tell of lost workers is told here in other words.
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")


class Stage(process.Program):
    """A click command with ``-v`` and ``-q``, whose foreseen errors are one line on stderr and exit status 1.

    `kept` says what stays of the work when a user stops it.
    """

    def __init__(self, *args: Any, kept: str = BEGINS_AGAIN, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kept = kept
        self.params += [
            click.Option(
                ["-v", "--verbose"],
                count=True,
                expose_value=False,
                callback=_tell,
                help="Say what is done; -vv says it in detail.",
            ),
            click.Option(
                ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_tell_less, help="Show no progress."
            ),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments, among them those that DVC made of params.yaml."""
        given = params_yaml.without_null(self.params, args)
        try:
            return super().parse_args(ctx, list(given))
        except click.UsageError as error:
            _make_harmless(error)
            if not (plainer := params_yaml.explained(self.params, given, error.message)):
                raise
            raise click.UsageError(plainer, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn errors of the library and of the file system into a line and a status."""
        process.take_any_letter()
        handler = _Handler()
        LOGGER.addHandler(handler)
        TENSORFLOW.addFilter(_is_news)
        received: list[int] = []
        try:
            with naming_extras(), process.stoppable() as received, warnings.catch_warnings():
                # Odd metadata of a sound image is nobody's concern, and `decode` has a limit of its own on pixels.
                warnings.filterwarnings("ignore", module=r"PIL\.")
                warnings.filterwarnings(
                    "ignore", message=".*joblib will operate in serial mode"
                )  # what needs it says so
                warnings.filterwarnings("default", category=EditedWarning)
                warnings.showwarning = lambda message, *_, **__: warn(" ".join(str(message).split()))
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except click.ClickException as error:
            _make_harmless(error)
            raise
        except SettingError as error:
            raise click.UsageError(_in_words(error), ctx) from error
        except BrokenPipeError:  # whoever read the results has enough
            process.drop_stdout()
            ctx.exit(PIPE_CLOSED)
        except KeyboardInterrupt:
            click.echo(f"Stopped. {self.kept}", err=True)
            ctx.exit(128 + received[0] if received else process.INTERRUPTED)
        except (HeadstartError, OSError) as error:
            if isinstance(error, OSError) and error.filename == str(process.STDOUT):
                process.drop_stdout()
            raise click.ClickException(printable_lines(" ".join(_in_words(error).split()))) from error
        finally:
            TENSORFLOW.removeFilter(_is_news)
            LOGGER.removeHandler(handler)


def _make_harmless(error: click.ClickException) -> None:
    vars(error)["message"] = printable_lines(error.message)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message is more than advice to programmers: many networks in a search are as many graphs."""
    return not any(advice in record.getMessage() for advice in ADVICE)


class _Handler(logging.Handler):
    """Prints what the library logs above the bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        _print(record.getMessage())


def _in_words(error: Exception) -> str:
    """Return a message; of the file system's errors the file, under the name it was to get, and what is wrong."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        named = error.filename if error.filename2 is None else error.filename2
        return f"{os.fsdecode(named)}: {error.strerror}"
    return in_options(str(error))


def _tell(ctx: click.Context, parameter: click.Parameter, count: int) -> None:
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    LOGGER.setLevel(LEVELS[min(count, len(LEVELS) - 1)])


def _tell_less(ctx: click.Context, parameter: click.Parameter, quiet: bool) -> None:
    ctx.meta[QUIET] = quiet


def warn(message: str) -> None:
    """Print one warning on stderr."""
    _print(in_options(message), f"{click.style('Warning:', fg='yellow')} ")


def say(text: str = "", head: str = "") -> None:
    """Print a result on stdout, behind `head`, which may be coloured; names in the text cannot act on a terminal."""
    if _bars and sys.stdout.isatty():
        _print(text, head)  # click would write past what the bar puts in the place of stdout
    else:
        click.echo(f"{head}{printable_lines(text)}")


def tell(message: str) -> None:
    """Print one line on stderr of how the work goes, unless ``-q`` was given."""
    if not _meta(QUIET):
        _print(message)


def _print(message: str, head: str = "") -> None:
    """Print a line on stderr, above the bar if there is one."""
    message = f"{head}{printable_lines(message)}"
    if _bars:
        from rich.text import Text

        _bars[0].console.print(Text.from_ansi(message))
    else:
        click.echo(f"{_stamp()}{message}", err=True)


@contextlib.contextmanager
def progress(unit: str) -> "Iterator[Progress]":
    """Yield a callback ``(done, total)``: a bar on a terminal, a line at intervals elsewhere, with rate and time left.

    Within another `progress` both move the same bar: it shows what moved last. Within `steps` it shows all of them.
    `unit` is what is counted, in the plural: ``images``.
    """
    pace, whole = Pace(unit), _meta(STEPS)

    def shown(done: int, total: int, now: float) -> "Shown":
        text, left = pace.measured(done, total, now)
        return whole(text, left, now) if whole else (f"{text}, {duration(left)} left" if left else text, done, total)

    if _meta(QUIET):
        yield lambda done, total: None
    elif _watched():
        with _bar() as bar:
            yield lambda done, total: _draw(bar, *shown(done, total, time.monotonic()))
    else:
        yield _Lines(shown)


@contextlib.contextmanager
def steps(whole: "Whole") -> Iterator[Callable[[], None]]:
    """Let one bar show all steps of a run, by what `whole` says of them; yield what draws it as a step begins."""
    click.get_current_context().meta[STEPS] = whole
    with _bar() if _watched() and not _meta(QUIET) else contextlib.nullcontext() as bar:
        yield lambda: _draw(bar, *whole("", None, time.monotonic())) if bar else None


def _draw(bar: "Bar", text: str, done: float, total: float | None) -> None:
    bar.update(bar.task_ids[0], completed=done, total=total, description=text)


def _watched() -> bool:
    """Whether stderr is a terminal that is the bar's alone: what reads a pipe may write to it, too."""
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
            return False
    return sys.stderr.isatty()


@contextlib.contextmanager
def _bar() -> Iterator["Bar"]:
    """Yield the bar of the running command; the first of several that ask for it starts and removes it."""
    if _bars:
        yield _bars[0]
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    said = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (SpinnerColumn(), BarColumn(20), said, TimeElapsedColumn())
    console = Console(stderr=True, soft_wrap=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        bar.add_task("starting", total=None)
        _bars.append(bar)
        try:
            yield bar
        finally:
            _bars.clear()


class _Lines:
    """A line on stderr every few seconds, and none for work that is over before the first is due."""

    def __init__(self, shown: "Callable[[int, int, float], Shown]") -> None:
        self.shown, self.printed = shown, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        text = self.shown(done, total, now)[0]
        if done and now - self.printed >= SECONDS_BETWEEN_LINES:
            self.printed = now
            tell(text)


def _meta(key: str) -> Any:
    return context.meta.get(key) if (context := click.get_current_context(silent=True)) else None


def _stamp() -> str:
    """Return the time and a space for a line that goes into a file, nothing on a terminal."""
    return "" if sys.stderr.isatty() else f"{time.strftime(TIME)} "


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int]) -> None:
    """Print a table on stdout; the columns in `right` are aligned to the right, as numbers are."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console().print(rich_table(header, rows, right, ruled=True))
    else:
        click.echo(aligned(header, rows, right))
