"""Activations in numpy, as Keras computes them."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
# Klambauer et al., "Self-Normalizing Neural Networks" (2017), section 2: lambda and alpha.
SELU_SCALE: Final = np.float32(1.0507009873554805)
SELU_ALPHA: Final = np.float32(1.6732632423543772)


def _sigmoid(x: Singles) -> Singles:
    # tanh saturates where exp would overflow.
    return np.asarray(np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1)))


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
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "elu": _elu,
    "selu": _selu,
}
