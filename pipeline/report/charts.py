"""The page's charts: what `pipeline.plots` says is drawn, as SVG. What a chart shows is also written beside it."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.plots.dataset import Sizes
from pipeline.plots.evaluation import SHARES, Bin, Reliability
from pipeline.plots.layer_scores import LayerScores
from pipeline.plots.scales import Scale, number
from pipeline.plots.training_curves import Curves, SearchPath
from pipeline.report.svg import Axis, axes, box, chart, dot, line, rule, tag, text
from pipeline.wording import counted, interval

WIDTH, HEIGHT = 400.0, 280.0  # a phone shows it whole, and its letters at four fifths of their size
LEFT, TOP, BOTTOM = 48.0, 30.0, 44.0
COLOURS: Final = 10
PLANE: Final = 1000.0  # side of the map
PLANE_MARGIN: Final = 16.0


def colour(place: int) -> str:
    """Return the class that gives a mark the colour of that number."""
    return f"c{place % COLOURS}"


def sizes(found: Sizes) -> Markup:
    """Draw the images' heights over their widths, px; a dot grows with the number of images of that very size."""
    x, y = Axis(found.scale, LEFT, WIDTH - 10), Axis(found.scale, HEIGHT - BOTTOM, TOP)
    parts: list[Markup] = [axes(x, y, x_title="width, px", y_title="height, px"), _diagonal(x, y)]
    for width, height, _, share, title in found.dots:
        parts.append(dot(x(width), y(height), title, "dot c0", radius=2 + 6 * math.sqrt(share)))
    sides = [side for dot in found.dots for side in dot[:2]]
    return chart(WIDTH, HEIGHT, *parts, label=f"Sizes of the images: {min(sides):,} to {max(sides):,} px")


def _diagonal(x: Axis, y: Axis) -> Markup:
    return line([(x.start, y.start), (x.end, y.end)], "guide")


def layers(found: LayerScores) -> Markup:
    """Draw a row a cut, the last layer on top: its accuracy with each pooling, and beside it the work up to there.

    So a phone shows it whole, however many cuts there are.
    """
    top, row, left = 34.0, 18.0, min(110.0, 14 + 6 * max(map(len, found.cuts.values())))
    heights = {depth: top + row * (place + 0.5) for place, depth in enumerate(sorted(found.cuts, reverse=True))}
    bottom = top + row * len(heights)
    x, work = Axis(found.accuracy, left, 310), Axis(Scale(0.0, max(found.work.values()) or 1.0), 326, 396)
    parts = [text(x.start, 16, "accuracy of a quick head", kind="title"), text(396, 16, "work", at="end", kind="title")]
    for tick, words in found.accuracy.named(5):
        parts.append(rule(x(tick), top, x(tick), bottom, "grid"))
        parts.append(text(x(tick), bottom + 16, words, at="middle", kind="tick"))
    for depth, y in heights.items():
        cut, adds = found.cuts[depth], found.work[depth]
        parts.append(text(left - 8, y + 4, cut, at="end", kind="tick"))
        title = f"{cut}: {adds / 1e6:,.0f} million multiply-adds an image"
        parts.append(box(work.start, y - 5, work(adds) - work.start, 10, "bar", title))
    for place, (pooling, rungs) in enumerate(found.lines.items()):
        points = [(x(rung.accuracy), heights[rung.depth]) for rung in rungs]
        parts.append(line(points, f"line {colour(place)}"))
        for rung, point in zip(rungs, points, strict=True):
            title = f"{rung.cut}, {pooling}: {interval(rung.accuracy, rung.low, rung.high)}"
            parts.append(dot(*point, title, f"dot {colour(place)}"))
            if rung == found.chosen:
                parts.append(rule(x(rung.low), point[1], x(rung.high), point[1], f"span {colour(place)}"))
                parts.append(tag("circle", cx=point[0], cy=point[1], r=7.0, class_="ring"))
    label = "Accuracy of a quick head at every layer of the base, for each pooling"
    return chart(WIDTH, bottom + 24, *parts, label=label)


def _named_ends(ends: Sequence[tuple[float, str, str]], left: float) -> list[Markup]:
    """Write names at the ends of lines, moved apart where they would lie upon one another."""
    parts, last = [], -math.inf
    for y, name, kind in sorted(ends):
        last = max(y + 4, last + 15)
        parts.append(text(left, last, name, kind=f"name {kind}"))
    return parts


def curves(found: Curves) -> Markup:
    """Draw loss or accuracy over all epochs; a line where fine-tuning starts, a ring around the epoch that is kept."""
    scale = Scale(min(found.x), max(found.x))
    x, y = Axis(scale, LEFT, WIDTH - 78), Axis(found.scale, HEIGHT - BOTTOM, TOP)
    ticks = [(tick, number(tick)) for tick in scale.ticks() if tick % 1 == 0]
    parts: list[Markup] = [axes(x, y, x_title=found.x_title, y_title=found.name, x_ticks=ticks)]
    names = []
    for place, (name, values) in enumerate(found.series.items()):
        points = [(x(at), y(value)) for at, value in zip(found.x, values, strict=True) if math.isfinite(value)]
        parts.append(line(points, f"line {colour(place * 3)}" + (" dashed" if place else "")))
        names.append((points[-1][1], name, colour(place * 3)))
    if found.start is not None:
        parts.append(rule(x(found.start), y.start, x(found.start), y.end, "guide"))
        parts.append(text(x(found.start) + 4, y.end - 2, "fine-tuning", kind="tick"))
    if found.mark:
        at, words, what, value = found.mark
        title = f"{words}, {found.name} {value:.4f} on {what}"
        parts.append(tag("circle", tag("title", title), cx=x(at), cy=y(value), r=7.0, class_="ring"))
    parts += _named_ends(names, WIDTH - 68)
    return chart(WIDTH, HEIGHT, *parts, label=f"{found.name} over {counted(len(found.epochs), 'epoch')}")


