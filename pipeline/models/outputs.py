"""What a network gives: how much is wanted of it, and what is known then."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Depth = Literal["probabilities", "features", "maps", "tail"]
"""How much a network gives; ``tail`` is what training changed of a model: from activations to probabilities."""


Probabilities = NDArray[np.float64]


class Outputs(NamedTuple):
    """What is known of n images.

    Attributes
    ----------
    probabilities : ndarray of shape (n, K), float64
        Calibrated; rows sum to 1.
    features : ndarray of shape (n, d), float32, or None
        If the depth is ``features`` or ``maps``.
    maps : ndarray of shape (n, h, w, C), float32, or None
        If the depth is ``maps``.
    """

    probabilities: Probabilities
    features: NDArray[np.float32] | None
    maps: NDArray[np.float32] | None
