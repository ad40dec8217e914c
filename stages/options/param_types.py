"""Types of parameters: numbers in a range, never NaN or infinite, and several values separated by commas.

Lists are written as one text, since params.yaml hands each option one text.
"""

import math
from typing import Any

import click


class FloatRange(click.FloatRange):
    """A range of numbers; click's own lets NaN through, to which every comparison is false."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a finite number within the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, received {value!r}", param, ctx)
        return number


def widths(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Turn ``256,128`` or ``none`` into a tuple of integers of at least 1."""
    if text == "none":
        return ()
    each = text.split(",")
    if not all(width.isdecimal() and int(width) for width in each):
        raise click.BadParameter(f"expected widths as in 256,128, or none; received {text!r}", ctx, parameter)
    return tuple(map(int, each))


def names(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    """Turn ``block1_conv2,block4_conv3`` or ``none`` into a tuple of names."""
    if text == "none":
        return ()
    each = tuple(name.strip() for name in text.split(","))
    if not all(each):
        raise click.BadParameter(f"expected names as in A,B, or none; received {text!r}", ctx, parameter)
    return each
