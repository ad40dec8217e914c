"""Which labels are likely wrong: confident learning, from probabilities of models that did not see the image.

A class's threshold is the mean probability that its own images get for it. An image counts as confidently of the class
whose threshold its probability reaches; of several, the most probable one. If that is not its label, the label is
likely wrong: these are the entries off the diagonal of the confident joint of Northcutt, Jiang and Chuang [1]_. The
thresholds make it indifferent to a model that is too sure of some classes and too modest about others.

Behind those come images that are merely predicted to be of another class: doubtful, and the model may be what is wrong.

References
----------
.. [1] C. G. Northcutt, L. Jiang, I. L. Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70
   (2021) 1373-1411, section 3.1; ranked by the normalised margin of section 3.2.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Issues:
    """Labels that are likely wrong, the likeliest first.

    Attributes
    ----------
    images : ndarray of shape (M,), int
        Which of the N images.
    suggested : ndarray of shape (M,), int
        The class that each seems to be.
    confident : ndarray of shape (M,), bool
        Whether confident learning says so; these come first. The others are doubtful.
    margins : ndarray of shape (M,), float64
        Probability of the suggested class less that of the label.
    """

    images: NDArray[np.intp]
    suggested: NDArray[np.int64]
    confident: NDArray[np.bool_]
    margins: NDArray[np.float64]


def find(codes: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Issues:
    """Find labels that are likely wrong.

    `codes` (N,) are the labels, 0 to K - 1; a class without an image is suggested for none. `probabilities` (N, K) are
    of models that were not fitted on the image itself; rows sum to 1.
    """
    n, k = probabilities.shape
    own = probabilities[np.arange(n), codes]
    counts = np.bincount(codes, minlength=k)
    thresholds = np.full(k, np.inf)
    np.divide(np.bincount(codes, weights=own, minlength=k), counts, out=thresholds, where=counts > 0)
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    sure = reached.max(axis=1) >= 0
    seems = np.where(sure, reached.argmax(axis=1), np.where(counts > 0, probabilities, -1).argmax(axis=1))
    images = np.flatnonzero(seems != codes)
    margins = probabilities[images, seems[images]] - own[images]
    order = np.lexsort((-margins, ~sure[images]))
    return Issues(images[order], seems[images[order]], sure[images[order]], margins[order])
