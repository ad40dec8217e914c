"""Which two classes cannot be told apart, or only just, by predictions of models that did not see the image.

Of two classes only their own images and their two probabilities count: the share of images, each class weighing half,
whose own class is the more probable one. Guessing gives 0.5. Two classes **cannot be told apart** if the 95 % interval
of that share reaches down to 0.5: with few images that may just mean that nothing is known of them.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.stats.intervals import wilson

CHANCE: Final = 0.5


@dataclass(frozen=True)
class Confusable:
    """Two classes, and how well they are told apart.

    Attributes
    ----------
    first, second : int
        Codes of the classes.
    images : int
        Of both.
    confused : int
        Images of either that were taken for the other one, among all classes.
    share, low, high : float
        Fraction told apart, with its 95 % interval.
    """

    first: int
    second: int
    images: int
    confused: int
    share: float
    low: float
    high: float

    @property
    def inseparable(self) -> bool:
        """Whether guessing might do as well."""
        return self.low <= CHANCE


def find(codes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[Confusable]:
    """Compare every two classes that have images and were not told apart in full, those least told apart first.

    `codes` (N,) are the true classes, 0 to K - 1; `probabilities` (N, K) are out of fold.
    """
    k = probabilities.shape[1]
    counts = np.bincount(codes, minlength=k)
    wins, taken = np.zeros((k, k)), np.zeros((k, k), np.int64)
    for code in np.flatnonzero(counts):
        rows = probabilities[codes == code]
        own = rows[:, [code]]
        wins[code] = (own > rows).mean(axis=0) + (own == rows).mean(axis=0) / 2
        taken[code] = np.bincount(rows.argmax(axis=1), minlength=k)
    first, second = np.nonzero(np.triu((counts > 0)[:, None] & (counts > 0), 1) & ((wins + wins.T) < 2))
    found = [_of_two(int(a), int(b), counts, wins, taken) for a, b in zip(first, second, strict=True)]
    return sorted(found, key=lambda pair: (pair.share, pair.first, pair.second))


def _of_two(
    a: int, b: int, counts: NDArray[np.int64], wins: NDArray[np.float64], taken: NDArray[np.int64]
) -> Confusable:
    share = float(wins[a, b] + wins[b, a]) / 2
    effective = 4 / (1 / counts[a] + 1 / counts[b])  # images of one class that would leave the mean as uncertain
    low, high = wilson(share, effective)
    return Confusable(a, b, int(counts[a] + counts[b]), int(taken[a, b] + taken[b, a]), share, low, high)
