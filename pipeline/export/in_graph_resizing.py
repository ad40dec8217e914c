"""The decoder's antialiased bilinear resize as layers of a network, bit for bit, for images of any size.

A resize along one side is a product with a matrix of weights, and any geometry (squash, crop, pad) is two of them:
columns first, then rows, rounded to whole grey levels in between, as Pillow does. The weights follow from the sides of
the image that comes, so they are computed in the graph. No converter has to know more than products and whole numbers.

Along a side of n pixels that becomes p, the centre of output j lies at (j + 1/2) n / p, and the triangle above it is
max(n, p) / p pixels wide at either side. Times 2p, all of it is whole numbers::

    t(j, i) = max(0, 2 max(n, p) - |(2i + 1) p - (2j + 1) n|)        the triangle at pixel i
    k(j, i) = round(2**22 t(j, i) / sum of t(j, .))                  the weight as Pillow keeps it, with 22 bits
    y(j)    = (sum of k(j, i) x(i) + 2**21) >> 22                    one grey level

A sum of products of 22 by 8 bits does not fit the 24 bits of a float32. So each weight is split into two digits of 11
bits, whose sums do, in whatever order they are added, and the carry goes from one to the other. This is exact up to a
reduction by 16 (more than 32 pixels under one triangle), beyond which a sum may lose the last of its 30 bits.

Since version 13, Pillow does the rows first where they are reduced by more than twice as many pixels as the columns.
Another order is another rounding in between, of up to 9e-4 in a probability on photos, so the graph decides as it does.

The decoder ``turbo`` always does the rows first. It keeps the weights of a side with as many bits, at most 21, as leave
the largest of them below 2**15 (fast_image_resize, and Pillow-SIMD before it); `_bits` counts them.

The sides are counted by sums of ones over the image itself: a graph of Keras' own operations has no other word for
them, and such a graph loads anywhere.

`ops` is what makes the operations: the module ``keras.ops``, or a `pipeline.backbones.engines.onnx_operations` that
knows them by the same names.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import numpy as np

from pipeline.errors import InputError
from pipeline.export import in_graph_filters
from pipeline.photos.settings import Interpolation

BITS: Final = 22  # of Pillow's weights, for images of 8 bits a channel; turbo's are made of as many
LARGEST: Final = 2**15  # what turbo's weights stay below
LOW: Final = 11  # bits of the lower digit; the upper one has the rest
MIDDLE: Final = 6  # bits of the lower digit that are found first: a 32-bit integer holds no more at a time
ROWS_FIRST_SINCE: Final = 13  # version of Pillow

Choose = Callable[[Any, Any, "Order", "Order"], Any]


@dataclass(frozen=True)
class Policy:
    """How an image becomes a square.

    Attributes
    ----------
    size : int
        Side of the square, px.
    geometry : {"squash", "crop", "pad"}
        As `pipeline.photos.decode.fit` explains them.
    rows_first : bool
        Whether rows are resized first where there are many.
    turbo : bool
        Whether the weights are turbo's, and rows are resized first always.
    interpolation : {"bilinear", "bicubic", "lanczos"}
    """

    size: int
    geometry: str
    rows_first: bool
    turbo: bool = False
    interpolation: str = "bilinear"


def policy_of(spec: dict[str, Any]) -> Policy:
    """Return the policy of a spec, whose decoder's version says in which order sides are resized.

    InputError if the spec's pixels are made in a way that is not known here.
    """
    turbo, kind = spec["decoder"].get("name") == "turbo", spec.get("interpolation")
    if spec.get("antialias") is not True or spec.get("resize") not in ("squash", "crop", "pad"):
        raise InputError(f"spec: expected an antialiased squash, crop or pad, received {spec}")
    if kind not in (known := ("bilinear",) if turbo else get_args(Interpolation)):
        raise InputError.of("interpolation", f"{' or '.join(known)}, as the graph of an export resizes", repr(kind))
    if turbo:
        return Policy(int(spec["size"]), spec["resize"], rows_first=True, turbo=True)
    major = str(spec["decoder"]["version"]).partition(".")[0]
    rows_first = not major.isdecimal() or int(major) >= ROWS_FIRST_SINCE
    rows_first = rows_first and spec["resize"] != "crop"
    return Policy(int(spec["size"]), spec["resize"], rows_first, interpolation=str(kind))


@dataclass(frozen=True)
class _Side:
    """One side of the images, each number a tensor (1, 1) int32, and its pixels 0, 1, …, n - 1 as (1, n)."""

    pixels: Any
    count: Any
    first: Any  # pixel that is shown
    shown: Any  # pixels, from there on
    start: Any  # first pixel of the square that is not black
    made: Any  # pixels, from there on


@dataclass(frozen=True)
class Order:
    """Both passes in one order.

    Attributes
    ----------
    ops : module or OnnxOperations
    sides : tuple of (tensor, tensor)
        Height and width of the images, int32 (1, 1).
    columns, rows : tensor
        Weights: (W, 2 size) and (2 size, H), float32.
    units : tuple of (tensor or float, tensor or float)
        What the last bit of the upper digits is worth in grey levels, of columns and of rows.
    size : int
    rows_first : bool
    overshoots : bool
        Whether some weights are negative.
    """

    ops: Any
    sides: tuple[Any, Any]
    columns: Any
    rows: Any
    units: tuple[Any, Any]
    size: int
    rows_first: bool
    overshoots: bool = False

    def __call__(self, planes: Any) -> Any:
        """Return images (B, 3, H, W) as squares (B, 3, size, size), float32 both."""
        return self._across(self._down(planes)) if self.rows_first else self._down(self._across(planes))

    def _across(self, x: Any) -> Any:
        digits = self.ops.matmul(x, self.columns)
        return self._grey(digits[..., : self.size], digits[..., self.size :], self.units[0])

    def _down(self, x: Any) -> Any:
        digits = self.ops.matmul(self.rows, x)
        return self._grey(digits[..., : self.size, :], digits[..., self.size :, :], self.units[1])

    def _grey(self, upper: Any, lower: Any, unit: Any) -> Any:
        """Return the grey levels of two sums of digits, rounded: with Pillow's (2**11 upper + lower + 2**21) >> 22."""
        carried = upper + self.ops.floor(lower * 2.0**-LOW)
        found = self.ops.floor(carried * unit + 0.5)
        return self.ops.minimum(self.ops.maximum(found, 0.0), 255.0) if self.overshoots else found


