"""Pictures in rows, each with its caption; without any, there is no file."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.plots.style import FAINT, PAPER, drawing, plain, short, undrawn

PAIR_SIDE, PAIR_WIDTH = 204, 416  # px; 1.7 inches at the dots of an inch above, and 8 px between the two
TINY = 3.0  # from this enlargement on, a picture shows its pixels, as matplotlib draws it


def sample_grid(
    thumbnails: Sequence[NDArray[np.uint8] | None], captions: Sequence[str], path: Path, title: str
) -> None:
    """Draw pictures in rows, each with its caption below.

    Pictures (height, width, 3) are of any size: each is fitted into a square cell, its aspect kept. None is drawn as an
    empty cell. Captions that are too long are shortened in the middle, so that the end of a file name stays.
    """
    columns = min(8, max(4, math.ceil((1.6 * len(captions)) ** 0.5)))
    _grid(thumbnails, captions, path, title, columns=columns, cell=1.4)


def mistakes_grid(
    pictures: Sequence[NDArray[np.uint8] | None], captions: Sequence[str], path: Path, title: str
) -> None:
    """Draw wrongly classified images, larger than samples are, with captions of usually several lines.

    None is drawn as an empty cell: the caption says what became of the image.
    """
    _grid(pictures, captions, path, title, columns=6, cell=2.0)


def pairs_grid(
    pairs: Sequence[tuple[NDArray[np.uint8] | None, NDArray[np.uint8] | None]],
    captions: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Draw pairs of pictures side by side, each pair with its caption, usually of several lines, below.

    Pictures are of any size: each is enlarged or shrunk into a square. None is drawn as a grey one.
    """
    joined = [_side_by_side(left, right) for left, right in pairs]
    _grid(joined, captions, path, title, columns=3, cell=1.7, aspect=PAIR_WIDTH / PAIR_SIDE)


def strips_grid(strips: Sequence[NDArray[np.uint8]], captions: Sequence[str], path: Path, title: str) -> None:
    """Draw pictures of one shape, (side, several sides, 3), one below the other, each with its caption below."""
    aspect = strips[0].shape[1] / strips[0].shape[0] if strips else 1.0
    _grid(strips, captions, path, title, columns=1, cell=1.4, aspect=aspect)


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
    """Draw cells, `cell` inches high and `aspect` times as wide, in one plane: axes for each take most of the time."""
    if not captions:
        undrawn(path)
        return
    columns = min(columns, len(captions))
    across = cell * aspect
    letters = int(across * 14)  # as many as fit under a cell in this font size
    texts = ["\n".join(short(line, letters) for line in caption.splitlines()) for caption in captions]
    below = 0.06 + 0.15 * max(text.count("\n") + 1 for text in texts)
    gap, margin = 0.16, 0.15
    rows = -(-len(texts) // columns)
    width = 2 * margin + columns * (across + gap) - gap
    heading = textwrap.wrap(title, int(width * 12.5)) or [""]
    top = margin + 0.2 * len(heading)
    height = top + margin + rows * (cell + below + gap)
    with drawing(path, width=width, height=height) as figure:
        figure.set_layout_engine("none")
        figure.text(margin / width, 1 - margin / height, plain("\n".join(heading)), fontsize=11, va="top")
        axes = figure.add_axes((0, 0, 1, 1), autoscale_on=False, xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        for place, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            row, column = divmod(place, columns)
            left = margin + column * (across + gap)
            bottom = height - top - margin / 2 - row * (cell + below + gap) - cell
            if picture is None:
                axes.add_patch(_placeholder(left, bottom, across, cell))
            else:  # at its caption
                inches = min(across / picture.shape[1], cell / picture.shape[0])
                right, upper = left + picture.shape[1] * inches, bottom + picture.shape[0] * inches
                axes.imshow(picture, extent=(left, right, bottom, upper), aspect="auto")
            axes.text(left, bottom - 0.05, text, fontsize=7.5, va="top", linespacing=1.25)


def _side_by_side(left: NDArray[np.uint8] | None, right: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return two pictures as one, on white, each fitted into a square and standing on its lower edge."""
    from PIL import Image

    sharp = Image.Resampling.NEAREST  # of a tiny picture all pixels are to be seen, as where it stands alone
    canvas = Image.new("RGB", (PAIR_WIDTH, PAIR_SIDE), "white")
    for start, pixels in ((0, left), (PAIR_WIDTH - PAIR_SIDE, right)):
        picture = Image.new("RGB", (1, 1), PAPER) if pixels is None else Image.fromarray(pixels)
        scale = PAIR_SIDE / max(picture.size)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        picture = picture.resize(size, sharp if scale >= TINY else Image.Resampling.BICUBIC)
        canvas.paste(picture, (start, PAIR_SIDE - picture.height))
    return np.asarray(canvas)


def _placeholder(left: float, bottom: float, width: float, height: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((left, bottom), width, height, facecolor=PAPER, edgecolor=FAINT, hatch="//", linewidth=0.5)
