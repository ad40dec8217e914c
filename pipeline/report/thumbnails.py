"""Thumbnails of many images in a few sheets, as small as their budget asks for; and single pictures, larger.

A sheet is one WebP picture of many thumbnails in a grid of equal cells, of which the page shows one at a time. They are
made smaller, and compressed more, until all sheets together keep to their budget, and left out where even the smallest
would not.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ImageError
from pipeline.photos import decode
from pipeline.photos.batches import of_manifest, previews
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.types import Pixels, Progress

SIDES: Final = (96, 80, 64, 48, 40, 32, 24, 16)  # px, of a thumbnail
QUALITIES: Final = (80, 65, 50, 35)
LOSSLESS: Final = 32  # px: pictures that are no larger are kept to the last bit, and drawn as squares
BYTES_A_PIXEL: Final = 0.2  # of thumbnails of photographs at the best of these qualities; a guess to start from
SHEET_SIDE: Final = 1536  # px, at most
MARGIN: Final = 1  # px around a thumbnail: its own edge once more, since a browser's scaling looks beyond it


@dataclass(frozen=True)
class Atlas:
    """Thumbnails in sheets.

    Attributes
    ----------
    sheets : list of bytes
        WebP files.
    cell : int
        Side of a cell, px, its margin included.
    columns : int
        Cells in a row of a sheet, and rows in a full sheet.
    shapes : ndarray of shape (n, 2), int64
        Width and height of each thumbnail, px; 0 where there is none.
    pixelated : bool
        Whether the pictures are so small that they are drawn as squares.
    """

    sheets: list[bytes]
    cell: int
    columns: int
    shapes: NDArray[np.int64]
    pixelated: bool

    @property
    def bytes(self) -> int:
        """Of all sheets, as base64."""
        return sum(map(base64_length, self.sheets))


def base64_length(data: bytes) -> int:
    """Return how long some bytes are as base64."""
    return 4 * math.ceil(len(data) / 3)


def first_side(count: int, budget: int) -> int:
    """Return the side to shrink so many photographs to, px, that their sheets probably keep to a budget in bytes."""
    likely = (side for side in SIDES if count * side * side * BYTES_A_PIXEL * 4 / 3 <= budget)
    return next(likely, SIDES[-1])


def load(root: Root, wanted: Manifest, *, side: int, progress: Progress) -> tuple[list[Pixels | None], list[str]]:
    """Decode images by threads, each shrunk to fit a square.

    Parameters
    ----------
    root : Path or Address
        Image root.
    wanted : Manifest
        The images.
    side : int
        Of the square, px.
    progress : callable
        Called with (images done, images in all).

    Returns
    -------
    pictures : list of ndarray of shape (height, width, 3), or None
        None for an image that cannot be read, or is no longer the one of the manifest.
    failures : list of str
        The paths of these, each with the reason.
    """
    pictures: list[Pixels | None] = []
    failures = []
    for place, found in enumerate(previews(of_manifest(root, wanted), side, range(len(wanted)))):
        if isinstance(found, ImageError):
            failures.append(f"{wanted.paths[place]} ({found})")
        pictures.append(None if isinstance(found, ImageError) else found)
        progress(place + 1, len(wanted))
    return pictures, failures


def one(path: Root, digest: bytes, side: int) -> Pixels | None:
    """Return one image, shrunk to fit a square of `side` px; None if it cannot be read or has another digest."""
    try:
        data = decode.read_bytes(path)
        return decode.preview(data, side=side) if decode.digest(data) == digest else None
    except ImageError:
        return None


def atlas(thumbnails: Sequence[Pixels | None], budget: int) -> Atlas:
    """Lay thumbnails (height, width, 3) out in sheets whose base64 takes at most `budget` bytes.

    Of the sides and qualities in turn, the first that keeps to the budget is taken. If none does, no thumbnail is kept:
    that takes a budget of less than some 200 bytes an image.
    """
    largest = max((max(one.shape[:2]) for one in thumbnails if one is not None), default=0)
    if largest <= LOSSLESS:
        made = _atlas(thumbnails, largest, None)
        if made.bytes <= budget:
            return made
    for side in (largest, *(side for side in SIDES if side < largest)):
        for quality in QUALITIES:
            made = _atlas(thumbnails, side, quality)
            if made.bytes <= budget:
                return made
            if made.bytes > 4 * budget:
                break  # no quality makes that up
    return _atlas([None] * len(thumbnails), 0, None)


def _atlas(thumbnails: Sequence[Pixels | None], side: int, quality: int | None) -> Atlas:
    shrunk = [None if one is None else decode.thumbnail(one, side) for one in thumbnails]
    shapes = np.array([(0, 0) if one is None else one.shape[1::-1] for one in shrunk], np.int64).reshape(-1, 2)
    cell = max(1, side + 2 * MARGIN)
    columns = max(1, min(SHEET_SIDE // cell, math.ceil(math.sqrt(len(shrunk)))))
    held = columns * columns
    sheets = []
    for start in range(0, len(shrunk) if shapes.any() else 0, held):
        part = shrunk[start : start + held]
        canvas = np.full((math.ceil(len(part) / columns) * cell, columns * cell, 3), 128, np.uint8)
        for place, one in enumerate(part):
            if one is not None:
                edged = np.pad(one, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="edge")
                top, left = cell * (place // columns), cell * (place % columns)
                canvas[top : top + edged.shape[0], left : left + edged.shape[1]] = edged
        sheets.append(encoded(canvas, quality))
    return Atlas(sheets, cell, columns, shapes, pixelated=quality is None and side > 0)


def encoded(pixels: Pixels, quality: int | None) -> bytes:
    """Return a picture as WebP; without a quality, to the last bit."""
    file = io.BytesIO()
    kept = {"lossless": True, "quality": 100} if quality is None else {"quality": quality}
    Image.fromarray(pixels).save(file, "WEBP", method=4, **kept)
    return file.getvalue()


def address(picture: bytes) -> str:
    """Return a WebP picture as a ``data:`` address."""
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def enlarged(pixels: Pixels, side: int) -> tuple[Pixels, bool]:
    """Enlarge a small picture by a whole number, each pixel a square, to some `side` px; say whether it was small."""
    factor = side // max(pixels.shape[:2])
    if factor < 2:
        return pixels, False
    return np.repeat(np.repeat(pixels, factor, axis=0), factor, axis=1), True
