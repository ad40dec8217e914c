"""Numbers on the command line: within a range, and never NaN or infinite."""

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
