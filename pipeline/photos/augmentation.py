"""Views: deterministic augmented copies of an image, so that augmentation can be cached.

View 0 is the image itself. View v > 0 is drawn from (digest, v, policy) and from nothing else: the same photo has the
same views on every machine, in every order, for ever. The factors mean what they mean in the Keras layers
``RandomFlip``, ``RandomRotation``, ``RandomZoom``, ``RandomTranslation``, ``RandomBrightness`` and ``RandomContrast``;
what comes into the picture from outside is its reflection.
"""

import hashlib
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.photos.settings import Policy

UNCHANGED: Final = "0"  # the key of view 0, the image itself, which no policy changes


def view_key(policy: Policy, view: int) -> str:
    """Return the name under which rows of a view are kept; that of view 0 is `UNCHANGED`."""
    return f"{view}-{policy.identity[:16]}" if view else UNCHANGED


def check_views(count: int, policy: Policy) -> None:
    """Raise InputError, naming the settings, unless the policy can give that many different views."""
    if count > 1 and policy.is_empty:
        raise InputError(
            f"`views`: {count} views of one image differ only if something may happen to it; give `flip`, `rotation`, "
            "`zoom`, `shift`, `brightness` or `contrast`"
        )


def apply(pixels: NDArray[np.uint8], *, digest: bytes, view: int, policy: Policy) -> NDArray[np.uint8]:
    """Return one view of an image.

    Parameters
    ----------
    pixels : ndarray of shape (size, size, 3), uint8
        As `pipeline.photos.decode.fit` gives them. Not modified.
    digest : bytes
        sha256 of the image file.
    view : int
        0 is the image itself.
    policy : Policy

    Returns
    -------
    ndarray of shape (size, size, 3), uint8
    """
    if view == 0:
        return pixels
    seed = hashlib.sha256(digest + view.to_bytes(4, "big") + bytes.fromhex(policy.identity)).digest()
    draw = np.random.Generator(np.random.PCG64(int.from_bytes(seed)))
    # Every number is drawn whether it is used or not: a factor that is set to zero leaves the others as they were.
    mirror, upend, turn, zoom, across, down, light, spread = draw.uniform(-1.0, 1.0, 8)
    seen = pixels
    if policy.flip in ("horizontal", "both") and mirror > 0:
        seen = seen[:, ::-1]
    if policy.flip in ("vertical", "both") and upend > 0:
        seen = seen[::-1]
    angle, scale = turn * policy.rotation * 2 * math.pi, 1 + zoom * policy.zoom
    seen = _moved(seen, angle=angle, scale=scale, shift=(across * policy.shift, down * policy.shift))
    return _lit(seen, brightness=light * policy.brightness, contrast=1 + spread * policy.contrast)


def _moved(pixels: NDArray[np.uint8], *, angle: float, scale: float, shift: tuple[float, float]) -> NDArray[np.uint8]:
    """Turn, zoom and shift about the centre, bilinearly; angle in radians, shift (right, down) in sides."""
    if scale == 1 and not any((angle, *shift)):
        return pixels
    from PIL import Image

    side = len(pixels)
    matrix = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    # A point p of the picture, from its centre, is taken from matrix @ (p - shift); how far that reaches beyond the
    # picture is how wide a reflected rim it needs.
    moved = -matrix @ (np.array(shift) * side)
    reach = np.abs(matrix).sum(axis=1).max() * side / 2 + np.abs(moved).max()
    rim = max(0, math.ceil(reach - side / 2)) + 1
    source = Image.fromarray(np.pad(pixels, [(rim, rim), (rim, rim), (0, 0)], mode="symmetric"))
    offset = moved - matrix @ np.full(2, side / 2) + side / 2 + rim
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    return np.asarray(source.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR))


def _lit(pixels: NDArray[np.uint8], *, brightness: float, contrast: float) -> NDArray[np.uint8]:
    """Add brightness, a fraction of white; then stretch each channel about its mean by the factor contrast."""
    if brightness == 0 and contrast == 1:
        return np.ascontiguousarray(pixels)
    brighter = np.clip(pixels + np.float32(255 * brightness), 0, 255)
    mean = brighter.mean(axis=(0, 1))
    lit: NDArray[np.uint8] = np.rint(np.clip((brighter - mean) * contrast + mean, 0, 255)).astype(np.uint8)
    return lit
