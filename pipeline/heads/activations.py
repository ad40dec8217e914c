"""Activations in numpy, as Keras computes them, and their derivatives."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Singles

Floating = NDArray[np.floating[Any]]
Precision = TypeVar("Precision", bound=np.floating[Any])
# Klambauer et al., "Self-Normalizing Neural Networks" (2017), section 2: lambda and alpha.
SELU_SCALE: Final = np.float32(1.0507009873554805)
SELU_ALPHA: Final = np.float32(1.6732632423543772)


def sigmoid(x: NDArray[Precision]) -> NDArray[Precision]:
    """Return 1 / (1 + exp(-x)), in the precision of `x`, by tanh: that saturates where exp would overflow."""
    return np.asarray(0.5 * (np.tanh(0.5 * x) + 1), x.dtype)


def _elu(x: Singles) -> Singles:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _selu(x: Singles) -> Singles:
    return SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def _gelu(x: Singles) -> Singles:
    # The exact form of Hendrycks and Gimpel (2016), x times the normal distribution function, which is Keras' default.
    from scipy.special import erf

    return np.asarray(np.float32(0.5) * x * (np.float32(1) + erf(x * np.float32(math.sqrt(0.5)))))


# Named as in keras.activations; numpy's side of each, float32 to float32.
ACTIVATIONS: Final[Mapping[str, Callable[[Singles], Singles]]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "gelu": _gelu,
    "silu": lambda x: x * sigmoid(x),
    "elu": _elu,
    "selu": _selu,
}


def _of_sigmoid(x: Floating) -> Floating:
    s = sigmoid(x)
    return np.asarray(s * (1 - s))


def _of_silu(x: Floating) -> Floating:
    s = sigmoid(x)
    return np.asarray(s * (1 + x * (1 - s)))


def _of_gelu(x: Floating) -> Floating:
    from scipy.special import erf

    density = np.exp(-0.5 * np.square(x)) / math.sqrt(2 * math.pi)
    return np.asarray(0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density)


# The derivative of each, in the precision of what it is given.
DERIVATIVES: Final[Mapping[str, Callable[[Floating], Floating]]] = {
    "relu": lambda x: (x > 0).astype(x.dtype),
    "tanh": lambda x: 1 - np.square(np.tanh(x)),
    "sigmoid": _of_sigmoid,
    "gelu": _of_gelu,
    "silu": _of_silu,
    "elu": lambda x: np.exp(np.minimum(x, 0)),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x.dtype.type(1), SELU_ALPHA * np.exp(np.minimum(x, 0))),
}
