"""What a judgement found: which classes are confused, and how sure each number is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.scales import Scale
from pipeline.plots.style import ALONG, BLUE, FAINT, INK, alone, drawing, integers, plain, scaled, short, thousands
from pipeline.wording import counted, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLASSES_WITH_COUNTS = 20  # a confusion matrix has a number in each cell up to here
CLASSES_NAMED = 40  # and every class named at its axes up to here
PAIRS_LISTED = 25
TENTHS = 10  # bars of images by confidence
SHARES = Scale(0.0, 1.0)


def confusion_matrix(matrix: NDArray[np.integer[Any]], classes: Sequence[str], path: Path) -> None:
    """Draw how often each actual class (row) was predicted as each class (column).

    A cell's shade is its share of its row, so that small classes show as well as large ones; the scale is that of the
    square root, so that rare confusions show beside a dark diagonal. Up to 20 classes each cell holds its count; beyond
    40 the axes name some of the classes only, and the commonest confusions are listed beside.

    `matrix` (K, K) holds counts. A class may have no image at all; its row is left blank.
    """
    from matplotlib.colors import PowerNorm

    k = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.42 * k, 2.6, 8.0))
    listed = _confusions(matrix, classes) if k > CLASSES_WITH_COUNTS else []
    with drawing(path, width=side + 2.6 + (3.6 if listed else 0), height=side + 1.9) as figure:
        columns = figure.subplots(1, 2, width_ratios=(side + 2.0, 3.6)) if listed else [alone(figure)]
        axes = columns[0]
        image = axes.imshow(
            shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="auto" if k > 400 else "nearest"
        )
        for spine in axes.spines.values():
            spine.set_visible(False)
        step = -(-k // CLASSES_NAMED)
        ticks = range(0, k, step)
        names = [short(classes[tick], 20) for tick in ticks]
        upright = step == 1 and 0.09 * max(map(len, names)) < side / k  # inches: they fit side by side
        axes.set_xticks(ticks, names, rotation=0 if upright else 45, ha="center" if upright else "right")
        for label in [] if upright else axes.get_xticklabels():
            label.set_rotation_mode("anchor")
        axes.set_yticks(ticks, names)
        axes.tick_params(labelsize=9 if k <= CLASSES_WITH_COUNTS else 7, length=0 if step == 1 else 2)
        if k <= CLASSES_NAMED:
            axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
            axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
            axes.grid(visible=True, which="minor", color="white", linewidth=1.2)
            axes.tick_params(which="minor", length=0)
        if k <= CLASSES_WITH_COUNTS:
            _write_counts(axes, matrix, shares)
        axes.set(xlabel="predicted", ylabel="actual")
        correct, total = int(np.trace(matrix)), int(matrix.sum())
        named = "" if step == 1 else f"; one class in {step} is named"
        axes.set_title(f"{correct:,} of {counted(total, 'test image')} correct{named}")
        bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.03, fraction=0.05, ticks=(0, 0.01, 0.05, 0.2, 0.5, 1))
        bar.set_label("share of the actual class", fontsize=8)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)
        if listed:
            _list_confusions(columns[1], listed)


def intervals(groups: Mapping[str, Sequence[tuple[str, float, float, float]]], path: Path, title: str) -> None:
    """Draw values with their confidence intervals, a panel a group, a row a value, with the numbers written out.

    `groups` are the panels, side by side, with their rows (name, value, low, high) from top to bottom. Panels with the
    same row names share these. NaN is drawn as not defined.
    """
    tallest = max((len(rows) for rows in groups.values()), default=1)
    with drawing(path, width=1.6 + 3.2 * len(groups), height=1.1 + 0.26 * max(3, tallest)) as figure:
        figure.suptitle(short(title, 110), x=0.01, ha="left", fontsize=10)
        names: list[str] | None = None
        for axes, (group, rows) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
            values = np.array([row[1:] for row in rows], dtype=float).reshape(-1, 3)
            places = np.arange(len(rows))
            axes.hlines(places, values[:, 1], values[:, 2], color=BLUE, linewidth=2, alpha=0.55)
            axes.plot(values[:, 0], places, "o", color=BLUE, markersize=4.5)
            finite = values[np.isfinite(values)]
            low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
            room = max(high - low, 0.02)
            for place, (value, lower, upper) in zip(places, values, strict=True):
                text = interval(value, lower, upper)
                axes.text(1.02, place, text, fontsize=7, va="center", transform=axes.get_yaxis_transform())
            labels = [short(row[0], 24) for row in rows]
            axes.set_yticks(places, labels if labels != names else [""] * len(labels))
            names = labels
            axes.set(xlim=(low - 0.06 * room, high + 0.06 * room), ylim=(len(rows) - 0.4, -0.6), title=short(group, 40))
            axes.grid(visible=True, axis="x")
            axes.tick_params(left=False, labelsize=8)
            axes.spines["left"].set_visible(False)


class Bin(NamedTuple):
    """Images of about the same confidence: their number, its mean, and the share that is right, with its interval."""

    images: float
    confidence: float
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """How often a model is right over how sure it is, both from 0 to 1: a model that is nearly right looks so.

    Attributes
    ----------
    bins : sequence of Bin
        By rising confidence.
    counts : list of int
        Images by tenths of confidence.
    """

    bins: Sequence[Bin]
    counts: list[int]


def reliable(bins: Sequence[Bin], confidences: NDArray[np.float64]) -> Reliability:
    """Return what is drawn of bins and of the confidence of each image, (n,)."""
    return Reliability(bins, np.histogram(confidences, bins=TENTHS, range=(0, 1))[0].tolist())


def reliability(panels: Mapping[str, Reliability], path: Path, title: str) -> None:
    """Draw accuracy over confidence, a panel a state, and below it the images by their confidence."""
    with drawing(path, width=0.8 + 3.9 * len(panels), height=6.2) as figure:
        figure.suptitle(short(title, 110), x=0.01, ha="left", fontsize=10)
        grid = figure.subplots(2, len(panels), squeeze=False, sharex=True, height_ratios=(4, 1))
        for upper, lower, (state, found) in zip(*grid, panels.items(), strict=True):
            scaled(upper, "x", SHARES, most=5)
            scaled(upper, "y", SHARES, most=5)
            upper.plot((0, 1), (0, 1), color=FAINT, linewidth=0.9, linestyle=":", zorder=1)
            upper.text(0.1, 0.11, "as often right as it is sure", fontsize=8, rotation=45, **ALONG)
            x, y, low, high = np.array([one[1:] for one in found.bins]).T
            upper.vlines(x, low, high, color=BLUE, linewidth=2, alpha=0.45, clip_on=False)
            upper.plot(x, y, "o", color=BLUE, markersize=5, alpha=0.8, clip_on=False, zorder=3)
            upper.set(ylabel="share that is right", box_aspect=1)
            upper.set_title("\n".join(plain(line) for line in state.splitlines()))
            upper.grid(visible=True)
            lower.bar(np.arange(TENTHS) / TENTHS, found.counts, width=0.9 / TENTHS, align="edge", color=BLUE, alpha=0.6)
            lower.yaxis.set_major_locator(integers(3))
            lower.yaxis.set_major_formatter(thousands())
            lower.set(xlabel="confidence", ylabel="images", box_aspect=0.25)
            for axes in (upper, lower):
                axes.tick_params(labelsize=8)


def _write_counts(axes: "Axes", matrix: NDArray[np.integer[Any]], shares: NDArray[np.float64]) -> None:
    size = 9 if len(matrix) <= 10 and matrix.max(initial=0) < 10_000 else 7
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if shares[row, column] > 0.35 else INK
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=size, color=colour)


def _confusions(matrix: NDArray[np.integer[Any]], classes: Sequence[str]) -> list[tuple[int, int, str, str]]:
    """Return (count, images of the actual class, actual, predicted) off the diagonal, the commonest first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")
    pairs = [divmod(int(cell), len(classes)) for cell in order[: int(np.count_nonzero(wrong))]]
    of = matrix.sum(axis=1)
    return [(int(wrong[i, j]), int(of[i]), classes[i], classes[j]) for i, j in pairs]


def _list_confusions(axes: "Axes", pairs: Sequence[tuple[int, int, str, str]]) -> None:
    axes.set_axis_off()
    axes.set_title("commonest confusions (actual → predicted)", fontsize=9)
    shown = pairs[:PAIRS_LISTED]
    lines = [f"{n:,} of {of:,}   {short(actual, 18)} → {short(predicted, 18)}" for n, of, actual, predicted in shown]
    if len(pairs) > len(shown):
        lines.append(f"and {counted(len(pairs) - len(shown), 'other pair')}")
    axes.text(0, 0.99, "\n".join(lines), va="top", fontsize=7.5, linespacing=1.5, transform=axes.transAxes)
