"""The data before anything is learned: how many images, and of what size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.scales import Scale
from pipeline.plots.style import (
    ALONG,
    BLUE,
    FAINT,
    INK,
    SPLIT_COLOURS,
    alone,
    drawing,
    integers,
    scaled,
    short,
    thousands,
)
from pipeline.wording import counted

CLASSES_AS_BARS = 40  # more would not fit on a page; then the largest and the smallest half of that are drawn


def largest_and_smallest(totals: Mapping[str, int]) -> list[str]:
    """Return the classes that are shown: all, as they stand, or of more than `CLASSES_AS_BARS` those of either end."""
    if len(totals) <= CLASSES_AS_BARS:
        return list(totals)
    ranked = sorted(totals, key=lambda label: (-totals[label], label))
    return ranked[: CLASSES_AS_BARS // 2] + ranked[-(CLASSES_AS_BARS // 2) :]


def class_counts(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draw a horizontal bar for each class, divided by split, with its numbers written out.

    Classes are drawn in the order given. Beyond 40 classes, the 20 largest and the 20 smallest are drawn, by size.
    Splits that no class has are left out.
    """
    totals = {label: sum(splits.values()) for label, splits in counts.items()}
    labels = largest_and_smallest(totals)
    note = f"{counted(sum(totals.values()), 'image')}, {counted(len(counts), 'class', 'classes')}"
    if len(labels) < len(counts):
        half = CLASSES_AS_BARS // 2
        note += f"; drawn are the {half} largest and the {half} smallest"
    splits = [split for split in SPLIT_COLOURS if any(counts[label].get(split, 0) for label in labels)]

    with drawing(path, width=8.0, height=1.3 + 0.24 * max(3, len(labels))) as figure:
        axes = alone(figure)
        rows = np.arange(len(labels), dtype=float)
        if len(counts) > len(labels):
            rows[len(labels) // 2 :] += 1  # a gap where classes are missing
        start = np.zeros(len(labels))
        for split in splits:
            widths = np.array([counts[label].get(split, 0) for label in labels])
            axes.barh(rows, widths, left=start, height=0.72, color=SPLIT_COLOURS[split], label=split)
            start += widths
        longest = max(start, default=0) or 1
        texts = [" · ".join(f"{counts[label].get(split, 0):,}" for split in splits) for label in labels]
        for row, numbers, end in zip(rows, texts, start, strict=True):
            axes.text(end + 0.01 * longest, row, numbers, va="center", fontsize=8, color=INK)
        axes.set_yticks(rows, [short(label, 32) for label in labels])
        axes.set_ylim(rows.max(initial=0) + 0.6, -0.6)
        axes.set_xlim(0, longest * (1.06 + 0.014 * max(map(len, texts), default=0)))
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(integers())
        axes.xaxis.set_major_formatter(thousands())
        axes.set_xlabel(f"images ({' · '.join(splits)})")
        axes.set_title(note)
        if len(splits) > 1:
            figure.legend(loc="outside upper right", ncols=len(splits), fontsize=8)


@dataclass(frozen=True)
class Sizes:
    """Heights of images over their widths.

    Attributes
    ----------
    scale : Scale
        Of both axes, px; logarithmic where the longest side is over eight times the shortest.
    dots : list of (width, height, images of that size, share of the largest dot's area, words)
    """

    scale: Scale
    dots: list[tuple[int, int, int, float, str]]


def sizes(widths: NDArray[np.integer[Any]], heights: NDArray[np.integer[Any]]) -> Sizes:
    """Return what is drawn of the sizes of images, given in pixels, (N,) each."""
    pairs, times = np.unique(np.stack([widths, heights], axis=1), axis=0, return_counts=True)
    low, high = (float(pairs.min()), float(pairs.max())) if len(pairs) else (1.0, 1.0)
    logarithmic = high > 8 * low
    scale = Scale(low / 1.2, high * 1.2, "log") if logarithmic else Scale(0.0, high * 1.1)
    most = max(int(times.max(initial=1)), 50)
    return Sizes(
        scale,
        [
            (width, height, count, count / most, f"{width:,} by {height:,} px: {counted(count, 'image')}")
            for (width, height), count in zip(pairs.tolist(), times.tolist(), strict=True)
        ],
    )


def image_sizes(widths: NDArray[np.integer[Any]], heights: NDArray[np.integer[Any]], path: Path) -> None:
    """Draw the images' heights over their widths, px; a dot's area grows with the number of images of that size."""
    found = sizes(widths, heights)
    with drawing(path, width=6.0, height=6.2) as figure:
        axes = alone(figure)
        limits = (found.scale.low, found.scale.high)
        axes.plot(limits, limits, color=FAINT, linewidth=0.8, linestyle=":", zorder=1)
        axes.text(0.06, 0.06, "square", fontsize=8, rotation=45, transform=axes.transAxes, **ALONG)
        smallest, alpha = (14, 0.45) if len(found.dots) <= 3000 else (3, 0.2)
        x, y, _, shares = np.array([dot[:4] for dot in found.dots], dtype=float).reshape(-1, 4).T
        axes.scatter(x, y, s=smallest + 400 * shares**0.75, color=BLUE, alpha=alpha, linewidths=0)
        scaled(axes, "x", found.scale)
        scaled(axes, "y", found.scale)
        axes.set(xlabel="width (px)", ylabel="height (px)", aspect="equal")
        axes.grid(visible=True)
        axes.set_title(_describe_sizes(widths, heights, found.dots))


def _describe_sizes(
    widths: NDArray[np.integer[Any]],
    heights: NDArray[np.integer[Any]],
    dots: Sequence[tuple[int, int, int, float, str]],
) -> str:
    if not dots:
        return "no images"
    width, height, count, *_ = max(dots, key=lambda dot: dot[2])
    if len(dots) == 1:
        return f"{counted(count, 'image')}, each {width:,} \N{MULTIPLICATION SIGN} {height:,} px"
    return (
        f"{counted(len(widths), 'image')} of {len(dots):,} sizes\n"
        f"median {np.median(widths):,.0f} \N{MULTIPLICATION SIGN} {np.median(heights):,.0f} px, "
        f"commonest {width:,} \N{MULTIPLICATION SIGN} {height:,} px ({count:,})"
    )
