"""The charts of the report, each from plain numbers to one picture. What a chart shows is also written beside it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.report.svg import Scale, axes, box, chart, dot, line, number, odds_ends, rule, spread, tag, text

WIDTH, HEIGHT = 400.0, 280.0  # a phone shows it whole, and its letters at four fifths of their size
WIDE: Final = 800.0
LEFT, TOP, BOTTOM = 48.0, 30.0, 44.0
COLOURS: Final = 10
SURE: Final = 0.9  # from this confidence on, what differs lies too close to 1 to be seen
PLANE: Final = 1000.0  # side of the map
PLANE_MARGIN: Final = 16.0

Point = tuple[float, float]


class Rung(NamedTuple):
    """One cut of a base with one pooling: where it stands, how a quick head does there, and what it costs."""

    depth: int
    cut: str
    pooling: str
    accuracy: float
    low: float
    high: float
    multiply_adds: float


def colour(place: int) -> str:
    """Return the class that gives a mark the colour of that number."""
    return f"c{place % COLOURS}"


def sizes(widths: NDArray[np.integer[Any]], heights: NDArray[np.integer[Any]]) -> Markup:
    """Draw the images' heights over their widths, px; a dot grows with the number of images of that very size."""
    pairs, times = np.unique(np.stack([widths, heights], axis=1), axis=0, return_counts=True)
    low, high = float(pairs.min()), float(pairs.max())
    kind: Any = "log" if high > 8 * low else "linear"
    least, greatest = (low / 1.15, high * 1.15) if kind == "log" else (0.0, high * 1.08)
    x, y = Scale(least, greatest, LEFT, WIDTH - 10, kind), Scale(least, greatest, HEIGHT - BOTTOM, TOP, kind)
    most = float(times.max())
    parts: list[Markup] = [axes(x, y, x_title="width, px", y_title="height, px")]
    parts.append(line([(x(end), y(end)) for end in (least, greatest)], "guide"))
    for (width, height), count in zip(pairs.tolist(), times.tolist(), strict=True):
        title = f"{width:,} by {height:,} px: {_plural(count, 'image')}"
        parts.append(dot(x(width), y(height), title, "dot c0", radius=2 + 6 * math.sqrt(count / max(most, 20))))
    return chart(WIDTH, HEIGHT, *parts, label=f"Sizes of the images: {low:,.0f} to {high:,.0f} px")


def layers(rungs: Sequence[Rung], chosen: tuple[str, str]) -> Markup:
    """Draw accuracy over depth, a line a pooling, and below it what share of the base's work a cut leaves to be done.

    Parameters
    ----------
    rungs : sequence of Rung
    chosen : (cut, pooling)
        That is ringed.
    """
    depths = {rung.depth: rung.cut for rung in sorted(rungs)}
    x = Scale(min(depths) - 0.5, max(depths) + 0.5, LEFT, WIDE - 70)
    y = Scale(*odds_ends(rung.accuracy for rung in rungs), 262, TOP, "odds")
    parts: list[Markup] = [axes(x, y, x_title="", y_title="accuracy of a quick head, on the scale of odds", x_ticks=())]
    ends: list[tuple[float, str, str]] = []
    for place, pooling in enumerate(dict.fromkeys(rung.pooling for rung in rungs)):
        own = sorted(rung for rung in rungs if rung.pooling == pooling)
        parts.append(line([(x(rung.depth), y(rung.accuracy)) for rung in own], f"line {colour(place)}"))
        for rung in own:
            title = f"{rung.cut}, {pooling}: {rung.accuracy:.3f} ({rung.low:.3f} to {rung.high:.3f})"
            parts.append(dot(x(rung.depth), y(rung.accuracy), title, f"dot {colour(place)}"))
            if (rung.cut, pooling) == chosen:
                parts.append(rule(x(rung.depth), y(rung.low), x(rung.depth), y(rung.high), f"span {colour(place)}"))
                parts.append(tag("circle", cx=x(rung.depth), cy=y(rung.accuracy), r=7.0, class_="ring"))
        ends.append((y(own[-1].accuracy), pooling, colour(place)))
    parts += _named_ends(ends, WIDE - 62)
    parts += _work(rungs, depths, x)
    return chart(WIDE, 420, *parts, label="Accuracy of a quick head at every layer of the base, for each pooling")


