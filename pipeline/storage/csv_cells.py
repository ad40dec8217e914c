"""Texts in a CSV that a spreadsheet shows and does not compute, and that are read again as they were.

A spreadsheet takes a cell for a formula by its first character, ``=cmd()``, and names of files and classes come from
strangers. Such a text gets an apostrophe in front, as https://owasp.org/www-community/attacks/CSV_Injection has it. So
does one that has apostrophes before such a beginning, hence one apostrophe less is always the text itself.
"""

import re
from typing import Final

_FORMULA: Final = re.compile(r"['\s]*[=+\-@\t\r＝＋－＠]")  # noqa: RUF001  (some spreadsheets take the wide ones, too)
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?|[+-](inf|nan)", re.IGNORECASE | re.ASCII)


def guarded(value: object) -> object:
    """Return what to write for a value: a text that would begin a formula with an apostrophe, others as they are."""
    return f"'{value}" if isinstance(value, str) and _computes(value) else value


def plain(cell: str) -> str:
    """Return the text that `guarded` made a cell of."""
    return cell[1:] if cell.startswith("'") and _computes(cell[1:]) else cell


def _computes(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
