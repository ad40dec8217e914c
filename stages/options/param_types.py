"""Types of parameters: numbers in a range, never NaN or infinite, and several values separated by commas.

Lists are written as one text, since params.yaml hands each option one text.
"""

import math
from typing import Any, Final

import click

NONE: Final = ("none", "None")


class FloatRange(click.FloatRange):
    """A range of numbers; click's own lets NaN through, to which every comparison is false."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a finite number within the range."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, received {value!r}", param, ctx)
        return number


class Several(click.ParamType):  # type: ignore[type-arg]  # older releases of click know no argument
    """Names separated by commas, among known ones; ``all`` is each of them."""

    name = "names"

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return the names that stand for a value in the help."""
        return f"[{'|'.join((*self.known, 'all'))}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        names = tuple(name.strip() for name in value.split(","))
        if names == ("all",):
            return self.known
        if odd := [name for name in names if name not in self.known]:
            self.fail(f"expected among {', '.join(self.known)}, received {', '.join(odd)}", param, ctx)
        return names


def joined(ctx: click.Context, parameter: click.Parameter, values: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Make one tuple of the names of an option that was given several times."""
    return tuple(name for names in values for name in names)


def widths(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Turn ``256,128`` or ``none`` into a tuple of integers of at least 1; null in params.yaml arrives as None."""
    if text in NONE:
        return ()
    each = text.split(",")
    if not all(width.isdecimal() and int(width) for width in each):
        raise click.BadParameter(f"expected widths as in 256,128, or none; received {text!r}", ctx, parameter)
    return tuple(map(int, each))


def numbers(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[float, ...]:
    """Turn ``0.017,0.018,0.017`` or ``none`` into a tuple of finite numbers."""
    if text in NONE:
        return ()
    try:
        each = tuple(map(float, text.split(",")))
    except ValueError:
        each = (math.nan,)
    if not all(map(math.isfinite, each)):
        raise click.BadParameter(
            f"expected numbers as in 0.017,0.018,0.017, or none; received {text!r}", ctx, parameter
        )
    return each


def names(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    """Turn ``block1_conv2,block4_conv3`` or ``none`` into a tuple of names."""
    if text in NONE:
        return ()
    each = tuple(name.strip() for name in text.split(","))
    if not all(each):
        raise click.BadParameter(f"expected names as in A,B, or none; received {text!r}", ctx, parameter)
    return each