def _named_ends(ends: Sequence[tuple[float, str, str]], left: float) -> list[Markup]:
    """Write names at the ends of lines, moved apart where they would lie upon one another."""
    parts, last = [], -math.inf
    for y, name, kind in sorted(ends):
        last = max(y + 4, last + 15)
        parts.append(text(left, last, name, kind=f"name {kind}"))
    return parts


def _work(rungs: Sequence[Rung], depths: Mapping[int, str], x: Scale) -> list[Markup]:
    top, bottom = 296.0, 340.0
    most = max(rung.multiply_adds for rung in rungs) or 1.0
    parts = [text(0, top - 12, "multiply-adds of an image up to here", kind="title")]
    parts.append(rule(x.start, bottom, x.end, bottom, "axis"))
    step = (x.end - x.start) / len(depths)
    for depth, cut in depths.items():
        work = next(rung.multiply_adds for rung in rungs if rung.depth == depth)
        tall = (bottom - top) * work / most
        title = f"{cut}: {work / 1e6:,.0f} million"
        parts.append(box(x(depth) - step * 0.3, bottom - tall, step * 0.6, tall, "bar", title))
        parts.append(text(x(depth) + 4, bottom + 14, cut, at="end", turned=-40, kind="tick"))
    return parts


def curves(history: Sequence[Mapping[str, float]], what: str) -> Markup:
    """Draw loss or accuracy over the epochs, of training and, where there is one, of the validation split."""
    epochs = [row["epoch"] for row in history]
    series = {name: [row.get(key, math.nan) for row in history] for name, key in _series(what)}
    known = [value for values in series.values() for value in values if math.isfinite(value)]
    steep = what == "loss" and bool(known) and min(known) > 0 and max(known) > 30 * min(known)
    ends = (min(known) / 1.3, max(known) * 1.3) if steep else spread(known)
    x = Scale(min(epochs), max(epochs), LEFT, WIDTH - 78)
    y = Scale(*ends, HEIGHT - BOTTOM, TOP, "log" if steep else "linear")
    parts: list[Markup] = [
        axes(x, y, x_title="epoch", y_title=what, x_ticks=[(tick, number(tick)) for tick in x.ticks() if tick % 1 == 0])
    ]
    names = []
    for place, (name, values) in enumerate(series.items()):
        points = [(x(at), y(value)) for at, value in zip(epochs, values, strict=True) if math.isfinite(value)]
        if points:
            parts.append(line(points, f"line {colour(place * 3)}" + (" dashed" if place else "")))
            names.append((points[-1][1], name, colour(place * 3)))
    kept = _kept(history)
    if kept is not None:
        parts.append(rule(x(epochs[kept]), y.start, x(epochs[kept]), y.end, "guide"))
    parts += _named_ends(names, WIDTH - 72)
    return chart(WIDTH, HEIGHT, *parts, label=f"{what} over {_plural(len(epochs), 'epoch')}")


