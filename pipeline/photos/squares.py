"""Upright images of any sides to squares: which part is shown, in which place, resized by which decoder."""

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import InputError
from pipeline.photos import turbo
from pipeline.photos.settings import Decoder, Geometry, Interpolation


def square(
    found: Image.Image | NDArray[np.uint8],
    *,
    size: int,
    geometry: Geometry,
    decoder: Decoder = "pillow",
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """Bring an upright RGB image, or pixels (height, width, 3), to a square (size, size, 3), uint8.

    Arguments are as for `pipeline.photos.decode.fit`.
    """
    width, height = found.size if isinstance(found, Image.Image) else found.shape[1::-1]
    (left, top, right, bottom), sides = _window(width, height, size, geometry)
    if decoder == "turbo":
        pixels = turbo.resized(np.asarray(found)[top:bottom, left:right], sides, interpolation)
    else:
        image = found if isinstance(found, Image.Image) else Image.fromarray(found)
        shown = image.crop((left, top, right, bottom)) if geometry == "crop" else image
        pixels = np.asarray(shown.resize(sides, Image.Resampling[interpolation.upper()]))
    if geometry != "pad":
        return pixels
    canvas = np.zeros((size, size, 3), np.uint8)
    left, top = (size - sides[0]) // 2, (size - sides[1]) // 2
    canvas[top : top + sides[1], left : left + sides[0]] = pixels
    return canvas


def square_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `square` takes besides the image, as a spec says it; one that names no filter means the default."""
    return {
        "size": int(spec["size"]),
        "geometry": spec["resize"],
        "decoder": spec["decoder"]["name"],
        "interpolation": spec.get("interpolation") or "bilinear",
    }


def _window(
    width: int, height: int, size: int, geometry: Geometry
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Return what part of an image is shown, (left, top, right, bottom), and which width and height it gets."""
    whole = (0, 0, width, height)
    if geometry == "squash":
        return whole, (size, size)
    if geometry == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return (left, top, left + side, top + side), (size, size)
    if geometry == "pad":
        scale = size / max(width, height)
        return whole, (max(1, round(width * scale)), max(1, round(height * scale)))
    raise InputError.of("resize", f"one of {', '.join(get_args(Geometry))}", repr(geometry))
