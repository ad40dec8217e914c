"""A table as aligned text for a terminal, and as HTML for a notebook."""

import html
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pipeline.wording import aligned, printable_lines


@dataclass(frozen=True)
class Table:
    """Rows under titles, with a sentence before and lines after.

    Attributes
    ----------
    title : str
    header : sequence of str
        A title a column.
    rows : sequence of sequence of str
        As many cells as there are titles.
    right : collection of int
        Places of the columns that are aligned to the right, as numbers are.
    notes : sequence of str
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[int] = ()
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        """Return aligned text."""
        lines = [aligned(self.header, self.rows, self.right)] if self.rows else []
        return printable_lines("\n".join([self.title, *lines, *self.notes]))

    def _repr_html_(self) -> str:
        """Return HTML, as a notebook shows it."""
        head = "".join(f"<th>{html.escape(title)}</th>" for title in self.header)
        body = "".join(f"<tr>{''.join(self._cells(row))}</tr>" for row in self.rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if self.rows else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<p>{html.escape(self.title)}</p>{table}{notes}"

    def _cells(self, row: Sequence[str]) -> Iterator[str]:
        for place, cell in enumerate(row):
            align = "right" if place in self.right else "left"
            yield f'<td style="text-align: {align}">{html.escape(cell)}</td>'