def search(found: SearchPath, losses: Sequence[float], *, limit: float, chosen: int) -> Markup:
    """Draw the losses of a search.

    `limit` is one standard error above the least; the candidate `chosen` is ringed.
    """
    x, y = Axis(found.x, LEFT, WIDTH - 10), Axis(found.y, HEIGHT - BOTTOM, TOP)
    title = found.strength or "candidates, from the simplest"
    parts: list[Markup] = [axes(x, y, x_title=title, y_title="loss on images held out")]
    for place, (words, curve) in enumerate(found.curves.items()):
        points = [(x(found.places[one]), y(losses[one])) for one in curve]
        if found.strength:
            parts.append(line(points, f"line {colour(place)}"))
        for one, point in zip(curve, points, strict=True):
            title = f"{found.strength or 'candidate'} {number(found.places[one])} {words}: {losses[one]:.4f}"
            parts.append(dot(*point, title, f"dot {colour(place)}", radius=2.5))
    parts.append(rule(x.start, y(limit), x.end, y(limit), "guide"))
    parts.append(tag("circle", cx=x(found.places[chosen]), cy=y(losses[chosen]), r=7.0, class_="ring"))
    return chart(WIDTH, HEIGHT, *parts, label=f"Losses of {len(losses)} candidates; the chosen one is ringed")


def reliability(found: Reliability, before: Sequence[Bin]) -> Markup:
    """Draw how often the model is right over how sure it is, a dot a bin, and below it the images by their confidence.

    `before` are the bins before calibration, by rising confidence; maybe none.
    """
    side, bars, most = 240.0, 40.0, max(found.counts)
    x, y = Axis(SHARES, LEFT, LEFT + side), Axis(SHARES, TOP + side, TOP)
    floor = y.start + 16 + bars
    parts: list[Markup] = [axes(x, y, x_title="", y_title="share that is right", x_ticks=()), _diagonal(x, y)]
    if before:
        parts.append(line([(x(one.confidence), y(one.accuracy)) for one in before], "line c9 dashed"))
    parts += [rule(x(one.confidence), y(one.low), x(one.confidence), y(one.high), "span c0") for one in found.bins]
    for one in found.bins:
        right = interval(one.accuracy, one.low, one.high)
        title = f"sure to {one.confidence:.3f}, right in {right} of {one.images:,.0f}"
        parts.append(dot(x(one.confidence), y(one.accuracy), title, "dot c0"))
    parts.append(axes(x, Axis(Scale(0.0, most), floor, floor - bars), x_title="confidence", y_title="", y_ticks=()))
    for place, count in enumerate(found.counts):
        tall, wide = bars * count / most, side / len(found.counts)
        title = f"{counted(count, 'image')}, sure to {place / 10:.1f} to {(place + 1) / 10:.1f}"
        parts.append(box(x.start + wide * (place + 0.05), floor - tall, wide * 0.9, tall, "bar", title))
    parts.append(text(LEFT - 6, floor, "images", at="end", kind="tick"))
    return chart(LEFT + side + 12, floor + BOTTOM, *parts, label="How often the model is right, over how sure it is")


def strip(value: float, low: float, high: float, scale: Scale) -> Markup:
    """Draw one value with its interval, for a row of a table; `scale` is that of all rows."""
    x = Axis(scale, 1.0, 99.0)
    share = {name: f"{x(end):.1f}%" for name, end in (("value", value), ("low", low), ("high", high))}
    parts = [
        tag("line", x1="0%", x2="100%", y1=9, y2=9, class_="grid"),
        tag("line", x1=share["low"], x2=share["high"], y1=9, y2=9, class_="span c0"),
        tag("circle", cx=share["value"], cy=9, r=4, class_="dot c0"),
    ]
    return tag("svg", *parts, class_="strip", height=18, aria_hidden="true")


def bars(counts: Sequence[int], most: int) -> Markup:
    """Draw a row of counts end to end, for a row of a table; `most` is the largest sum."""
    parts, start = [], 0.0
    for place, count in enumerate(counts):
        wide = 100 * count / max(most, 1)
        parts.append(box(start, 0, wide, 10, f"fill s{place}"))
        start += wide
    shape = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none"}
    return tag("svg", *parts, class_="bars", width=100, height=10, aria_hidden="true", **shape)


def dots(places: NDArray[np.float64], kind: str, number: int | None = None) -> Markup:
    """Draw dots of the map, (n, 2) from 0 to 1, as one path: a line of no length has round ends."""
    path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in on_plane(places).tolist())
    return tag("path", d=path, class_=kind, data_class=number)


def on_plane(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places from 0 to 1 in units of the map, whole numbers."""
    return np.round(PLANE_MARGIN + (PLANE - 2 * PLANE_MARGIN) * places)
