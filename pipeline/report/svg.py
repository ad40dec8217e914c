"""Scales and marks of a chart, as SVG text: crisp at any size, coloured by the page's own style sheet.

A number is written with one digit after the point, so that the same data give the same bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from markupsafe import Markup, escape

Kind = Literal["linear", "log", "odds"]

# Where accuracies crowd below 1 an axis is that of the odds, p : 1 - p, and these are its round numbers.
_ROUND_SHARES: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5),
    *(0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999),
)


@dataclass(frozen=True)
class Scale:
    """From a number to its place along one axis.

    Attributes
    ----------
    low, high : float
        The numbers at both ends.
    start, end : float
        Their places, in units of the chart.
    kind : {"linear", "log", "odds"}
        What is even along the axis: the number, its logarithm, or the logarithm of p / (1 - p).
    """

    low: float
    high: float
    start: float
    end: float
    kind: Kind = "linear"

    def __call__(self, value: float) -> float:
        """Return the place of a number; those beyond an end are put there."""
        low, high = self._even(self.low), self._even(self.high)
        share = (self._even(min(max(value, self.low), self.high)) - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def _even(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        return math.log(value / (1 - value)) if self.kind == "odds" else value

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most so many round numbers between the ends."""
        if self.kind == "odds":
            return _thinned([share for share in _ROUND_SHARES if self.low <= share <= self.high], self, most)
        return _log_ticks(self, most) if self.kind == "log" else _round_numbers(self.low, self.high, most)


def spread(values: Iterable[float], *, margin: float = 0.06) -> tuple[float, float]:
    """Return ends a little beyond the least and the largest of some numbers; of none, 0 and 1."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low or abs(high) or 1.0) * margin
    return low - room, high + room


def odds_ends(values: Iterable[float]) -> tuple[float, float]:
    """Return ends for a scale of odds that holds these shares; 0 and 1 themselves lie at its ends."""
    inside = [value for value in values if 0 < value < 1] or [0.25, 0.75]
    low, high = min(inside), max(inside)
    return max(low / (low + 1.25 * (1 - low)), 1e-6), min(1.25 * high / (1.25 * high + 1 - high), 1 - 1e-6)


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(scale: Scale, most: int) -> list[float]:
    powers = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        found = [value for value in found if scale.low * 0.999 <= value <= scale.high * 1.001]
        if len(found) <= most:
            return found or [scale.low, scale.high]
    return found[:: -(-len(found) // most)]


def _thinned(values: list[float], scale: Scale, most: int) -> list[float]:
    """Drop round numbers that lie closer to the one kept before than an even share of the axis allows."""
    least = abs(scale.end - scale.start) / (most + 1)
    kept: list[float] = []
    for value in values:
        if not kept or abs(scale(value) - scale(kept[-1])) >= least:
            kept.append(value)
    return kept


def number(value: float) -> str:
    """Return a number for a tick or a caption: plain, with thousands set off."""
    if value and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    text = f"{value:,.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """Return an element, all in it escaped; ``_`` in an attribute's name is ``-``, one at its end is dropped."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    content = Markup("").join(escape(part) for part in inside)
    return Markup(f"<{name}{written}>{content}</{name}>" if inside else f"<{name}{written}/>")  # noqa: S704, escaped


def _text(value: object) -> str:
    if isinstance(value, float):
        return "0" if abs(value) < 0.05 else f"{value:.1f}".removesuffix(".0")
    return str(value)


def chart(width: float, height: float, *parts: object, label: str) -> Markup:
    """Return a picture of its own, with what a screen reader says of it."""
    view = f"0 0 {_text(float(width))} {_text(float(height))}"
    size = {"width": float(width), "height": float(height), "viewBox": view}
    return tag("svg", *parts, class_="chart", role="img", aria_label=label, **size)


def text(
    x: float, y: float, words: object, *, at: str = "start", turned: float | None = None, kind: str = ""
) -> Markup:
    """Return words at a place; `at` is the anchor, `turned` an angle in degrees around it."""
    rotated = None if turned is None else f"rotate({_text(float(turned))} {_text(float(x))} {_text(float(y))})"
    anchor = None if at == "start" else at
    return tag("text", words, x=float(x), y=float(y), text_anchor=anchor, transform=rotated, class_=kind or None)


def line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """Return a line through points."""
    return tag("polyline", points=" ".join(f"{_text(float(x))},{_text(float(y))}" for x, y in points), class_=kind)


def dot(x: float, y: float, title: str, kind: str, *, radius: float = 3.0) -> Markup:
    """Return a dot that says what it is when it is pointed at."""
    return tag("circle", tag("title", title), cx=float(x), cy=float(y), r=float(radius), class_=kind)


def rule(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a straight line."""
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=kind)


def box(x: float, y: float, width: float, height: float, kind: str, title: str | None = None) -> Markup:
    """Return a rectangle."""
    inside = () if title is None else (tag("title", title),)
    return tag("rect", *inside, x=float(x), y=float(y), width=float(width), height=float(height), class_=kind)


def axes(
    x: Scale, y: Scale, *, x_title: str, y_title: str, x_ticks: Sequence[tuple[float, str]] | None = None
) -> Markup:
    """Return both axes with their titles, and a faint rule at each tick of the ordinate.

    Parameters
    ----------
    x, y : Scale
        That of the ordinate goes upwards: it starts below.
    x_title, y_title : str
        The first stands below the abscissa's numbers, the second above the chart.
    x_ticks : sequence of (number, words), optional
        Instead of round numbers.
    """
    parts: list[Markup] = []
    for tick in y.ticks():
        parts.append(rule(x.start, y(tick), x.end, y(tick), "grid"))
        parts.append(text(x.start - 6, y(tick) + 4, number(tick), at="end", kind="tick"))
    for place, words in x_ticks if x_ticks is not None else [(tick, number(tick)) for tick in x.ticks()]:
        parts.append(rule(x(place), y.start, x(place), y.start + 4, "axis"))
        parts.append(text(x(place), y.start + 17, words, at="middle", kind="tick"))
    parts.append(rule(x.start, y.start, x.end, y.start, "axis"))
    parts.append(text(x.end, y.start + 34, x_title, at="end", kind="title"))
    parts.append(text(0, y.end - 12, y_title, kind="title"))
    return Markup("").join(parts)
