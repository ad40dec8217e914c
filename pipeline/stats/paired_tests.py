"""Two models on the same test images: how far apart they are, and whether that could be chance.

Both models see each image, so only images on which they disagree say anything about a difference. Of n images let b be
those that the first alone gets right, and c those that the second alone gets right.

* **Difference of accuracy**, (b - c) / n: the score interval of Tango (1998), those differences that the score test
  does not reject. Without any disagreement it is Wilson's interval of 0 in n, on both sides.
* **Difference of log loss**: the bias-corrected and accelerated bootstrap over images, each drawn with both its losses.
* **Is it chance?** McNemar's test, exact: if neither were better, b would be Binomial(b + c, 1/2).
* **Of many pairs** some differ by chance. The p-values are corrected after Holm (1979): that one pair or more is called
  different, though none is, has a probability of 0.05 at most. The intervals are not corrected.

docs/measurements.md says how often Tango's interval holds the true difference, beside those of Wald, Agresti and Min
(2005), and Bonett and Price (2012).

References
----------
.. [1] T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
   design", Statistics in Medicine 17 (1998) 891-908.
.. [2] Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
   Psychometrika 12 (1947) 153-157.
.. [3] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979)
   65-70.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.stats.intervals import Z, bca, farthest, weights
from pipeline.types import Floats


def accuracy_difference(first_alone: int, second_alone: int, n: int, *, z: float = Z) -> tuple[float, float, float]:
    """Return the first model's accuracy less the second's, and both ends of Tango's score interval [1]_.

    Parameters
    ----------
    first_alone, second_alone : int
        Images that one model gets right and the other wrong.
    n : int
        All images, at least 1.
    z : float
        How many standard errors the interval reaches: the normal quantile of its confidence, 1.96 for 95 %.

    Returns
    -------
    (float, float, float)
        Difference, low, high: fractions from -1 to 1.
    """
    b, c = first_alone, second_alone
    value = (b - c) / n

    def accepts(difference: float) -> bool:
        # The likelihood's maximum, given the difference: the share of images that the second alone gets right.
        linear = (2 * n - b + c) * difference - b - c
        constant = -c * difference * (1 - difference)
        share = (np.sqrt(max(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
        variance = n * max(2 * share + difference * (1 - difference), 0.0)
        return bool(abs(b - c - n * difference) <= z * np.sqrt(variance))

    return value, farthest(value, -1.0, accepts), farthest(value, 1.0, accepts)


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Return McNemar's exact p-value, two-sided [2]_; 1 where the models never disagree.

    Parameters
    ----------
    first_alone, second_alone : int
        Images that one model gets right and the other wrong.
    """
    from scipy.stats import binom

    tail = binom.cdf(min(first_alone, second_alone), first_alone + second_alone, 0.5)
    return min(1.0, 2 * float(tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number [3]_: the chance of one false alarm or more stays below the level.

    Parameters
    ----------
    p_values : sequence of float
        In any order; the result is in the same.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def loss_differences(
    losses: Floats, pairs: Sequence[tuple[int, int]], *, seed: int, resamples: int
) -> list[tuple[float, float, float]]:
    """Return for each pair of models the first's mean loss less the second's, and both ends of its BCa interval.

    Parameters
    ----------
    losses : ndarray, shape (n, M)
        Of each image under each model.
    pairs : sequence of (int, int)
        Columns of `losses`.
    seed, resamples : int
        Of the bootstrap. The same images are drawn for all models.

    Returns
    -------
    list of (float, float, float)
        Difference, low, high, in the unit of the losses.
    """
    n = len(losses)
    total = losses.sum(axis=0)
    resampled = np.concatenate([block @ losses for block in weights(n, seed=seed, resamples=resamples)]) / n
    jackknife = (total - losses) / max(n - 1, 1)
    found = []
    for i, j in pairs:
        value = float(total[i] - total[j]) / n
        low, high = bca(value, resampled[:, i] - resampled[:, j], jackknife[:, i] - jackknife[:, j])
        found.append((value, min(low, value), max(high, value)))
    return found
