"""Every picture that the pipeline draws, as PNG files: same input, same bytes.

Nothing here knows where the numbers come from. Each function takes plain numbers, texts and pixels, draws one figure
and publishes it. A figure must stay readable for two classes and for hundreds of them: what does not fit is left out,
and the picture says so.

Colours are those of Okabe and Ito, "Color Universal Design" (2008), which colour-blind people can tell apart; no
picture relies on colour alone.
"""

import contextlib
import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.files import published

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, FAINT, PAPER = "#222222", "#8A8A8A", "#F0F0F0"
LINES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (VERMILION, "D"))  # colour and marker
SPLIT_COLOURS = {"train": BLUE, "val": ORANGE, "test": GREEN}
CURVES = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (ORANGE, "D"), (INK, "v"), (FAINT, "P"))
DPI = 120

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.dpi": DPI,
    "font.size": 9,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
# The bundled font knows Latin, Greek and Cyrillic. Labels in other scripts are drawn where the system has one of these.
FALLBACK_FONTS = ("Noto Sans CJK JP", "Hiragino Sans", "Microsoft YaHei", "Arial Unicode MS", "Noto Sans", "Unifont")

CLASSES_AS_BARS = 40  # more would not fit on a page; then the largest and the smallest half of that are drawn
CLASSES_WITH_COUNTS = 20  # a confusion matrix has a number in each cell up to here
CLASSES_NAMED = 40  # and every class named at its axes up to here
PAIRS_LISTED = 25
FEWEST_TICKS = 4
PAIR_SIDE, PAIR_WIDTH = 204, 416  # px; 1.7 inches at the dots of an inch above, and 8 px between the two


def sample_grid(
    thumbnails: Sequence[NDArray[np.uint8] | None], captions: Sequence[str], path: Path, title: str
) -> None:
    """Draw pictures in rows, each with its caption below.

    Parameters
    ----------
    thumbnails : sequence of ndarray of uint8, shape (height, width, 3), or None
        Any sizes; each is fitted into a square cell, its aspect kept. None is drawn as an empty cell.
    captions : sequence of str
        One for each picture. Lines that are too long are shortened in the middle, so that the end of a file name stays.
    path : Path
        The PNG file to publish.
    title : str
        Stands above the grid.
    """
    columns = min(8, max(4, math.ceil((1.6 * len(captions)) ** 0.5)))
    _grid(thumbnails, captions, path, title, columns=columns, cell=1.4)


def mistakes_grid(
    pictures: Sequence[NDArray[np.uint8] | None], captions: Sequence[str], path: Path, title: str
) -> None:
    """Draw wrongly classified images, larger than samples are; without any, a picture that consists of its title.

    Parameters
    ----------
    pictures : sequence of ndarray of uint8, shape (height, width, 3), or None
        None is drawn as an empty cell: the caption says what became of the image.
    captions : sequence of str
        One for each picture; usually several lines.
    path : Path
        The PNG file to publish.
    title : str
        Stands above the grid.
    """
    _grid(pictures, captions, path, title, columns=min(6, max(4, len(captions))), cell=2.0)


