"""Which images lie far from all others, and which lie far from those of their own class.

The distance of an image is that to its k-th nearest neighbour, as Ramaswamy, Rastogi and Shim rank outliers [1]_, over
features of length 1, which Sun et al. found to tell foreign images best [2]_; one minus the cosine, from 0 to 2. They
are not centred: around their mean, images of another kind lie close to one another, and as near as the rest do. What
stands out is said by Iglewicz and Hoaglin's modified z-score, which outliers themselves do not move [3]_.

References
----------
.. [1] S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers from large data sets", SIGMOD 2000.
.. [2] Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
.. [3] B. Iglewicz, D. C. Hoaglin, "How to detect and handle outliers", ASQC 1993. They name 3.5; distances have a short
   tail, so that at 2.5 there are 2 of 1,000 photos in which nothing was planted (docs/measurements.md).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stats.nearest_neighbours import Vectors, nearest

STANDS_OUT: Final = 2.5
MEDIAN_OF_NORMAL: Final = 0.6745  # median absolute deviation of a normal distribution with standard deviation 1
MEAN_OF_NORMAL: Final = 0.7979  # its mean absolute deviation


@dataclass(frozen=True)
class Distances:
    """How far N images lie from others.

    Attributes
    ----------
    overall, own_class : ndarray of shape (N,), float64
        To the k-th nearest image, and to the k-th nearest of the same class: from 0 to 2, infinite where there is no
        other.
    scores : ndarray of shape (N,), float64
        Modified z-score of `overall`.
    """

    overall: NDArray[np.float64]
    own_class: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def outlying(self) -> NDArray[np.bool_]:
        """Which images stand out from the rest."""
        return self.scores > STANDS_OUT


def measure(vectors: Vectors, codes: NDArray[np.int64], *, neighbours: int) -> Distances:
    """Measure how far each image lies from the others.

    Parameters
    ----------
    vectors : ndarray of shape (N, d), float32
        Of length 1: `nearest_neighbours.unit`.
    codes : ndarray of shape (N,), int
        Classes.
    neighbours : int
        k, at least 1; of fewer others, the farthest counts. More than an image is likely to have copies.
    """
    overall = _kth(vectors, neighbours)
    own_class = np.empty(len(vectors))
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        own_class[members] = _kth(vectors[members], neighbours)
    return Distances(overall, own_class, _modified_z(overall))


def _kth(vectors: Vectors, k: int) -> NDArray[np.float64]:
    found = nearest(vectors, k)
    if not found.shape[1]:
        return np.full(len(vectors), np.inf)
    return 1 - found[:, -1].astype(np.float64)


def _modified_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 0.6745 (x - median) / MAD; where more than half are equal, by the mean absolute deviation, as in [3]_."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.zeros(len(values))
    centre = np.median(finite)
    apart = np.abs(finite - centre)
    spread = np.median(apart) / MEDIAN_OF_NORMAL or apart.mean() / MEAN_OF_NORMAL
    return np.asarray((values - centre) / spread) if spread > 0 else np.zeros(len(values))
