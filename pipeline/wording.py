"""How a number is written, the same in a terminal, on the page, in a picture and on a card; and a table's columns."""

import math
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.table import Table

WIDEST: Final = 10_000  # characters of a line that no terminal breaks
UNDEFINED = "not defined"
METRICS: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "roc_auc": "ROC AUC",
    "ece": "calibration error",
}
ACTING: Final = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))  # Unicode's categories of what is no letter but a command
JOINERS: Final = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"  # which Persian, Hindi and emoji are written with


def printable(text: str, *, kept: str = "") -> str:
    """Return a text that only shows: what a terminal would obey, or turns the line around, stands as an escape.

    Names of files and classes come from strangers. The characters in `kept` stay as they are.
    """
    return "".join(
        one.encode("unicode_escape").decode()
        if unicodedata.category(one) in ACTING and one not in JOINERS and one not in kept
        else one
        for one in text
    )


def printable_lines(text: str) -> str:
    """Return a text of several lines, perhaps with tabs, as `printable` does."""
    return printable(text, kept="\n\t")


def one_line(error: object) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())


def number(value: float, places: int = 3, *, sign: bool = False) -> str:
    """Return a number with its decimals, and with a plus if `sign`; what is rounded to zero has no sign."""
    text = f"{value:{'+' if sign else ''},.{places}f}"
    return text if text.strip("+-0.,") else text.lstrip("+-")


def interval(value: float | None, low: float, high: float, places: int = 3, *, sign: bool = False) -> str:
    """Return a value with its interval, as in ``0.992 [0.977, 0.997]``; None and NaN are not defined."""
    if value is None or math.isnan(value):
        return UNDEFINED
    ends = ", ".join(number(end, places, sign=sign) for end in (low, high))
    return f"{number(value, places, sign=sign)} [{ends}]"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun, as in ``1 copy``; without `many` the plural takes an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def epoch(row: Mapping[str, float]) -> str:
    """Return an epoch's row of a history as a line: ``epoch 2: loss 0.31, accuracy 0.9, …``."""
    numbers = [f"{name.replace('_', ' ')} {value:.5f}" for name, value in row.items() if name != "epoch"]
    return f"epoch {row['epoch']:.0f}: {', '.join(numbers)}"


def duration(seconds: float) -> str:
    """Return a time in the unit in which it is two or more, as in ``95 s``, ``4 min`` and ``2.5 h``."""
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


class Pace:
    """How far a work is; how fast and how long still, once that means something.

    The first step is not measured: it loads, compiles and fills queues, and may take a thousand times as long as the
    next.
    """

    LEAST: Final = 5.0  # seconds that are measured before anything is said of them

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._first: tuple[float, int] | None = None
        self._last = 0

    def told(self, done: int, total: int, now: float) -> str:
        """Return ``200 of 1,000 images, 20.0 a second, 40 s left`` at a time, in seconds of any clock."""
        text, left = self.measured(done, total, now)
        return f"{text}, {duration(left)} left" if left else text

    def measured(self, done: int, total: int, now: float) -> tuple[str, float | None]:
        """Return ``200 of 1,000 images, 20.0 a second`` and the seconds left, None while they are not known."""
        text = f"{done:,} of {total:,} {self.unit}"
        if done and (self._first is None or done < self._last):  # another work of the same command begins
            self._first = now, done
        self._last = done
        if self._first is None or now - self._first[0] < self.LEAST or done == self._first[1]:
            return text, None
        rate = (done - self._first[1]) / (now - self._first[0])
        return f"{text}, {rate:,.1f} a second", (total - done) / rate


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """Return titles and rows as lines, each column as wide as its widest cell."""
    from rich.console import Console

    console = Console(width=WIDEST, color_system=None)
    with console.capture() as captured:
        console.print(rich_table(header, rows, right))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def rich_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int], *, ruled: bool = False
) -> "Table":
    """Return what rich prints: a line below the titles if `ruled`, and every cell as text, without markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD if ruled else None,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0) if ruled else (0, 2, 0, 0),
    )
    for place, title in enumerate(header):
        shown = Text(printable(title))
        table.add_column(shown, justify="right" if place in right else "left", overflow="fold", vertical="bottom")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
