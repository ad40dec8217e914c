"""Tables: ruled and fitted to the width of a terminal, aligned plain text in a pipe or a file."""

import sys
from collections.abc import Collection, Iterator, Sequence

import click

GAP = "  "


def show(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[int]) -> None:
    """Print a table on stdout.

    Parameters
    ----------
    header : sequence of str
        A title a column.
    rows : sequence of sequence of str
        As many cells as there are titles.
    right : collection of int
        Places of the columns that are aligned to the right, as numbers are.
    """
    if sys.stdout.isatty():
        _ruled(header, rows, right)
    else:
        click.echo("\n".join(aligned([header, *rows], right)))


def aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> Iterator[str]:
    """Pad each column to its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield GAP.join(cells).rstrip()


def _ruled(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, title in enumerate(header):
        table.add_column(Text(title), justify="right" if place in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
