"""What stands on a cut, in numpy: pooling and head, from activations to logits, and their gradient back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.cutting import GRIDS, OF_MAPS, cell_weights
from pipeline.errors import ArtefactError, InputError
from pipeline.heads.activations import ACTIVATIONS, DERIVATIVES
from pipeline.heads.dense_layers import Stack
from pipeline.heads.standardise import probabilities, standardise
from pipeline.types import Floats, Singles


class Readout:
    """Pooling and head of one network.

    Parameters
    ----------
    stack : Stack
        The head.
    pooling : str
        One of `pipeline.backbones.cutting.POOLINGS`: how activations become features.

    Attributes
    ----------
    linear : bool
        Whether every logit is an affine function of the activations: a head without hidden layers, and any pooling but
        the maximum.
    """

    def __init__(self, stack: Stack, pooling: str) -> None:
        if pooling not in OF_MAPS:
            raise InputError.of("pooling", f"one of {', '.join(OF_MAPS)}", repr(pooling))
        self._stack, self._pooling = stack, pooling
        self.linear = len(stack.kernels) == 1 and pooling != "max"

    def features(self, maps: Singles) -> Singles:
        """Pool activations (n, h, w, C) to features (n, d), as `pipeline.backbones.cutting.trunk` does in a network.

        ArtefactError if the head takes another number of features.
        """
        if self._pooling == "max":
            pooled = maps.max(axis=(1, 2))
        elif self._pooling == "avg":
            pooled = maps.mean(axis=(1, 2))
        elif self._pooling in GRIDS:
            down, across = _cells(maps, GRIDS[self._pooling])
            pooled = np.einsum("ih,nhwc,jw->nijc", down, maps, across, optimize=True)
        else:
            pooled = maps
        rows: Singles = np.ascontiguousarray(pooled.reshape(len(maps), -1), np.float32)
        if rows.shape[1] != len(self._stack.mean):
            raise ArtefactError(f"expected a head for {rows.shape[1]:,} features, received {len(self._stack.mean):,}")
        return rows

    def logits(self, features: Singles) -> Floats:
        """Return the logit of each class, (n, K), for features (n, d); of two classes, the log odds of each."""
        *_, last = self._layers(features)
        return np.concatenate([-last, last], axis=1) if last.shape[1] == 1 else last

    def probabilities(self, features: Singles) -> Floats:
        """Return probabilities (n, K) for features (n, d)."""
        *_, last = self._layers(features)
        return probabilities(last)

    def gradient(self, features: Singles, codes: NDArray[np.int64]) -> Floats:
        """Return the derivative, (n, d) float64, of the logit of a class with respect to the features (n, d).

        `codes` (n,) name the class in each row.
        """
        *hidden, last = self._layers(features)
        if last.shape[1] == 1:  # the log odds of the second class; those of the first are their negative
            flow = np.where(codes == 1, 1.0, -1.0)[:, None]
        else:
            flow = (codes[:, None] == np.arange(last.shape[1])).astype(np.float64)
        flow = flow @ self._stack.kernels[-1].T.astype(np.float64)
        for before, kernel in zip(reversed(hidden), reversed(self._stack.kernels[:-1]), strict=True):
            flow = (flow * DERIVATIVES[self._stack.activation](before)) @ kernel.T.astype(np.float64)
        return np.asarray(flow / self._stack.scale)

    def spread(self, gradient: Floats, maps: Singles) -> Singles:
        """Carry a gradient of features back through the pooling: float32 that broadcasts to `maps`, (n, h, w, C).

        `gradient` (n, d) is that with respect to the features of `maps`, the result that with respect to the
        activations. Of a maximum, all of it goes to the places that reach it, in equal parts.
        """
        n, height, width, channels = maps.shape
        given = gradient.astype(np.float32)
        if self._pooling == "avg":
            return given[:, None, None] / np.float32(height * width)
        if self._pooling == "max":
            at = maps == maps.max(axis=(1, 2), keepdims=True)
            shares: Singles = given[:, None, None] * at / at.sum(axis=(1, 2), keepdims=True, dtype=np.float32)
            return shares
        if self._pooling in GRIDS:
            cells = GRIDS[self._pooling]
            down, across = _cells(maps, cells)
            wide = given.reshape(n, cells, cells, channels)
            return np.asarray(np.einsum("ih,nijc,jw->nhwc", down, wide, across, optimize=True))
        return given.reshape(maps.shape)

    def _layers(self, features: Singles) -> list[Floats]:
        """Return what leaves each dense layer before its activation, the logits last."""
        entering: NDArray[Any] = standardise(features, self._stack.mean, self._stack.scale)
        found: list[Floats] = []
        for kernel, bias in zip(self._stack.kernels, self._stack.biases, strict=True):
            if found:
                entering = ACTIVATIONS[self._stack.activation](found[-1])  # type: ignore[arg-type]
            found.append(np.asarray(entering @ kernel + bias, np.float64))
        return found


def _cells(maps: Singles, cells: int) -> tuple[Singles, Singles]:
    return cell_weights(maps.shape[1], cells), cell_weights(maps.shape[2], cells)
