"""Where a base can be cut, and which of several bases: what is gained and what it costs."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.plots.scales import Scale, odds
from pipeline.plots.style import FAINT, INK, LINES, drawing, integers, plain, scaled, short, thousands
from pipeline.wording import duration, interval


class Rung(NamedTuple):
    """A cut with one pooling.

    Attributes
    ----------
    depth : int
        Place from below.
    cut, pooling : str
    accuracy, low, high : float
        Of a quick head, with its interval.
    multiply_adds : float
        Of an image, up to the cut.
    """

    depth: int
    cut: str
    pooling: str
    accuracy: float
    low: float
    high: float
    multiply_adds: float


@dataclass(frozen=True)
class LayerScores:
    """Accuracy over depth.

    Attributes
    ----------
    accuracy : Scale
        Of odds.
    cuts : dict of int to str
        What stands at each depth, from below.
    work : dict of int to float
        Multiply-adds of an image up to each depth.
    lines : dict of str to list of Rung
        One a pooling, from below.
    chosen : Rung or None
        The one to mark and to name.
    """

    accuracy: Scale
    cuts: dict[int, str]
    work: dict[int, float]
    lines: dict[str, list[Rung]]
    chosen: Rung | None

    @property
    def words(self) -> str:
        """What stands beside the chosen one."""
        one = self.chosen
        return "" if one is None else f"chosen: {one.cut}, {one.pooling}\n{interval(one.accuracy, one.low, one.high)}"


def scored_layers(rungs: Sequence[Rung], chosen: tuple[str, str]) -> LayerScores:
    """Return what is drawn of the cuts of a base; `chosen` is a cut and a pooling."""
    ordered = sorted(rungs)
    return LayerScores(
        odds(share for rung in rungs for share in (rung.accuracy, rung.low, rung.high)),
        {rung.depth: rung.cut for rung in ordered},
        {rung.depth: rung.multiply_adds for rung in ordered},
        {name: [rung for rung in ordered if rung.pooling == name] for name in dict.fromkeys(r.pooling for r in rungs)},
        next((rung for rung in rungs if (rung.cut, rung.pooling) == chosen), None),
    )


def layers(found: LayerScores, path: Path, base: str, why: str) -> None:
    """Draw accuracy over depth, a line a pooling, and below it what the cuts cost.

    `base` is what is cut, `why` why the chosen cut was chosen, in as many lines as it needs.
    """
    width = max(7.5, 1.8 + 0.4 * len(found.cuts))
    clip = found.accuracy.clip
    seen = f"How well your photos can be told apart at each layer of {base}, from the first layers to the last"
    words = _filled(seen, int(width * 11.5)), _filled(why, int(width * 15))
    with drawing(path, width=width, height=6.0) as figure:
        figure.suptitle(plain(words[0]), x=0.01, ha="left", fontsize=12)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
        upper.set_title(plain(words[1]), fontsize=8, color=FAINT)
        scaled(upper, "y", found.accuracy)
        for place, (pooling, rungs) in enumerate(found.lines.items()):
            colour, marker = LINES[place % len(LINES)]
            x = np.array([rung.depth for rung in rungs]) + 0.13 * (place - (len(found.lines) - 1) / 2)
            value = [clip(rung.accuracy) for rung in rungs]
            low, high = [clip(rung.low) for rung in rungs], [clip(rung.high) for rung in rungs]
            upper.vlines(x, low, high, color=colour, linewidth=1.4, alpha=0.35)
            upper.plot(x, value, color=colour, marker=marker, markersize=4, linewidth=1, label=pooling)
            for at, height, rung in zip(x, value, rungs, strict=True):
                if rung == found.chosen:
                    upper.plot(at, height, "o", markersize=13, fillstyle="none", color=INK)
                    upper.annotate(
                        found.words,
                        (at, height),
                        xytext=(0.98, 0.05),  # below the end of lines that rise to the last layers
                        textcoords="axes fraction",
                        ha="right",
                        fontweight="bold",
                        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8, "shrinkB": 7},
                    )
        upper.set_ylabel("accuracy, 95 % interval")
        upper.grid(visible=True)
        upper.legend(title="pooling", fontsize=8, title_fontsize=8, loc="upper left")
        lower.bar(list(found.work), [value / 1e6 for value in found.work.values()], width=0.7, color="#D9D9D9")
        lower.set_ylabel("million\nmultiply-adds", fontsize=8, rotation=0, ha="right", va="center")
        lower.tick_params(axis="y", labelsize=8)
        lower.yaxis.set_major_locator(integers(2))
        lower.yaxis.set_major_formatter(thousands())
        names = [short(cut, 24) for cut in found.cuts.values()]
        lower.set_xticks(list(found.cuts), names, rotation=45, ha="right", fontsize=8, rotation_mode="anchor")
        lower.set_xlabel("layer where the base is cut")


def _filled(text: str, letters: int) -> str:
    """Return the text in lines of so many letters; a number and its per cent sign stay together."""
    tied = "\N{NO-BREAK SPACE}%"
    return textwrap.fill(text.replace(" %", tied), letters).replace(tied, " %")


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

    The contenders, at least one, are numbered in the order given, and the numbers explained beside.
    """
    with drawing(path, width=9.0, height=max(3.6, 1.4 + 0.45 * len(contenders))) as figure:
        figure.suptitle(plain(_filled(title, 125)), x=0.01, ha="left", fontsize=10)
        axes, text = figure.subplots(1, 2, width_ratios=(5, 4))
        rates = np.array([one.images_per_second for one in contenders])
        accuracy = odds(share for one in contenders for share in one[1:4])
        scaled(axes, "y", accuracy)
        for place, one in enumerate(contenders):
            value, low, high = map(accuracy.clip, one[1:4])
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
        scaled(axes, "x", Scale(rates.min() / 1.5, rates.max() * 1.5, "log"))
        axes.grid(visible=True)
        axes.set(xlabel="images a second, decoding included", ylabel="accuracy, 95 % interval")
        text.set_axis_off()
        lines = [
            f"{place}  {short(one.name, 52)}\n    {interval(one.accuracy, one.low, one.high)}, "
            f"{one.images_per_second:,.0f} a second, {duration(one.seconds)}"
            for place, one in enumerate(contenders, 1)
        ]
        text.text(0, 1, "\n".join(lines), va="top", fontsize=7.5, linespacing=1.5, transform=text.transAxes)
