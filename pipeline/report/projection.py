"""Features in two dimensions, and which of them are nearest to one another.

BLAS runs in one thread here: sums that several threads share differ in their last digits, and t-SNE makes another
picture of that. t-SNE's own threads do not share the sum of an image, so the map has the same bits with any number.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.report.settings import Method
from pipeline.stats.nearest_neighbours import directions

COMPONENTS: Final = 50  # before t-SNE: van der Maaten and Hinton (2008), section 4.2, took 30
PERPLEXITY: Final = 30.0
STEPS: Final = 400  # at `_rate` they keep as many neighbours as 1,000 at scikit-learn's own, in less than half the time
FEWEST: Final = 10  # images; of fewer t-SNE says nothing
TSNE_MOST: Final = 5000  # images; one core takes half a minute at most for these
ROWS: Final = 512  # compared with all others at a time


@dataclass(frozen=True)
class Plane:
    """Images in two dimensions.

    Attributes
    ----------
    places : ndarray of shape (n, 2), float64
        Across, from 0 to 1, and down, on the same scale: they are turned such that they extend the most across.
    method : str
        How they came there, in words.
    """

    places: NDArray[np.float64]
    method: str


def plane(rows: NDArray[np.float32], *, method: Method, seed: int) -> Plane:
    """Lay features out in the plane such that what is alike lies close together.

    They are centred and brought to unit length, since it is by their direction that they are compared. `rows` (n, d)
    are finite.

    Method ``pca``: the two directions of the largest variance. ``tsne``: 50 such directions, then t-SNE. ``auto`` is
    t-SNE up to `TSNE_MOST` images, and PCA for more.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n = len(rows)
    unit = directions(rows)
    if not np.ptp(unit, axis=0).any():  # t-SNE would divide by its own spread, and crash
        return Plane(np.zeros((n, 2)), "nothing: all features are equal")
    curved = n >= FEWEST and (method == "tsne" or (method == "auto" and n <= TSNE_MOST))
    count = min(COMPONENTS if curved else 2, *unit.shape)
    with threadpool_limits(1, user_api="blas"):
        pca = PCA(count, random_state=seed).fit(unit)
        found = pca.transform(unit)
        kept = float(pca.explained_variance_ratio_.sum())
        if curved:
            perplexity = min(PERPLEXITY, (n - 1) / 3)
            words = f"t-SNE (perplexity {perplexity:g}, seed {seed}) of {count} principal components"
            tsne = TSNE(
                perplexity=perplexity, init="pca", learning_rate=_rate(n), max_iter=STEPS, random_state=seed, n_jobs=1
            )
            found = tsne.fit_transform(found)
        else:
            words = f"the first {count} principal components"
    return Plane(_framed(found), f"{words}, which hold {100 * kept:.0f}\u00a0% of the variance")


def _rate(n: int) -> float:
    """Return the learning rate: scikit-learn's own, n / 48 or 50, is slow for hundreds of images and some thousands."""
    return max(50.0, min(200.0, n / 9), n / 48)


def _framed(found: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    places = np.zeros((len(found), 2))
    places[:, : found.shape[1]] = found
    places -= places.mean(axis=0)
    _, _, turn = np.linalg.svd(places, full_matrices=False)
    turned = (
        places @ (turn * np.sign(turn[:, :1] + (turn[:, :1] == 0))).T
    )  # of an axis' two directions, always the same
    low = turned.min(axis=0)
    extent = turned.max(axis=0) - low
    return np.asarray((turned - low) / (float(extent.max()) or 1.0))


def nearest(rows: NDArray[np.float32], k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return for each image the k others whose features point most nearly the same way, the nearest first.

    `rows` (n, d) are finite. Places and cosines, around the mean of all rows, are (n, min(k, n - 1)): where there are
    fewer others, as many as there are.
    """
    from threadpoolctl import threadpool_limits

    unit = directions(rows)
    k = min(k, len(unit) - 1)
    places = np.empty((len(unit), k), np.intp)
    cosines = np.empty((len(unit), k), np.float32)
    with threadpool_limits(1, user_api="blas"):
        for start in range(0, len(unit) if k else 0, ROWS):
            products = unit[start : start + ROWS] @ unit.T
            own = np.arange(len(products))
            products[own, start + own] = -np.inf
            closest = np.argpartition(-products, k - 1, axis=1)[:, :k]
            values = np.take_along_axis(products, closest, axis=1)
            order = np.lexsort((closest, -values), axis=1)
            places[start : start + ROWS] = np.take_along_axis(closest, order, axis=1)
            cosines[start : start + ROWS] = np.take_along_axis(values, order, axis=1)
    return places, cosines
