"""A head as what it computes: standardised columns under dense layers. To join or to fine-tune it takes no more."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.heads.activations import ACTIVATIONS
from pipeline.types import Floats, Singles


def glorot(widths: Sequence[int], draw: np.random.Generator) -> list[Singles]:
    """Draw kernels (inputs, outputs), uniformly within the limits of Glorot and Bengio (2010), equation 16.

    `widths` are those of the features, and of the outputs of each layer.
    """
    kernels = []
    for inputs, outputs in pairwise(widths):
        limit = math.sqrt(6.0 / (inputs + outputs))
        kernels.append(draw.uniform(-limit, limit, (inputs, outputs)).astype(np.float32))
    return kernels


def logits(
    rows: NDArray[Any], kernels: Sequence[NDArray[Any]], biases: Sequence[NDArray[Any]], activation: str
) -> NDArray[Any]:
    """Return what dense layers make of standardised rows (n, d), in the precision of rows and layers."""
    for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
        rows = ACTIVATIONS[activation](rows @ kernel + bias)
    found: NDArray[Any] = rows @ kernels[-1] + biases[-1]
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """Dense layers on standardised features, up to the logits.

    Attributes
    ----------
    mean, scale : ndarray of shape (d,), float64
        What is taken from each column, and what it is then divided by.
    kernels, biases : list of ndarray of shape (inputs, outputs) and (outputs,), float32
        From the features up; the last layer has one output for two classes, else one a class.
    activation : str
        Of all layers but the last, as Keras names it.
    dropout : float
        While training, the share of inputs that each layer but the first drops; of the features if there is one layer.
    l1, l2 : float
        Penalties on the kernels.
    """

    mean: Floats
    scale: Floats
    kernels: list[Singles]
    biases: list[Singles]
    activation: str
    dropout: float
    l1: float
    l2: float

    @property
    def widths(self) -> list[int]:
        """Outputs of each layer."""
        return [len(bias) for bias in self.biases]

    def renewed(self, n_features: int, *, seed: int) -> Self:
        """Return the same layers with random kernels, as `glorot` draws them, and biases of zero.

        If the features are as many as they were, their standardisation stays; else they are other features, and are
        taken as they are.
        """
        same = n_features == len(self.mean)
        return replace(
            self,
            mean=self.mean if same else np.zeros(n_features),
            scale=self.scale if same else np.ones(n_features),
            kernels=glorot([n_features, *self.widths], np.random.default_rng(seed)),
            biases=[np.zeros_like(bias) for bias in self.biases],
        )
