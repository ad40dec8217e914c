"""Two models on the same test images: how far apart they are, and whether that could be chance.

Both models see each image, so only images on which they disagree say anything about a difference. Of n images let b be
those that the first alone gets right, and c those that the second alone gets right.

* **Difference of accuracy**, (b - c) / n: the score interval of Tango (1998), those differences that the score test
  does not reject. Without any disagreement it is Wilson's interval of 0 in n, on both sides.
* **Difference of log loss**: Student's t on the differences image by image. The bootstrap's interval (BCa) is too
  short where few images make most of the difference: it left out 0, for equal models, twice to three times too often.
* **Is it chance?** McNemar's test: if neither were better, b would be Binomial(b + c, 1/2). The outcome itself counts
  half (mid-p): the exact test errs on the safe side so far that it contradicts the interval beside it.
* **Of many pairs** some differ by chance. P-values and intervals are corrected after Holm (1979), see `multiplicities`:
  that one pair or more is called different, or that an interval leaves out 0, though no two models differ, has a
  probability of 0.05 at most, for accuracy and for log loss. Each interval holds the truth in 0.95 of all test splits
  or more.

docs/measurements.md says how often Tango's interval holds the true difference, beside those of Wald, Agresti and Min
(2005), and Bonett and Price (2012).

References
----------
.. [1] T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
   design", Statistics in Medicine 17 (1998) 891-908.
.. [2] Q. McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
   Psychometrika 12 (1947) 153-157.
.. [3] M. W. Fagerland, S. Lydersen, P. Laake, "The McNemar test for binary matched-pairs data: mid-p and asymptotic are
   better than exact conditional", BMC Medical Research Methodology 13:91 (2013).
.. [4] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979)
   65-70.
"""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from pipeline.stats.intervals import LEVEL, Z, farthest
from pipeline.stats.score_intervals import LARGEST_LOSS
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
    """Return McNemar's mid-p-value, two-sided [2]_, [3]_; 1 where the models never disagree, or equally often.

    Each number counts the images that one model gets right and the other wrong.
    """
    from scipy.special import bdtr  # the binomial distribution; scipy.stats takes a second to load

    fewer, both = min(first_alone, second_alone), first_alone + second_alone
    if 2 * fewer == both:
        return 1.0
    return float(bdtr(fewer, both, 0.5) + (bdtr(fewer - 1, both, 0.5) if fewer else 0.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number [4]_: the chance of one false alarm or more stays below the level.

    They come in any order; the result is in the same.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def multiplicities(p_values: Sequence[float]) -> list[int]:
    """Return by how much the level of each test, and of the interval beside it, is divided for the number of them [4]_.

    That of the smallest p-value by their number, the next by one less, and so on; from the first that shows nothing at
    its level on, all by that one's. So an interval leaves out 0 where `holm` says that there is a difference. They come
    in any order; the result is in the same.
    """
    found = [1] * len(p_values)
    times, shown = len(p_values), True
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        times = len(p_values) - rank if shown else times
        shown = shown and times * p_values[place] <= 1 - LEVEL
        found[place] = times
    return found


def quantile(times: int) -> float:
    """Return the normal quantile of a two-sided interval at a level that is divided by `times`; 1.96 for 1."""
    return NormalDist().inv_cdf(1 - (1 - LEVEL) / (2 * times))


def loss_differences(losses: Floats, pairs: Sequence[tuple[int, int]]) -> list[tuple[float, float, float]]:
    """Return for each pair of models the first's mean loss less the second's, and both ends of its interval.

    `losses` (n, M) are those of each image under each model, from 0 to `LARGEST_LOSS`; `pairs` are columns of them.
    Difference, low and high are in their unit: by Student's t, at levels corrected for the number of pairs. One image
    says nothing: its interval is all that a difference can be.
    """
    from scipy.special import stdtr, stdtrit  # of Student's t, the distribution and its quantiles

    n = len(losses)
    apart = np.stack([losses[:, i] - losses[:, j] for i, j in pairs], axis=1) if pairs else np.empty((n, 0))
    values = apart.mean(axis=0)
    errors = apart.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(len(pairs), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = np.where(errors > 0, 2 * stdtr(max(n - 1, 1), -np.abs(values) / errors), np.where(values, 0.0, 1.0))
    found = []
    for value, error, times in zip(values, errors, multiplicities(p_values.tolist()), strict=True):
        half = stdtrit(max(n - 1, 1), 1 - (1 - LEVEL) / (2 * times)) * error
        ends = np.clip([value - half, value + half], -LARGEST_LOSS, LARGEST_LOSS)
        found.append((float(value), float(ends[0]), float(ends[1])))
    return found
