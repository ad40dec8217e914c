"""Pooling of a tensor of any graph: a row, tokens with others before the patches, or a map with channels anywhere.

`ops` is what makes the operations, as for `pipeline.backbones.engines.operations`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.backbones.cutting import LAST4, OF_TOKENS, POOLINGS
from pipeline.backbones.engines import operations
from pipeline.backbones.engines.operations import TO_CHANNELS_FIRST
from pipeline.errors import CutError


def pooled(ops: Any, tensor: Any, shape: Sequence[int], channels_first: bool, cut: str, pooling: str) -> Any:
    """Pool a tensor to one row an image, or to what it is, channels last.

    Parameters
    ----------
    ops : module or OnnxOperations
    tensor : node
        Float32, of `shape`, (n, …).
    shape : sequence of int
    channels_first : bool
        Of a map whose sides do not tell.
    cut, pooling : str

    Raises
    ------
    CutError
        It cannot be pooled so.
    """
    if pooling not in POOLINGS:
        raise CutError.of("pooling", f"one of {', '.join(POOLINGS)}", repr(pooling))
    if pooling in ("flatten", LAST4) and len(shape) != 4:
        return operations.row(ops, [tensor])
    if len(shape) == 2 and pooling in ("avg", "none"):
        return tensor
    if len(shape) == 3:
        return _pooled_tokens(ops, tensor, shape, cut, pooling)
    if len(shape) != 4 or pooling in OF_TOKENS:
        fitting = {2: "avg", 4: "avg, max, a grid, flatten or none"}.get(len(shape), "flatten")
        raise CutError.of("pooling", f"{fitting} at {cut}, whose shape is {shape}", repr(pooling))
    return _of_maps(ops, tensor, shape, channels_first, pooling)


def is_channels_first(sides: Sequence[int], otherwise: bool) -> bool:
    """Tell from the sides of a map: two that are equal are height and width; in doubt it is as the input."""
    first, second, third = sides
    if (first == second) == (second == third):
        return otherwise
    return second == third


def classes(ops: Any, ends: Sequence[Any]) -> Any:
    """Lay the first token of each tensor side by side: (n, tensors, C)."""
    return ops.concat([ops.gather(end, np.array([0]), np.array(1)) for end in ends], 1)


def _of_maps(ops: Any, tensor: Any, shape: Sequence[int], channels_first: bool, pooling: str) -> Any:
    images, first, second, third = shape
    if is_channels_first(shape[1:], channels_first):
        return operations.pooled(ops, tensor, (images, second, third, first), pooling)
    return operations.pooled(ops, ops.transpose(tensor, np.array(TO_CHANNELS_FIRST)), tuple(shape), pooling)


def _pooled_tokens(ops: Any, tensor: Any, shape: Sequence[int], cut: str, pooling: str) -> Any:
    """Pool (n, N, C): the last k·k tokens are patches, row by row; before them are the class token and registers."""
    _, count, width = shape
    side = math.isqrt(count)
    before = count - side * side
    if pooling == "none":
        return tensor
    patches = ops.slice(tensor, np.array([before]), np.array([count]), np.array([1]), np.array([1]))
    if pooling in OF_TOKENS:
        if not before:
            raise CutError.of("pooling", f"another at {cut}, whose {count} tokens are patches alone", repr(pooling))
        first = ops.gather(tensor, np.array(0), np.array(1))
        return first if pooling == "cls" else ops.concat([first, ops.reduce_mean(patches, np.array([1]))], 1)
    maps = ops.reshape(patches, np.array([0, side, side, width]), special_zero=True)
    return operations.pooled(ops, ops.transpose(maps, np.array(TO_CHANNELS_FIRST)), (None, side, side, width), pooling)
