"""The data before anything is learned: how many images, and of what size."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.style import BLUE, FAINT, INK, SPLIT_COLOURS, alone, drawing, integers, plural, short, thousands

CLASSES_AS_BARS = 40  # more would not fit on a page; then the largest and the smallest half of that are drawn


def class_counts(counts: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Draw a horizontal bar for each class, divided by split, with its numbers written out.

    Parameters
    ----------
    counts : mapping of label to mapping of split to int
        Classes are drawn in the order given. Beyond 40 classes, the 20 largest and the 20 smallest are drawn, by size.
        Splits that no class has are left out.
    path : Path
        The PNG file to publish.
    """
    totals = {label: sum(splits.values()) for label, splits in counts.items()}
    labels = list(counts)
    note = f"{plural(sum(totals.values()), 'image')}, {plural(len(labels), 'class', 'classes')}"
    if len(labels) > CLASSES_AS_BARS:
        half = CLASSES_AS_BARS // 2
        ranked = sorted(labels, key=lambda label: (-totals[label], label))
        labels = ranked[:half] + ranked[-half:]
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


def image_sizes(widths: NDArray[np.integer[Any]], heights: NDArray[np.integer[Any]], path: Path) -> None:
    """Draw the images' heights over their widths; a dot's area grows with the number of images of that very size.

    Parameters
    ----------
    widths, heights : ndarray of int, shape (N,)
        In pixels. The axes turn logarithmic where the longest side is over eight times the shortest.
    path : Path
        The PNG file to publish.
    """
    sizes, times = np.unique(np.stack([widths, heights], axis=1), axis=0, return_counts=True)
    with drawing(path, width=6.0, height=6.2) as figure:
        axes = alone(figure)
        low, high = (int(sizes.min()), int(sizes.max())) if len(sizes) else (1, 1)
        logarithmic = high > 8 * low
        limits = (low / 1.3, high * 1.3) if logarithmic else (0.0, high * 1.1)
        axes.plot(limits, limits, color=FAINT, linewidth=0.8, linestyle=":", zorder=1)
        axes.text(0.06, 0.06, "square", color=FAINT, fontsize=8, rotation=45, transform=axes.transAxes)
        smallest, alpha = (14, 0.45) if len(sizes) <= 3000 else (3, 0.2)
        area = smallest + 400 * (times / max(int(times.max(initial=1)), 50)) ** 0.75
        axes.scatter(sizes[:, 0], sizes[:, 1], s=area, color=BLUE, alpha=alpha, linewidths=0)
        if logarithmic:
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
        axes.set(xlim=limits, ylim=limits, xlabel="width (px)", ylabel="height (px)", aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(thousands())
        axes.grid(visible=True)
        axes.set_title(_describe_sizes(widths, heights, sizes, times))


def _describe_sizes(
    widths: NDArray[np.integer[Any]],
    heights: NDArray[np.integer[Any]],
    sizes: NDArray[np.integer[Any]],
    times: NDArray[np.integer[Any]],
) -> str:
    if not len(sizes):
        return "no images"
    if len(sizes) == 1:
        return f"{plural(len(widths), 'image')}, each {widths[0]:,} \N{MULTIPLICATION SIGN} {heights[0]:,} px"
    commonest = sizes[np.argmax(times)]
    return (
        f"{plural(len(widths), 'image')} of {len(sizes):,} sizes\n"
        f"median {np.median(widths):,.0f} \N{MULTIPLICATION SIGN} {np.median(heights):,.0f} px, "
        f"commonest {commonest[0]:,} \N{MULTIPLICATION SIGN} {commonest[1]:,} px ({times.max():,})"
    )
