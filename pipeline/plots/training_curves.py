"""How learning went: over epochs, over the candidates of a search, over the number of images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.scales import Scale, around, around_or_log
from pipeline.plots.style import (
    BLUE,
    CURVES,
    FAINT,
    GREEN,
    INK,
    VERMILION,
    alone,
    drawing,
    integers,
    scaled,
    short,
    thousands,
    undrawn,
)

Epochs = Sequence[Mapping[str, Any]]
STEEP = 30  # a loss that falls by more than this factor has a scale of logarithms
BEYOND_ONE = 1.01  # where an axis of accuracies ends at most: a line at 1 is seen whole, and no tick is above it
STEEP_SEARCH = 6  # losses of candidates that differ by more than that, too


@dataclass(frozen=True)
class Curves:
    """Loss or accuracy over the epochs.

    Attributes
    ----------
    name : str
    scale : Scale
        Of the values: of logarithms where the loss falls far.
    epochs, x : list of float
        The epochs, and where each stands on the abscissa.
    x_title : str
        Epochs, or passes over the photos where an epoch of the head takes several.
    series : dict of str to list of float
        ``training`` and, where there is one, ``validation``; NaN where there is no value.
    kept : int or None
        The place of the epoch whose weights are used; None if it is not known.
    start : float or None
        Where fine-tuning starts on the abscissa, between two epochs; None if the epochs are all of one training.
    """

    name: str
    scale: Scale
    epochs: list[float]
    x: list[float]
    x_title: str
    series: dict[str, list[float]]
    kept: int | None
    start: float | None

    @property
    def mark(self) -> tuple[float, str, str, float] | None:
        """Where the kept epoch stands, its words, a series, and its value in that: of validation where there is one."""
        if self.kept is not None:
            for what, values in reversed(self.series.items()):
                if math.isfinite(values[self.kept]):
                    at, epoch = self.x[self.kept], self.epochs[self.kept]
                    by_pass = f", pass {at:,.0f}" if self.x != self.epochs else ""
                    return at, f"kept: epoch {epoch:,.0f}{by_pass}", what, values[self.kept]
        return None


def curves(history: Epochs, name: str) -> Curves:
    """Return what is drawn of ``loss`` or ``accuracy``; `history` as for `learning_curves`."""
    series = {"training": _series(history, name), "validation": _series(history, f"val_{name}")}
    known = {what: values for what, values in series.items() if any(map(math.isfinite, values))}
    every = [value for values in known.values() for value in values]
    epochs, passes = _series(history, "epoch"), _series(history, "passes")
    by_pass = passes != epochs and all(map(math.isfinite, passes))  # an evaluation of an earlier version tells none
    x = passes if by_pass else epochs
    phases = [row.get("phase") for row in history]
    changes = [place for place in range(1, len(phases)) if phases[place] != phases[place - 1]]
    return Curves(
        name,
        around_or_log(every, ratio=STEEP) if name == "loss" else around(every, most=BEYOND_ONE),
        epochs,
        x,
        "passes over the photos" if by_pass else "epoch",
        known,
        next((place for place, row in enumerate(history) if row.get("kept") == 1), None),
        x[changes[0]] - 0.5 if changes else None,
    )


def learning_curves(history: Epochs, path: Path) -> None:
    """Draw loss and accuracy over all epochs, and mark the start of fine-tuning and the epoch that is kept.

    A row an epoch has the keys ``epoch``, ``loss``, ``accuracy`` and, where there was a validation split, ``val_loss``
    and ``val_accuracy``; ``passes``, which is the abscissa if it is not the epoch; ``phase``, which changes where
    fine-tuning starts; ``kept``, which is 1 for one of them. A missing value (absent, None or not a number) leaves a
    gap. Without any row there is no picture.
    """
    if not history:
        undrawn(path)
        return
    with drawing(path, width=9.0, height=3.6) as figure:
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            found = curves(history, name)
            marker = "o" if len(found.epochs) <= 30 else None
            for (what, values), (colour, style) in zip(
                found.series.items(), ((BLUE, "-"), (VERMILION, "--")), strict=False
            ):
                axes.plot(found.x, values, style, color=colour, marker=marker, markersize=3.5, label=what)
            axes.set_title(name)
            if mark := found.mark:
                at, words, what, value = mark
                axes.plot(at, value, "D", color=INK, markersize=6, zorder=3, label=words)
                number = f"{value:.4f}" if value >= 0.001 or not value else f"{value:.1e}"
                axes.set_title(f"{name}: {number} on {what} at the epoch that is kept")
            scaled(axes, "y", found.scale)
            if found.start is not None:
                axes.axvline(found.start, color=GREEN, linewidth=1.2, label="fine-tuning starts")
            axes.set_xlabel(found.x_title)
            axes.xaxis.set_major_locator(integers())
            axes.grid(visible=True)
            axes.legend(fontsize=8, loc="best", frameon=True, edgecolor="none")  # a line may run behind it


@dataclass(frozen=True)
class SearchPath:
    """The losses of a search.

    Attributes
    ----------
    strength : str or None
        The parameter that is the abscissa: the first that is a number and has more than two values. None where there is
        none, or where more than six curves would lie over it: the candidates stand in a row, from the simplest.
    x, y : Scale
    places : list of float
        Of the candidates on the abscissa.
    curves : dict of str to list of int
        Candidates that differ in the strength only, by the others in words, each by rising strength.
    """

    strength: str | None
    x: Scale
    y: Scale
    places: list[float]
    curves: dict[str, list[int]]


def search(params: Sequence[Mapping[str, Any]], losses: Sequence[float], highs: Sequence[float]) -> SearchPath:
    """Return what is drawn of a search.

    `params` are those of each candidate, from the simplest, all with the same names; `losses` are theirs, `highs` one
    standard error above.
    """
    strength = next((name for name in params[0] if _is_strength([one[name] for one in params])), None)
    rest = [", ".join(f"{key} {_value(one[key])}" for key in one if key != strength) for one in params]
    if strength is None or len(set(rest)) > len(CURVES):
        strength, rest, places = None, [""] * len(params), [float(place) for place in range(1, len(params) + 1)]
    else:
        places = [float(one[strength]) for one in params]
    grouped: dict[str, list[int]] = {}
    for place in sorted(range(len(params)), key=places.__getitem__):
        grouped.setdefault(rest[place], []).append(place)
    least, most = min(places), max(places)
    x = Scale(least / 1.5, most * 1.5, "log") if strength and least > 0 else around(places, margin=0.03)
    y = around_or_log([*losses, *highs], ratio=STEEP_SEARCH)
    return SearchPath(strength, x, y, places, {label: grouped[label] for label in dict.fromkeys(rest)})


def search_path(
    params: Sequence[Mapping[str, Any]],
    scores: NDArray[np.float64],
    *,
    best: int,
    chosen: int,
    path: Path,
    title: str,
) -> None:
    """Draw the losses of a search with one standard error either way, and which candidate was chosen.

    `params` are as for `search`; `scores` (candidates, 3) are loss in nats, its standard error, accuracy. `best` and
    `chosen` are places: of the candidate of least loss, and of the one that was chosen.
    """
    found = search(params, scores[:, 0].tolist(), (scores[:, 0] + scores[:, 1]).tolist())
    places = np.array(found.places)
    with drawing(path, width=8.0, height=4.4) as figure:
        axes = alone(figure)
        for (label, curve), (colour, marker) in zip(found.curves.items(), CURVES, strict=False):
            axes.errorbar(
                places[curve],
                scores[curve, 0],
                yerr=scores[curve, 1],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2 if found.strength else 0,
                elinewidth=1,
                capsize=2,
                label=label or None,
            )
        limit = scores[best, 0] + scores[best, 1]
        axes.axhline(limit, color=INK, linewidth=0.9, linestyle=":", label="one standard error above the least")
        ring: dict[str, Any] = {
            "markersize": 11,
            "markerfacecolor": "none",
            "markeredgewidth": 1.6,
            "linestyle": "none",
            "zorder": 4,
        }
        axes.plot(places[best], scores[best, 0], "s", color=FAINT, label="least loss", **ring)
        axes.plot(places[chosen], scores[chosen, 0], "o", color=VERMILION, label="chosen", **ring)
        scaled(axes, "x", found.x)
        scaled(axes, "y", found.y)
        axes.set(ylabel="loss on images held out (nats)")
        axes.set_xlabel(found.strength or "candidates, from the simplest")
        if found.strength is None:
            axes.xaxis.set_major_locator(integers())
            axes.xaxis.set_major_formatter(thousands())
        axes.grid(visible=True)
        what = ", ".join(f"{key} {_value(value)}" for key, value in params[chosen].items())
        axes.set_title(f"{title}\nchosen: {short(what, 80)}; accuracy {scores[chosen, 2]:.4f}")
        axes.legend(fontsize=8, loc="best")


def _is_strength(values: Sequence[Any]) -> bool:
    return len(set(values)) > 2 and all(isinstance(value, int | float) for value in values)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def growth(
    points: Sequence[tuple[float, float, float, float]],
    forecast: tuple[float, float, float, float],
    curve: Sequence[tuple[float, float]],
    path: Path,
) -> None:
    """Draw accuracy over the number of training images, and a forecast beyond the last, with their intervals.

    `points` (images, accuracy, low, high), ascending, were measured; `curve` (images, accuracy) was fitted.
    """
    with drawing(path, width=7.0, height=4.2) as figure:
        axes = alone(figure)
        x, y = zip(*curve, strict=True)
        axes.plot(x, y, color=FAINT, linewidth=1, label="fitted power law", zorder=1)
        for values, colour, marker, label in (
            (np.array(points), BLUE, "o", "measured, 95 % interval"),
            (np.array([forecast]), VERMILION, "D", f"forecast for {forecast[0]:,.0f}"),
        ):
            axes.vlines(values[:, 0], values[:, 2], values[:, 3], color=colour, linewidth=2, alpha=0.55)
            axes.plot(values[:, 0], values[:, 1], marker, color=colour, markersize=5, label=label)
        axes.set_xscale("log", base=2)
        ticks = [point[0] for point in points] + [forecast[0]]
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=45, ha="right")
        axes.minorticks_off()
        axes.set(xlabel="training images", ylabel="accuracy")
        axes.grid(visible=True)
        axes.legend(loc="lower right", fontsize=8)


def _series(history: Epochs, name: str) -> list[float]:
    return [math.nan if (value := row.get(name)) is None else float(value) for row in history]
