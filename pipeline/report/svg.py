"""Axes and marks of a chart, as SVG text: crisp at any size, coloured by the page's own style sheet.

A number is written with one digit after the point, so that the same data give the same bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from pipeline.plots.scales import Scale


@dataclass(frozen=True)
class Axis:
    """From a number to its place along one axis.

    Attributes
    ----------
    scale : Scale
    start, end : float
        Places of its ends, in units of the chart.
    """

    scale: Scale
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a number; those beyond an end are put there."""
        return self.start + self.scale.share(value) * (self.end - self.start)


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
    x: Axis,
    y: Axis,
    *,
    x_title: str,
    y_title: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    y_ticks: Sequence[tuple[float, str]] | None = None,
) -> Markup:
    """Return both axes with their titles, and a faint rule at each tick of the ordinate.

    The ordinate goes upwards: it starts below. `x_title` stands below the abscissa's numbers, `y_title` above the
    chart. Ticks, (number, words), stand instead of round numbers.
    """
    parts: list[Markup] = []
    for tick, words in y_ticks if y_ticks is not None else y.scale.named():
        parts.append(rule(x.start, y(tick), x.end, y(tick), "grid"))
        parts.append(text(x.start - 6, y(tick) + 4, words, at="end", kind="tick"))
    for place, words in x_ticks if x_ticks is not None else x.scale.named():
        parts.append(rule(x(place), y.start, x(place), y.start + 4, "axis"))
        parts.append(text(x(place), y.start + 17, words, at="middle", kind="tick"))
    parts.append(rule(x.start, y.start, x.end, y.start, "axis"))
    parts.append(text(x.end, y.start + 34, x_title, at="end", kind="title"))
    parts.append(text(0, y.end - 12, y_title, kind="title"))
    return Markup("").join(parts)