def resized(ops: Any, pixels: Any, policy: Policy, choose: Choose) -> Any:
    """Bring images of any size to a square, as `pipeline.photos.decode.fit` does.

    In the geometry ``pad``, the shorter side is a pixel off for one in 70,000 pairs of sides: where it ends at half a
    pixel, Python's product of floats happens to round the other way.

    Parameters
    ----------
    ops : module or OnnxOperations
    pixels : tensor
        (B, H, W, 3) uint8; H and W may be unknown.
    policy : Policy
    choose : callable
        `both`, `shortened`, or another that takes a condition, bool of shape (1, 1), the images (B, 3, H, W), and the
        orders for when it holds and when not, and returns the squares (B, 3, size, size).

    Returns
    -------
    tensor
        (B, 3, size, size) float32: whole numbers in 0…255, those that the decoder gives.
    """
    height, width = _sides(ops, pixels, policy)
    (columns, across), (rows, down) = (_weights(ops, side, policy) for side in (width, height))
    planes = ops.transpose(ops.cast(pixels, "float32"), (0, 3, 1, 2))
    columns_first = Order(
        ops=ops,
        sides=(height.count, width.count),
        columns=ops.transpose(columns, (1, 0)),
        rows=rows,
        units=(across, down),
        size=policy.size,
        rows_first=False,
        overshoots=policy.interpolation != "bilinear",
    )
    if policy.turbo:
        return replace(columns_first, rows_first=True)(planes)
    if not policy.rows_first:
        return columns_first(planes)
    taller = height.count - height.made > 2 * (width.count - width.made)
    many = ops.logical_and(height.count > height.made, taller)
    return choose(many, planes, replace(columns_first, rows_first=True), columns_first)


def both(condition: Any, planes: Any, if_true: Order, if_false: Order) -> Any:
    """Compute both and choose afterwards: twice the work, but a graph of Keras' plain operations."""
    ops = if_true.ops
    return ops.where(ops.reshape(condition, (1, 1, 1, 1)), if_true(planes), if_false(planes))


def shortened(condition: Any, planes: Any, if_true: Order, if_false: Order) -> Any:
    """Compute both, but the one that is not wanted on a single row or column of the image."""
    ops, (height, width) = if_true.ops, if_true.sides
    wanted = ops.cast(condition, "int32")
    height, width = (height - wanted * (height - 1))[0, 0], (width - (1 - wanted) * (width - 1))[0, 0]
    first = replace(if_true, columns=if_true.columns[:width])(planes[..., :width])
    second = replace(if_false, rows=if_false.rows[:, :height])(planes[:, :, :height])
    return ops.where(ops.reshape(condition, (1, 1, 1, 1)), first, second)


