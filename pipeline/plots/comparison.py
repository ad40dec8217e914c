"""Models side by side."""

from collections.abc import Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.plots.style import BLUE, INK, VERMILION, drawing, short
from pipeline.wording import interval


def ranking(
    values: Sequence[tuple[str, float, float, float]],
    gaps: Sequence[tuple[str, float, float, float]],
    worse: Set[str],
    path: Path,
    title: str,
) -> None:
    """Draw models from top to bottom: accuracy on the left, its difference to the first on the right.

    `values` are (name, accuracy, low, high) in fractions, the first model on top; `gaps` are (name, difference, low,
    high) in points of accuracy, of all but the first, in the same order. Those in `worse`, shown to be worse than the
    first, are drawn in another colour, with another mark.
    """
    names = [row[0] for row in values]
    panels = (
        (values, "accuracy", partial(interval, places=3), 0),
        (gaps, "accuracy less that of the first, in points", partial(interval, places=1), 1),
    )
    with drawing(path, width=9.6, height=1.5 + 0.3 * max(3, len(names))) as figure:
        figure.suptitle(short(title, 110), x=0.01, ha="left", fontsize=10)
        for axes, (rows, heading, written, first) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            for place, (name, *numbers) in enumerate(rows, first):
                value, low, high = numbers
                colour, mark = (VERMILION, "D") if name in worse else (BLUE, "o")
                axes.hlines(place, low, high, color=colour, linewidth=2, alpha=0.55)
                axes.plot(value, place, mark, color=colour, markersize=5)
                where = axes.get_yaxis_transform()
                axes.text(1.02, place, written(*numbers), fontsize=8, va="center", transform=where)
            axes.set(title=heading, ylim=(len(names) - 0.4, -0.6))
            axes.grid(visible=True, axis="x")
            axes.tick_params(left=False, labelsize=8)
            axes.spines["left"].set_visible(False)
            if first:
                axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(names)), [short(name, 28) for name in names])
        if worse:
            marks = [_mark("D", VERMILION, "shown to be worse than the first"), _mark("o", BLUE, "not shown to differ")]
            figure.legend(handles=marks, loc="outside lower right", ncols=2, fontsize=8)


def _mark(marker: str, colour: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=marker, color=colour, linewidth=2, markersize=5, label=label)
