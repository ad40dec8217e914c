"""Which images lie far from all others, and which lie far from those of their own class.

The distance of an image is that to its k-th nearest neighbour, as Ramaswamy, Rastogi and Shim rank outliers [1]_, over
features of length 1, which Sun et al. found to tell foreign images best [2]_; one minus the cosine, from 0 to 2. They
are not centred: around their mean, images of another kind lie close to one another, and as near as the rest do. What
stands out lies several standard deviations above the median, by the upper side of the distances alone: most of them
have a longer tail there than below, so that a deviation of both sides calls the tail outliers [3]_.

References
----------
.. [1] S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers from large data sets", SIGMOD 2000.
.. [2] Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
.. [3] B. Iglewicz, D. C. Hoaglin, "How to detect and handle outliers", ASQC 1993, have a z-score by the median and the
   median absolute deviation. It called 74 of 1,797 handwritten digits outliers, where this score calls 29, and found no
   more of other things among photos (docs/measurements.md).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stats.nearest_neighbours import Vectors, nearest

STANDS_OUT: Final = 2.5
ONE_DEVIATION: Final = 0.8413  # of a normal distribution lies below its mean and one standard deviation
MEAN_OF_NORMAL: Final = 0.7979  # mean absolute deviation of a normal distribution with standard deviation 1


@dataclass(frozen=True)
class Distances:
    """How far N images lie from others.

    Attributes
    ----------
    overall, own_class : ndarray of shape (N,), float64
        To the k-th nearest image, and to the k-th nearest of the same class: from 0 to 2, infinite where there is no
        other.
    scores : ndarray of shape (N,), float64
        Of `overall`, in standard deviations above the median, see `_upper_z`.
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

    `vectors` (N, d) have length 1 (`nearest_neighbours.unit`), `codes` (N,) are the classes. `neighbours` is k, at
    least 1; of fewer others, the farthest counts. It should be more than an image is likely to have copies.
    """
    overall = _kth(vectors, neighbours)
    own_class = np.empty(len(vectors))
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        own_class[members] = _kth(vectors[members], neighbours)
    return Distances(overall, own_class, _upper_z(overall))


def _kth(vectors: Vectors, k: int) -> NDArray[np.float64]:
    found = nearest(vectors, k)
    if not found.shape[1]:
        return np.full(len(vectors), np.inf)
    return 1 - found[:, -1].astype(np.float64)


def _upper_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far values lie above their median, in what lies between it and the 84th percentile.

    That is one standard deviation if the upper half is a normal distribution's. Outliers do not move it while they are
    fewer than one in six. Where most values are nearly equal, what counts is the mean absolute deviation.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.zeros(len(values))
    centre, above = np.quantile(finite, (0.5, ONE_DEVIATION))
    spread = max(above - centre, np.abs(finite - centre).mean() / MEAN_OF_NORMAL)
    return np.asarray((values - centre) / spread) if spread > 0 else np.zeros(len(values))