def _sides(ops: Any, pixels: Any, policy: Policy) -> tuple[_Side, _Side]:
    lines = [
        ops.reshape(ops.ones_like(line, dtype="int32"), (1, -1))
        for line in (pixels[:1, :, :1, 0], pixels[:1, :1, :, 0])
    ]
    down, across = (ops.sum(line, axis=1, keepdims=True) for line in lines)
    rows, columns = (ops.cumsum(line, axis=1) - 1 for line in lines)
    return (
        _Side(rows, down, *_span(ops, down, across, policy)),
        _Side(columns, across, *_span(ops, across, down, policy)),
    )


def _span(ops: Any, side: Any, other: Any, policy: Policy) -> tuple[Any, Any, Any, Any]:
    """Return what part of a side is shown and where: first pixel, pixels, first pixel of the square, pixels there."""
    zero = side * 0
    if policy.geometry == "squash":
        return zero, side, zero, zero + policy.size
    if policy.geometry == "crop":
        shown = ops.minimum(side, other)
        return (side - shown) // 2, shown, zero, zero + policy.size
    longest = ops.maximum(side, other)
    doubled = 2 * policy.size * side + longest
    made = doubled // (2 * longest)
    tie = ops.cast(ops.equal(made * 2 * longest, doubled), "int32")
    made = ops.maximum(made - tie * (made % 2), 1)  # a half goes to the even number
    return zero, side, (policy.size - made) // 2, made


def _weights(ops: Any, side: _Side, policy: Policy) -> tuple[Any, Any]:
    """Return the weights of a side's pixels, (2 size, n) float32: the upper digits of all, then the lower ones.

    And what the last bit of the upper ones is worth in grey levels.
    """
    place = ops.subtract(np.arange(policy.size, dtype=np.int32)[:, None], side.start)
    pixel = side.pixels - side.first
    shown = ops.logical_and(pixel >= 0, pixel < side.shown)
    made = ops.logical_and(place >= 0, place < side.made)
    held = ops.cast(ops.logical_and(shown, made), "int32")
    distance = ops.absolute((2 * pixel + 1) * side.made - (2 * place + 1) * side.shown)
    if policy.interpolation != "bilinear":
        unit = 2 * ops.maximum(side.shown, side.made)
        found = in_graph_filters.digits(ops, distance, unit, held, policy.interpolation)
        return ops.concatenate(found, axis=0), 2.0 ** (LOW - BITS)
    triangle = ops.maximum(2 * ops.maximum(side.shown, side.made) - distance, 0)
    triangle = triangle * held
    total = ops.maximum(ops.sum(triangle, axis=1, keepdims=True), 1)
    upper, rest = _digit(triangle, total, BITS - LOW)
    middle, rest = _digit(rest, total, MIDDLE)
    if not policy.turbo:
        last = (rest * 2 ** (LOW - MIDDLE + 1) + total) // (2 * total)  # rounded
        digits, unit = [upper, middle * 2 ** (LOW - MIDDLE) + last], 2.0 ** (LOW - BITS)
    else:
        last, _ = _digit(rest, total, LOW - MIDDLE)
        weights = upper * 2**LOW + middle * 2 ** (LOW - MIDDLE) + last  # with 22 bits, rounded down
        bits = _bits(ops, ops.max(weights, keepdims=True))
        # Powers of two by a table, which any converter takes and which are exact.
        one = ops.cast(ops.equal(bits, np.arange(BITS, dtype=np.int32)[None]), "int32")
        powers = 2 ** np.arange(BITS, dtype=np.int32)[None]
        rounded = (weights // ops.sum(one * powers[:, ::-1], axis=1, keepdims=True) + 1) // 2
        unit = ops.sum(ops.cast(one, "float32") * (2.0**LOW / powers).astype(np.float32), axis=1, keepdims=True)
        digits = [rounded // 2**LOW, rounded - rounded // 2**LOW * 2**LOW]
    return ops.cast(ops.concatenate(digits, axis=0), "float32"), unit


def _bits(ops: Any, largest: Any) -> Any:
    """Return with how many bits turbo keeps weights of which the largest, (1, 1), is so much in 22 bits: (1, 1)."""
    finer = 2 ** np.arange(BITS - 1, dtype=np.int32)[::-1][None]  # of 1, 2, … 21 bits
    fits = (largest // finer + 1) // 2 < LARGEST
    return ops.sum(ops.cast(fits, "int32"), axis=1, keepdims=True)


def _digit(rest: Any, total: Any, bits: int) -> tuple[Any, Any]:
    """Return the next bits of the fraction rest / total, and what is left of it."""
    scaled = rest * 2**bits
    digit = scaled // total
    return digit, scaled - digit * total