def pairs_grid(
    pairs: Sequence[tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]],
    captions: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Draw pairs of pictures side by side, each pair with its caption below; without any, the title alone.

    Parameters
    ----------
    pairs : sequence of two ndarrays of uint8, shape (height, width, 3), or None
        Any sizes; each is enlarged or shrunk into a square. None is drawn as a grey one.
    captions : sequence of str
        One for each pair; usually several lines.
    path : Path
        The PNG file to publish.
    title : str
        Stands above the grid.
    """
    joined = [_side_by_side(left, right) for left, right in pairs]
    _grid(joined, captions, path, title, columns=3, cell=1.7, aspect=PAIR_WIDTH / PAIR_SIDE)


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
    note = f"{_plural(sum(totals.values()), 'image')}, {_plural(len(labels), 'class', 'classes')}"
    if len(labels) > CLASSES_AS_BARS:
        half = CLASSES_AS_BARS // 2
        ranked = sorted(labels, key=lambda label: (-totals[label], label))
        labels = ranked[:half] + ranked[-half:]
        note += f"; drawn are the {half} largest and the {half} smallest"
    splits = [split for split in SPLIT_COLOURS if any(counts[label].get(split, 0) for label in labels)]

    with _drawing(path, width=8.0, height=1.3 + 0.24 * max(3, len(labels))) as figure:
        axes = _axes(figure)
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
        axes.set_yticks(rows, [_short(label, 32) for label in labels])
        axes.set_ylim(rows.max(initial=0) + 0.6, -0.6)
        axes.set_xlim(0, longest * (1.06 + 0.014 * max(map(len, texts), default=0)))
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(_integers())
        axes.xaxis.set_major_formatter(_thousands())
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
    with _drawing(path, width=6.0, height=6.2) as figure:
        axes = _axes(figure)
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
            axis.set_major_formatter(_thousands())
        axes.grid(visible=True)
        axes.set_title(_describe_sizes(widths, heights, sizes, times))


def confusion_matrix(matrix: NDArray[np.integer[Any]], classes: Sequence[str], path: Path) -> None:
    """Draw how often each actual class (row) was predicted as each class (column).

    A cell's shade is its share of its row, so that small classes show as well as large ones; the scale is that of the
    square root, so that rare confusions show beside a dark diagonal. Up to 20 classes each cell
    holds its count; beyond 40 the axes name some of the classes only, and the commonest confusions are listed beside.

    Parameters
    ----------
    matrix : ndarray of int, shape (K, K)
        Counts: rows are actual, columns predicted classes. A class may have no image at all; its row is left blank.
    classes : sequence of str
        The K labels.
    path : Path
        The PNG file to publish.
    """
    from matplotlib.colors import PowerNorm

    k = len(classes)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.42 * k, 2.6, 8.0))
    listed = _confusions(matrix, classes) if k > CLASSES_WITH_COUNTS else []
    with _drawing(path, width=side + 2.6 + (3.6 if listed else 0), height=side + 1.9) as figure:
        columns = figure.subplots(1, 2, width_ratios=(side + 2.0, 3.6)) if listed else [_axes(figure)]
        axes = columns[0]
        image = axes.imshow(
            shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="auto" if k > 400 else "nearest"
        )
        for spine in axes.spines.values():
            spine.set_visible(False)
        step = -(-k // CLASSES_NAMED)
        ticks = range(0, k, step)
        names = [_short(classes[tick], 20) for tick in ticks]
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
        axes.set_title(f"{correct:,} of {_plural(total, 'test image')} correct{named}")
        bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.03, fraction=0.05, ticks=(0, 0.01, 0.05, 0.2, 0.5, 1))
        bar.set_label("share of the actual class", fontsize=8)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)
        if listed:
            _list_confusions(columns[1], listed)


def learning_curves(history: Sequence[Mapping[str, float | None]], path: Path) -> None:
    """Draw loss and accuracy over the epochs, training and validation, and mark the epoch of least validation loss.

    Parameters
    ----------
    history : sequence of mapping
        One row an epoch with the keys ``epoch``, ``loss``, ``accuracy`` and, where there was a validation split,
        ``val_loss`` and ``val_accuracy``. A missing value (absent, None or not a number) leaves a gap. Without any
        row the picture is a sentence that says so.
    path : Path
        The PNG file to publish.
    """
    if not history:
        _grid([], [], path, "This head learns without epochs: there are no curves to draw", columns=4, cell=2.0)
        return
    epochs = _series(history, "epoch")
    val_loss = _series(history, "val_loss")
    best = int(np.nanargmin(val_loss)) if np.isfinite(val_loss).any() else None
    with _drawing(path, width=9.0, height=3.6) as figure:
        for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            training, validation = _series(history, name), _series(history, f"val_{name}")
            marker = "o" if len(epochs) <= 30 else None
            axes.plot(epochs, training, color=BLUE, marker=marker, markersize=3.5, label="training")
            if np.isfinite(validation).any():
                axes.plot(epochs, validation, "--", color=VERMILION, marker=marker, markersize=3.5, label="validation")
            if best is not None and np.isfinite(validation[best]):
                axes.axvline(epochs[best], color=FAINT, linewidth=0.8, linestyle=":")
                axes.plot(epochs[best], validation[best], "D", color=VERMILION, markersize=6, zorder=3)
                axes.set_title(f"{name}: validation {validation[best]:.4f} at epoch {epochs[best]:,.0f}")
            else:
                axes.set_title(name)
            both = np.concatenate([training, validation])
            both = both[np.isfinite(both)]
            if name == "loss" and both.size and both.min() > 0 and both.max() > 50 * both.min():
                axes.set_yscale("log")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(_integers())
            axes.grid(visible=True)
            axes.legend(fontsize=8, loc="best")


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

    The first parameter that is a number and has more than two values is the abscissa, logarithmic where all of them
    are above 0; candidates that differ in the others are curves of their own. Where there is no such parameter, or more
    than six curves, the candidates stand in a row, from the simplest.

    Parameters
    ----------
    params : sequence of mapping
        Of each candidate, from the simplest; all have the same names.
    scores : ndarray of shape (candidates, 3)
        Loss in nats, its standard error, accuracy.
    best, chosen : int
        Places of the candidate of least loss, and of the one that was chosen.
    path : Path
        The PNG file to publish.
    title : str
        Stands above the picture.
    """
    name = next((name for name in params[0] if _is_strength([one[name] for one in params])), None)
    rest = [", ".join(f"{key} {_value(one[key])}" for key in one if key != name) for one in params]
    if name is None or len(set(rest)) > len(CURVES):
        name, rest, places = None, [""] * len(params), np.arange(1.0, len(params) + 1)
    else:
        places = np.array([one[name] for one in params], dtype=np.float64)
    with _drawing(path, width=8.0, height=4.4) as figure:
        axes = _axes(figure)
        for label, (colour, marker) in zip(dict.fromkeys(rest), CURVES, strict=False):
            curve = np.array([place for place, own in enumerate(rest) if own == label])
            curve = curve[np.argsort(places[curve], kind="stable")]
            axes.errorbar(
                places[curve],
                scores[curve, 0],
                yerr=scores[curve, 1],
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2 if name else 0,
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
        finite = scores[np.isfinite(scores[:, 0]), 0]
        if finite.min() > 0 and finite.max() > 5 * finite.min():
            _set_logarithmic(axes)
        if name and places.min() > 0:
            axes.set_xscale("log")
        axes.set(ylabel="loss on images held out (nats)")
        axes.set_xlabel(name or "candidates, from the simplest")
        if name is None:
            axes.xaxis.set_major_locator(_integers())
        axes.grid(visible=True)
        what = ", ".join(f"{key} {_value(value)}" for key, value in params[chosen].items())
        axes.set_title(f"{title}\nchosen: {_short(what, 80)}; accuracy {scores[chosen, 2]:.4f}")
        axes.legend(fontsize=8, loc="best")


def _set_logarithmic(axes: "Axes") -> None:
    """Make the ordinate logarithmic, with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _is_strength(values: Sequence[Any]) -> bool:
    return len(set(values)) > 2 and all(isinstance(value, int | float) for value in values)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def intervals(groups: Mapping[str, Sequence[tuple[str, float, float, float]]], path: Path, title: str) -> None:
    """Draw values with their confidence intervals, a panel a group, a row a value, with the numbers written out.

    Parameters
    ----------
    groups : mapping of str to sequence of (name, value, low, high)
        The panels, side by side, with their rows from top to bottom. Panels with the same row names share these. NaN is
        drawn as undefined.
    path : Path
        The PNG file to publish.
    title : str
        Stands above the panels.
    """
    tallest = max((len(rows) for rows in groups.values()), default=1)
    with _drawing(path, width=1.6 + 3.2 * len(groups), height=1.1 + 0.26 * max(3, tallest)) as figure:
        figure.suptitle(_short(title, 110), x=0.01, ha="left", fontsize=10)
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
                text = f"{value:.3f} ({lower:.3f} to {upper:.3f})" if np.isfinite(value) else "undefined"
                axes.text(1.02, place, text, fontsize=7, va="center", transform=axes.get_yaxis_transform())
            labels = [_short(row[0], 24) for row in rows]
            axes.set_yticks(places, labels if labels != names else [""] * len(labels))
            names = labels
            axes.set(
                xlim=(low - 0.06 * room, high + 0.06 * room), ylim=(len(rows) - 0.4, -0.6), title=_short(group, 40)
            )
            axes.grid(visible=True, axis="x")
            axes.tick_params(left=False, labelsize=8)
            axes.spines["left"].set_visible(False)


def sentence(text: str, path: Path) -> None:
    """Draw a picture that consists of a sentence, where there is nothing to draw.

    Parameters
    ----------
    text : str
    path : Path
        The PNG file to publish.
    """
    _grid([], [], path, text, columns=4, cell=2.0)


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
    with _drawing(path, width=width, height=6.0) as figure:
        figure.suptitle(_plain("\n".join(textwrap.wrap(title, int(width * 13)))), x=0.01, ha="left", fontsize=10)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        right = lower.twinx()
        bounds = _odds(upper, np.array([rung[1:4] for rung in every]))
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
        lower.yaxis.set_major_formatter(_thousands())
        right.set_yscale("log")
        right.set_ylabel("lines: bytes\nan image", fontsize=8)
        right.spines["right"].set_visible(True)
        right.yaxis.set_major_formatter(_thousands())
        lower.set_xticks(depths, [_short(names[depth], 24) for depth in depths], rotation=45, ha="right", fontsize=8)
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
    with _drawing(path, width=9.0, height=max(3.6, 1.4 + 0.45 * len(contenders))) as figure:
        figure.suptitle(_short(title, 110), x=0.01, ha="left", fontsize=10)
        axes, text = figure.subplots(1, 2, width_ratios=(5, 4))
        rates = np.array([one.images_per_second for one in contenders])
        values = np.array([one[1:4] for one in contenders])
        drawn = np.clip(values, *_odds(axes, values))
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
            f"{place}  {_short(one.name, 52)}\n    {one.accuracy:.3f} ({one.low:.3f} to {one.high:.3f}), "
            f"{one.images_per_second:,.0f} a second, {_duration(one.seconds)}"
            for place, one in enumerate(contenders, 1)
        ]
        text.text(0, 1, "\n".join(lines), va="top", fontsize=7.5, linespacing=1.5, transform=text.transAxes)


def growth(
    points: Sequence[tuple[float, float, float, float]],
    forecast: tuple[float, float, float, float],
    curve: Sequence[tuple[float, float]],
    path: Path,
) -> None:
    """Draw accuracy over the number of training images, and a forecast beyond the last, with their intervals.

    Parameters
    ----------
    points : sequence of (images, accuracy, low, high)
        What was measured, ascending.
    forecast : (images, accuracy, low, high)
    curve : sequence of (images, accuracy)
        What was fitted.
    path : Path
        The PNG file to publish.
    """
    with _drawing(path, width=7.0, height=4.2) as figure:
        axes = _axes(figure)
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


def ranking(
    values: Sequence[tuple[str, float, float, float]],
    gaps: Sequence[tuple[str, float, float, float]],
    worse: Set[str],
    path: Path,
    title: str,
) -> None:
    """Draw models from top to bottom: accuracy on the left, its difference to the first on the right.

    Parameters
    ----------
    values : sequence of (name, accuracy, low, high)
        Fractions, the first model on top.
    gaps : sequence of (name, difference, low, high)
        Points of accuracy, of all but the first, in the same order.
    worse : set of str
        Those that are shown to be worse than the first: drawn in another colour, with another mark.
    path : Path
        The PNG file to publish.
    title : str
        Stands above.
    """
    names = [row[0] for row in values]
    panels = (
        (values, "accuracy", "{:.3f} [{:.3f}, {:.3f}]", 0),
        (gaps, "accuracy less that of the first, in points", "{:.1f} [{:.1f}, {:.1f}]", 1),
    )
    with _drawing(path, width=9.6, height=1.5 + 0.3 * max(3, len(names))) as figure:
        figure.suptitle(_short(title, 110), x=0.01, ha="left", fontsize=10)
        for axes, (rows, heading, form, first) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            for place, (name, *numbers) in enumerate(rows, first):
                value, low, high = numbers
                colour, mark = (VERMILION, "D") if name in worse else (BLUE, "o")
                axes.hlines(place, low, high, color=colour, linewidth=2, alpha=0.55)
                axes.plot(value, place, mark, color=colour, markersize=5)
                axes.text(
                    1.02, place, form.format(*numbers), fontsize=8, va="center", transform=axes.get_yaxis_transform()
                )
            axes.set(title=heading, ylim=(len(names) - 0.4, -0.6))
            axes.grid(visible=True, axis="x")
            axes.tick_params(left=False, labelsize=8)
            axes.spines["left"].set_visible(False)
            if first:
                axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(names)), [_short(name, 28) for name in names])
        marks = [_mark("D", VERMILION, "shown to be worse than the first")] if worse else []
        marks.append(_mark("o", BLUE, "not shown to differ from the first"))
        figure.legend(handles=marks, loc="outside lower right", ncols=2, fontsize=8)


def _mark(marker: str, colour: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], marker=marker, color=colour, linewidth=2, markersize=5, label=label)


@contextlib.contextmanager
def _drawing(path: Path, *, width: float, height: float) -> "Iterator[Figure]":
    """Yield a figure of this size in inches; when the block ends, publish it at `path` as PNG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    fonts = ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box stands for it; no reason to worry
        matplotlib.rcdefaults()  # a user's own style would change the bytes, a style with TeX would stop the run
        matplotlib.rcParams.update({**STYLE, "font.family": fonts})
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with published(path) as temporary:
            # Without its own metadata, since these would name the version of the drawing library.
            figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _axes(figure: "Figure") -> "Axes":
    return figure.add_subplot()


def _grid(
    pictures: Sequence[NDArray[np.uint8] | None],
    captions: Sequence[str],
    path: Path,
    title: str,
    *,
    columns: int,
    cell: float,
    aspect: float = 1.0,
) -> None:
    """Draw cells, `cell` inches high and `aspect` times as wide; placed by hand, since there may be many, all alike."""
    across = cell * aspect
    letters = int(across * 14)  # as many as fit under a cell in this font size
    texts = ["\n".join(_short(line, letters) for line in caption.splitlines()) for caption in captions]
    below = 0.06 + 0.15 * max((text.count("\n") + 1 for text in texts), default=0)
    gap, margin = 0.16, 0.15
    rows = -(-len(texts) // columns)
    width = 2 * margin + columns * (across + gap) - gap
    heading = textwrap.wrap(title, int(width * 12.5)) or [""]
    top = margin + 0.2 * len(heading)
    height = top + margin + rows * (cell + below + gap)
    with _drawing(path, width=width, height=height) as figure:
        figure.set_layout_engine("none")
        figure.text(margin / width, 1 - margin / height, _plain("\n".join(heading)), fontsize=11, va="top")
        for place, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            row, column = divmod(place, columns)
            left = margin + column * (across + gap)
            bottom = height - top - margin / 2 - row * (cell + below + gap) - cell
            axes = figure.add_axes((left / width, bottom / height, across / width, cell / height))
            axes.set_axis_off()
            if picture is None:
                axes.add_patch(_placeholder())
            else:
                axes.imshow(picture)
                axes.set_anchor("SW")  # at its caption
            figure.text(left / width, (bottom - 0.05) / height, text, fontsize=7.5, va="top", linespacing=1.25)


def _side_by_side(left: NDArray[np.uint8] | None, right: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return two pictures as one, on white, each fitted into a square and standing on its lower edge."""
    from PIL import Image

    canvas = Image.new("RGB", (PAIR_WIDTH, PAIR_SIDE), "white")
    for start, pixels in ((0, left), (PAIR_WIDTH - PAIR_SIDE, right)):
        picture = Image.new("RGB", (1, 1), PAPER) if pixels is None else Image.fromarray(pixels)
        scale = PAIR_SIDE / max(picture.size)
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        canvas.paste(picture, (start, PAIR_SIDE - picture.height))
    return np.asarray(canvas)


def _placeholder() -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, facecolor=PAPER, edgecolor=FAINT, hatch="//", linewidth=0.5)


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
    lines = [f"{n:,} of {of:,}   {_short(actual, 18)} → {_short(predicted, 18)}" for n, of, actual, predicted in shown]
    if len(pairs) > len(shown):
        lines.append(f"and {_plural(len(pairs) - len(shown), 'other pair')}")
    axes.text(0, 0.99, "\n".join(lines), va="top", fontsize=7.5, linespacing=1.5, transform=axes.transAxes)


def _series(history: Sequence[Mapping[str, float | None]], name: str) -> NDArray[np.float64]:
    return np.array([row.get(name) for row in history], dtype=np.float64)  # None becomes NaN


def _describe_sizes(
    widths: NDArray[np.integer[Any]],
    heights: NDArray[np.integer[Any]],
    sizes: NDArray[np.integer[Any]],
    times: NDArray[np.integer[Any]],
) -> str:
    if not len(sizes):
        return "no images"
    if len(sizes) == 1:
        return f"{_plural(len(widths), 'image')}, each {widths[0]:,} \N{MULTIPLICATION SIGN} {heights[0]:,} px"
    commonest = sizes[np.argmax(times)]
    return (
        f"{_plural(len(widths), 'image')} of {len(sizes):,} sizes\n"
        f"median {np.median(widths):,.0f} \N{MULTIPLICATION SIGN} {np.median(heights):,.0f} px, "
        f"commonest {commonest[0]:,} \N{MULTIPLICATION SIGN} {commonest[1]:,} px ({times.max():,})"
    )


def _odds(axes: "Axes", values: NDArray[np.float64]) -> tuple[float, float]:
    """Scale the vertical axis by log odds so that all values fit, with round numbers at it.

    Zero and one have no place on this scale; they are to be drawn beyond all others, where a tick names them.

    Returns
    -------
    (float, float)
        What to clip the values to before they are drawn.
    """
    from matplotlib.ticker import MaxNLocator

    inside = values[(values > 0) & (values < 1)]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.25, 0.75)
    ends = []
    if (values <= 0).any():
        low /= 2
        ends.append((low, "0"))
    if (values >= 1).any():
        high = (1 + high) / 2
        ends.append((high, "1"))
    near_one = [1 - digit * 10.0**-power for power in range(2, 7) for digit in (1, 2, 5)]
    near_zero = [digit * 10.0**-power for power in range(2, 7) for digit in (1, 2, 5)]
    every = sorted([*near_zero, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, *near_one])
    ticks = [(tick, f"{tick:.12g}") for tick in every if low <= tick <= high and tick not in dict(ends)]
    if len(ticks) < FEWEST_TICKS:
        even = MaxNLocator(2 * FEWEST_TICKS, steps=[1, 2, 5, 10]).tick_values(low, high)
        ticks = [(float(tick), f"{tick:.6g}") for tick in even if low < tick < high and tick not in dict(ends)]
    axes.set_yscale("logit")
    axes.set_ylim(low / (low + 1.2 * (1 - low)), high / (high + (1 - high) / 1.2))
    axes.set_yticks([tick for tick, _ in ticks + ends], [name for _, name in ticks + ends])
    axes.set_yticks([], minor=True)
    return low, high


def _round_numbers(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten from `low` to `high`, both above 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _short(text: str, letters: int) -> str:
    """Shorten `text` to so many letters by cutting its middle out, and make it safe to draw."""
    if len(text) > letters:
        head = (letters - 1) // 2
        text = f"{text[:head]}…{text[len(text) - (letters - 1 - head) :]}"
    return _plain(text)


def _plain(text: str) -> str:
    """Return `text` so that it is drawn as it stands: two dollar signs would start a formula."""
    printable = "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return printable.replace("$", r"\$")


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _integers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins="auto", integer=True, min_n_ticks=1)


def _thousands() -> Any:
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.0f}")