def _series(what: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("training", what), ("validation", f"val_{what}")


def _kept(history: Sequence[Mapping[str, float]]) -> int | None:
    """Return the place of the epoch of least validation loss."""
    losses = [row.get("val_loss", math.nan) for row in history]
    known = [place for place, loss in enumerate(losses) if math.isfinite(loss)]
    return min(known, key=lambda place: losses[place]) if known else None


def search(trials: Sequence[Mapping[str, Any]], name: str | None) -> Markup:
    """Draw the losses of a search over its first strength, or over the candidates' place where there is none.

    Parameters
    ----------
    trials : sequence of mapping
        ``place`` (of the strength, or the number of the candidate), ``curve`` (the other parameters, in words),
        ``loss``, ``low``, ``high``, ``best`` and ``chosen``.
    name : str or None
        The strength; then the abscissa is logarithmic.
    """
    places = [one["place"] for one in trials]
    logarithmic = name is not None and min(places) > 0
    left, right = (min(places) / 1.2, max(places) * 1.2) if logarithmic else spread(places, margin=0.03)
    x = Scale(left, right, LEFT, WIDTH - 10, "log" if logarithmic else "linear")
    losses = [one["loss"] for one in trials]
    steep = min(losses) > 0 and max(losses) > 8 * min(losses)
    least, most = (min(losses) / 1.4, max(losses) * 1.3) if steep else spread([*losses, *(t["high"] for t in trials)])
    y = Scale(least, most, HEIGHT - BOTTOM, TOP, "log" if steep else "linear")
    parts: list[Markup] = [
        axes(x, y, x_title=name or "candidates, from the simplest", y_title="loss on images held out")
    ]
    for place, curve in enumerate(dict.fromkeys(one["curve"] for one in trials)):
        own = sorted((one for one in trials if one["curve"] == curve), key=lambda one: one["place"])
        if name:
            parts.append(line([(x(one["place"]), y(one["loss"])) for one in own], f"line {colour(place)}"))
        for one in own:
            title = f"{name or 'candidate'} {number(one['place'])} {curve}: {one['loss']:.4f}"
            parts.append(dot(x(one["place"]), y(one["loss"]), title, f"dot {colour(place)}", radius=2.5))
    best = next(one for one in trials if one["best"])
    parts.append(rule(x.start, y(best["high"]), x.end, y(best["high"]), "guide"))
    chosen = next(one for one in trials if one["chosen"])
    parts.append(tag("circle", cx=x(chosen["place"]), cy=y(chosen["loss"]), r=7.0, class_="ring"))
    return chart(WIDTH, HEIGHT, *parts, label=f"Losses of {len(trials)} candidates; the chosen one is ringed")


class Bin(NamedTuple):
    """Images of about the same confidence: their number, its mean, and the share that is right, with its interval."""

    images: float
    confidence: float
    accuracy: float
    low: float
    high: float


def reliability(bins: Sequence[Bin], before: Sequence[Bin]) -> Markup:
    """Draw how often the model is right over how sure it is, a dot a bin, its area the share of the images in it.

    Parameters
    ----------
    bins : sequence of Bin
        By rising confidence.
    before : sequence of Bin
        The same before calibration; maybe none.
    """
    shares = [share for one in (*bins, *before) for share in (one.confidence, one.accuracy)]
    sure = float(np.median([one.confidence for one in bins])) > SURE
    total = sum(one.images for one in bins)
    low, high = odds_ends(shares) if sure else (max(0.0, math.floor(10 * min(shares) - 1e-9) / 10), 1.0)
    high = min(high, 1 - 0.5 / total) if sure else high  # so many images tell no more
    kind: Any = "odds" if sure else "linear"
    x, y = Scale(low, high, LEFT, WIDTH - 14, kind), Scale(low, high, HEIGHT - BOTTOM, TOP, kind)
    title = "share that is right, on the scale of odds" if sure else "share that is right"
    parts: list[Markup] = [axes(x, y, x_title="confidence", y_title=title)]
    parts.append(line([(x(low), y(low)), (x(high), y(high))], "guide"))
    if before:
        parts.append(line([(x(one.confidence), y(one.accuracy)) for one in before], "line c9 dashed"))
    parts += [rule(x(one.confidence), y(one.low), x(one.confidence), y(one.high), "span c0") for one in bins]
    for one in bins:
        title = f"sure to {one.confidence:.3f}, right in {one.accuracy:.3f} of {one.images:,.0f}"
        radius = 2.5 + 7 * math.sqrt(one.images / total)
        parts.append(dot(x(one.confidence), y(one.accuracy), title, "dot c0", radius=radius))
    return chart(WIDTH, HEIGHT, *parts, label="How often the model is right, over how sure it is")


def interval(value: float, low: float, high: float, ends: tuple[float, float]) -> Markup:
    """Draw one value with its interval, for a row of a table; `ends` are those of all rows."""
    x = Scale(*ends, 1.0, 99.0, "odds")
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


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")
