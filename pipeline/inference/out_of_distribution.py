"""How much a photo is like those that were learned from: the nearest of them, and how far off they are.

Photos are compared by the cosine of their features. Which training photos one lies near is for people to look at. How
far its k-th nearest one is tells photos of another kind: among detectors that need no training, Sun et al. found that
distance to do best, on features of length one [1]_. As a bare number it says little, so it is read on the scale of the
training photos: the fraction of them, and of the photo itself, that lie at least as far from their own k-th neighbour
[2]_. Photos of the kind that was learned from have anything up to 1, evenly; those of another kind hardly any.

How small that fraction can be depends on how many training photos there are: of 20, none can show that a photo is of
another kind. So beside the number stands a word, by the interval of the fraction: whether it is clearly below, or
clearly above `RARE`, or cannot be told.

References
----------
.. [1] Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
.. [2] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic learning in a random world", Springer 2005: the p-value of
   conformal prediction.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, SpecError
from pipeline.features import spec
from pipeline.features.features_file import Features
from pipeline.photos import manifest
from pipeline.stats import nearest_neighbours
from pipeline.stats.intervals import proportion

MEMORY: Final = 2**29  # bytes of training features that are held; more are read again for each search
BLOCK_BYTES: Final = 2**25
RARE: Final = 0.05  # of training photos: what lies farther off than most of these is of another kind
PHOTOS_A_RANK: Final = 30  # among fewer, a neighbour of higher rank is already one of another kind
HIGHEST_RANK: Final = 10
SCALE_PHOTOS: Final = 2000  # training photos that make the scale: more would move a fraction by 0.01 at most, mostly


class Neighbours(NamedTuple):
    """The training photos most like each of n images, the nearest first.

    Attributes
    ----------
    places : ndarray of shape (n, k), int
        In `TrainingPhotos.paths`.
    similarities : ndarray of shape (n, k), float32
        Cosines of features, from -1 to 1.
    """

    places: NDArray[np.intp]
    similarities: NDArray[np.float32]


class Neighbour(NamedTuple):
    """A training photo: its path in the manifest, its label, and the cosine of its features with those of an image."""

    path: str
    label: str
    similarity: float


Kind = Literal["familiar", "uncertain", "unlike"]


class Familiarity(NamedTuple):
    """How an image stands among the training photos.

    Attributes
    ----------
    farther : int
        Of the photos, those that lie at least as far from the others as the image does.
    photos : int
        That were looked at.
    """

    farther: int
    photos: int

    @property
    def score(self) -> float:
        """The out-of-distribution score: the fraction at least as far, the image itself counted; above 0, at most 1."""
        return (self.farther + 1) / (self.photos + 1)

    @property
    def kind(self) -> Kind:
        """Whether the fraction is shown to be above or below `RARE`, by its 95 % interval, or neither."""
        low, high = proportion(self.farther, self.photos)
        return "unlike" if high < RARE else "familiar" if low > RARE else "uncertain"


class TrainingPhotos:
    """The training split's features, to search in.

    Parameters
    ----------
    features_path, manifest_path : Path
        As `extract` and `prepare` wrote them. Of several views the first counts, the photo itself.
    described : mapping
        The spec of the features that will be compared with them.
    head : Path, optional
        Whose spec that is, for the message.

    Attributes
    ----------
    paths, labels : list of str
        Of the photos, one for each digest; the paths are relative to the image root.
    digests : ndarray of shape (n, 32), uint8
        Of their files.
    width : int
        d, how many features a photo has.
    warnings : list of str
        Where the specs differ, but only up to rounding.

    Raises
    ------
    SpecError
        The features mean something else: they are of another base, or of the base before it was fine-tuned.
    InputError
        The training split has fewer than two photos.
    ArtefactError
        A file is damaged, or a photo has no features.
    """

    def __init__(
        self, features_path: Path, manifest_path: Path, described: spec.Spec, *, head: Path | None = None
    ) -> None:
        self._features = Features(features_path)
        self.warnings = _require_same(described, self._features, head)
        table = manifest.read(manifest_path).distinct("train")
        if len(table) < 2:
            raise InputError(f"{manifest_path}: expected two training photos or more, received {len(table)}")
        self.paths, self.labels, self.digests = table.paths, table.labels, table.digests
        self._rows = self._features.places(table.digests)  # ascending, as both are in the order of the digests
        self.width = int(np.prod(self._features.row_shape))
        self._block = max(1, BLOCK_BYTES // (4 * self.width))
        self._held: list[nearest_neighbours.Vectors] | None = None
        if 4 * self.width * len(table) <= MEMORY:
            self._held = list(self._read())
            self._features.__exit__()
        self._scales: dict[int, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def in_memory(self) -> bool:
        """Whether a search reads no file."""
        return self._held is not None

    def nearest(self, features: NDArray[np.float32], k: int) -> Neighbours:
        """Find the k training photos, or all if there are fewer, that are most alike; k is at least 1.

        All rows of `features` (n, d) are compared in one pass.
        """
        return Neighbours(*nearest_neighbours.closest(nearest_neighbours.unit(features), self._blocks(), k))

    def named(self, found: Neighbours, k: int) -> list[tuple[Neighbour, ...]]:
        """Name the first `k` neighbours of each image."""
        return [
            tuple(Neighbour(self.paths[at], self.labels[at], float(value)) for at, value in zip(*row, strict=True))
            for row in zip(found.places[:, :k], found.similarities[:, :k], strict=True)
        ]

    def rank(self, neighbours: int | None) -> int:
        """Return k, which neighbour's distance counts: as asked, or by default a thirtieth of the photos, 1 to 10."""
        k = min(HIGHEST_RANK, max(1, len(self) // PHOTOS_A_RANK)) if neighbours is None else neighbours
        return min(k, len(self) - 1)

    def familiarity(self, found: Neighbours, k: int) -> list[Familiarity]:
        """Count the training photos that lie at least as far from their own k-th nearest as an image does.

        A training photo is not its own neighbour; an image that is one of them finds itself, and is more familiar.

        Parameters
        ----------
        found : Neighbours
            At least `k` of them, or all that there are.
        k : int
            From `rank`. Of no more than `SCALE_PHOTOS` training photos, drawn evenly, the distances make the scale.

        Returns
        -------
        list of Familiarity
            One an image.
        """
        if k not in self._scales:
            self._scales[k] = self._scale(k)
        scale = self._scales[k]
        farther = np.searchsorted(scale, found.similarities[:, k - 1], side="right")
        return [Familiarity(int(count), len(scale)) for count in farther]

    def _scale(self, k: int) -> NDArray[np.float32]:
        """Return the similarity of training photos to their own k-th nearest, ascending."""
        own = np.unique(np.linspace(0, len(self) - 1, min(len(self), SCALE_PHOTOS)).astype(np.intp))
        queries = self._take(own)
        places, similarities = nearest_neighbours.closest(queries, self._blocks(), k + 1)
        itself = places == own[:, None]
        itself[~itself.any(axis=1), -1] = True  # more than k are just as near: any of them may be left out
        return np.sort(similarities[~itself].reshape(len(own), k)[:, -1])

    def _take(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        parts, start = [], 0
        for block in self._blocks():
            inside = places[(places >= start) & (places < start + len(block))] - start
            parts.append(block[inside])
            start += len(block)
        return np.concatenate(parts)

    def _blocks(self) -> Iterator[nearest_neighbours.Vectors]:
        return self._read() if self._held is None else iter(self._held)

    def _read(self) -> Iterator[nearest_neighbours.Vectors]:
        """Yield the training photos' features at length one, (m, d), in the order of `paths`."""
        for start in range(0, len(self._features), self._block):
            stop = min(start + self._block, len(self._features))
            low, high = np.searchsorted(self._rows, (start, stop))
            if low < high:
                rows: NDArray[Any] = self._features.read(start, stop)[self._rows[low:high] - start]
                yield nearest_neighbours.unit(rows.reshape(len(rows), -1).astype(np.float32))


def _require_same(described: spec.Spec, features: Features, head: Path | None) -> list[str]:
    if "finetuned" in described.get("weights", {}):
        raise SpecError(
            f"`features`: expected features of the fine-tuned model, received {features.path}, which its base made "
            "before it was trained on: photos can be compared by the head that the model came from, not by the model"
        )
    return spec.require_compatible(described, features.spec, head=head, features=features.path)
