"""Where a base can be cut, and which of several bases: what is gained and what it costs."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.plots.style import INK, LINES, drawing, log_odds, plain, short, thousands

if TYPE_CHECKING:
    pass


class Rung(NamedTuple):
    """A cut with one pooling: place from below, accuracy with its interval, bytes and multiply-adds an image."""

    depth: int
    accuracy: float
    low: float
    high: float
    bytes: int
    multiply_adds: int


def layers(
    lines: Mapping[str, Sequence[Rung]], names: Mapping[int, str], chosen: tuple[int, str], path: Path, title: str
) -> None:
    """Draw accuracy over depth, a line a pooling, and below it what the cuts cost.

    The accuracies stand on the scale of log odds, on which 0.99 is as far from 0.9 as 0.9 from 0.5.

    Parameters
    ----------
    lines : mapping of pooling to sequence of Rung
    names : mapping of depth to str
        What the cuts are called.
    chosen : (depth, pooling)
        The one to mark.
    path : Path
        The PNG file to publish.
    title : str
        Stands above, in as many lines as it needs.
    """
    every = [rung for rungs in lines.values() for rung in rungs]
    depths = sorted(names)
    width = max(7.5, 1.8 + 0.4 * len(depths))
    with drawing(path, width=width, height=6.0) as figure:
        figure.suptitle(plain("\n".join(textwrap.wrap(title, int(width * 13)))), x=0.01, ha="left", fontsize=10)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        right = lower.twinx()
        bounds = log_odds(upper, "y", np.array([rung[1:4] for rung in every]))
        for place, (pooling, rungs) in enumerate(lines.items()):
            colour, marker = LINES[place % len(LINES)]
            x = np.array([rung.depth for rung in rungs]) + 0.13 * (place - (len(lines) - 1) / 2)
            value, low, high = np.clip(np.array([rung[1:4] for rung in rungs]), *bounds).T
            upper.vlines(x, low, high, color=colour, linewidth=1.4, alpha=0.5)
            upper.plot(x, value, color=colour, marker=marker, markersize=4, linewidth=1, label=pooling)
            right.plot(x, [rung.bytes for rung in rungs], color=colour, marker=marker, markersize=4, linewidth=0.6)
            for ring, height, rung in zip(x, value, rungs, strict=True):
                if (rung.depth, pooling) == chosen:
                    upper.plot(ring, height, "o", markersize=13, fillstyle="none", color=INK, label="chosen")
                    right.plot(ring, rung.bytes, "o", markersize=11, fillstyle="none", color=INK)
        upper.set_ylabel("accuracy, 95 % interval")
        upper.grid(visible=True)
        handles, labels = upper.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda place: labels[place] == "chosen")
        upper.legend([handles[k] for k in order], [labels[k] for k in order], fontsize=8, loc="lower right")
        costs = {rung.depth: rung.multiply_adds / 1e6 for rung in every}
        lower.bar(list(costs), list(costs.values()), width=0.8, color="#D9D9D9", zorder=0)
        lower.set_ylabel("bars: multiply-adds\nan image, millions", fontsize=8)
        lower.yaxis.set_major_formatter(thousands())
        right.set_yscale("log")
        right.set_ylabel("lines: bytes\nan image", fontsize=8)
        right.spines["right"].set_visible(True)
        right.yaxis.set_major_formatter(thousands())
        lower.set_xticks(depths, [short(names[depth], 24) for depth in depths], rotation=45, ha="right", fontsize=8)
        for label in lower.get_xticklabels():
            label.set_rotation_mode("anchor")
        lower.set_xlabel("cut, from the image upwards")


class Contender(NamedTuple):
    """A base: its name, accuracy with its interval, images a second, and seconds for all images."""

    name: str
    accuracy: float
    low: float
    high: float
    images_per_second: float
    seconds: float


def backbones(contenders: Sequence[Contender], path: Path, title: str) -> None:
    """Draw the accuracy of each base over its images a second, with its interval and the time for all images.

    Parameters
    ----------
    contenders : sequence of Contender
        At least one. They are numbered in the order given, and the numbers explained beside.
    path : Path
        The PNG file to publish.
    title : str
        Stands above.
    """
    with drawing(path, width=9.0, height=max(3.6, 1.4 + 0.45 * len(contenders))) as figure:
        figure.suptitle(short(title, 110), x=0.01, ha="left", fontsize=10)
        axes, text = figure.subplots(1, 2, width_ratios=(5, 4))
        rates = np.array([one.images_per_second for one in contenders])
        values = np.array([one[1:4] for one in contenders])
        drawn = np.clip(values, *log_odds(axes, "y", values))
        for place, (one, (value, low, high)) in enumerate(zip(contenders, drawn, strict=True)):
            colour = LINES[place % len(LINES)][0]
            axes.vlines(one.images_per_second, low, high, color=colour, linewidth=2, alpha=0.5)
            axes.plot(one.images_per_second, value, "o", color=colour, markersize=6)
            axes.annotate(
                str(place + 1),
                (one.images_per_second, value),
                xytext=(6, 5),
                textcoords="offset points",
                color=colour,
                fontweight="bold",
            )
        axes.set_xscale("log")
        axes.set_xlim(rates.min() / 1.5, rates.max() * 1.5)
        ticks = _round_numbers(rates.min() / 1.5, rates.max() * 1.5)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(visible=True)
        axes.set(xlabel="images a second, decoding included", ylabel="accuracy, 95 % interval")
        text.set_axis_off()
        lines = [
            f"{place}  {short(one.name, 52)}\n    {one.accuracy:.3f} ({one.low:.3f} to {one.high:.3f}), "
            f"{one.images_per_second:,.0f} a second, {_duration(one.seconds)}"
            for place, one in enumerate(contenders, 1)
        ]
        text.text(0, 1, "\n".join(lines), va="top", fontsize=7.5, linespacing=1.5, transform=text.transAxes)


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from `low` to `high`, both above 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
