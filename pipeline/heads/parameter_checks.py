"""Checks of a head's parameters: each names the parameter, what was expected and what was received.

They look at the type as well as the range, since parameters also come from a ``head.json`` that anyone may have edited.
"""

import math
from collections.abc import Collection

from pipeline.errors import InputError


def require_number(name: str, value: object, *, most: float = math.inf, open_ended: bool = False) -> None:
    """Raise InputError unless `value` is a finite number in [0, `most`], or (0, `most`) if `open_ended`."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    inside = 0.0 < number < most if open_ended else 0.0 <= number <= most
    if not (inside and math.isfinite(number)):
        interval = f"(0.0, {most})" if open_ended else f"[0.0, {most}]"
        raise InputError.of(name, f"a number in {interval}", repr(value))


def require_whole(name: str, value: object, *, least: int) -> None:
    """Raise InputError unless `value` is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError.of(name, f"a whole number of at least {least}", repr(value))


def require_choice(name: str, value: object, choices: Collection[str | None]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise InputError.of(name, f"one of {', '.join(map(str, choices))}", repr(value))
