"""Pillow's filters other than the triangle as operations, in float32: a weight may be off by the last of its 22 bits.

Sums of such weights are another grey level for about one pixel in ten thousand, where one lies at a half.
"""

import math
from typing import Any

BITS, LOW = 22, 11  # as in `pipeline.export.in_graph_resizing`


def digits(ops: Any, distance: Any, unit: Any, held: Any, name: str) -> list[Any]:
    """Return the upper and the lower digits of the weights of pixels, float32 (size, n) each.

    `distance` (size, n) is that of pixels from the centres of what is made, in parts of the filter's unit, of which
    `unit` (1, 1) says how many make one; `held` (size, n) is 1 where a pixel is shown and something is made, else 0:
    all int32. `name` is bicubic or lanczos.
    """
    x = ops.divide(ops.cast(distance, "float32"), ops.cast(unit, "float32"))
    weights = (_bicubic if name == "bicubic" else _lanczos)(ops, x) * ops.cast(held, "float32")
    total = ops.sum(weights, axis=1, keepdims=True)
    # Where nothing is made all weights are zero, and so is their sum.
    total = total + ops.cast(ops.equal(total, 0.0), "float32")
    whole = ops.floor(ops.divide(weights, total) * 2.0**BITS + 0.5)
    upper = ops.floor(whole * 2.0**-LOW)
    return [upper, whole - upper * 2.0**LOW]


def _bicubic(ops: Any, x: Any) -> Any:
    """Keys, "Cubic convolution interpolation for digital image processing" (1981), with a of -1/2."""
    near = (x * 1.5 - 2.5) * x * x + 1.0
    far = ((x * -0.5 + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x < 1.0, near, ops.where(x < 2.0, far, x * 0.0))


def _lanczos(ops: Any, x: Any) -> Any:
    """Return the sinc, within three units, times that of a third of them."""
    angle = x * math.pi
    safe = ops.maximum(angle, 1e-6)
    found = ops.divide(ops.sin(safe) * ops.sin(safe * (1 / 3)), safe * safe * (1 / 3))
    return ops.where(x < 3.0, found, x * 0.0)
