"""Which pictures are copies of one another, though their bytes differ: re-encoded, resized, cropped a little, turned.

Two pictures are **the same** if their pixels are, or if all of this holds:

* their perceptual hashes, one in any of eight orientations, differ in at most so many bits as the caller allows;
* their thumbnails, turned likewise, correlate at least 0.9, colours included;
* in a collection in which unrelated pictures come near one another, as scans or tiny pictures do, more is asked for: a
  third of the bits that lie between a picture and the most similar one of another class, in the median, PDQ's 31 of 256
  bits at most, and a correlation of 0.98.

On 1,000 photos of cats and dogs two different photos differed in at least 86 bits, except two that are the same scene;
of copies these shares were found with 60 bits, and before in brackets with 31 bits and a correlation of 0.98:
re-encoded, halved or mirrored 1 (1), cropped by 1.5 % a side 1 (0.69), by 3 % a side 0.78 (0.01), turned by 2° 1
(0.22), by a quarter or half 1 (0). On 8 by 8 digits the last rule asks for 20 bits; 31 would pair 11 others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.photos.duplicates.perceptual_hash import BITS, ORIENTATIONS, Signatures, oriented
from pipeline.stats.nearest_neighbours import Indices, Vectors, close_pairs
from pipeline.types import Progress

LIKENESS: Final = 0.9
NEAR: Final = 84  # bits: in collections of photos the median distance to the nearest of another class is larger
NEAR_LIKENESS: Final = 0.98
NEAR_BITS: Final = 31  # PDQ's own recommendation
SHARE: Final = 3  # among those, a copy is at least so many times nearer than the nearest picture of another class
CONTRAST: Final = 4.0  # grey levels squared: a picture flatter than its root is like nothing
SAMPLE: Final = 2048  # pictures from which the distance between unrelated ones is taken


@dataclass(frozen=True)
class Pairs:
    """P pairs of pictures.

    Attributes
    ----------
    first, second : ndarray of shape (P,), int
        Which pictures; ``first < second``.
    distances : ndarray of shape (P,), int
        Bits in which the hashes differ, in the orientation of the second that is nearest to the first.
    likeness : ndarray of shape (P,), float32
        Correlation of the thumbnails in that orientation, from -1 to 1.
    orientations : ndarray of shape (P,), int
        Which of `perceptual_hash.ORIENTATIONS` that is; 0 is as it is.
    """

    first: Indices
    second: Indices
    distances: NDArray[np.int64]
    likeness: NDArray[np.float32]
    orientations: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, which: NDArray[np.bool_] | Indices) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(
            self.first[which], self.second[which], self.distances[which], self.likeness[which], self.orientations[which]
        )


def compare(signatures: Signatures, first: Indices, second: Indices) -> Pairs:
    """Measure given pairs of pictures: `first` and `second`, (P,), say which of the signatures."""
    sides = len(first), len(ORIENTATIONS)
    distances, likeness = np.empty(sides, np.int64), np.empty(sides, np.float32)
    for start in range(0, len(first), SAMPLE):
        part = slice(start, start + SAMPLE)
        one, other = signatures.take(first[part]), signatures.take(second[part])
        for turned in range(len(ORIENTATIONS)):
            distances[part, turned] = np.unpackbits(one.bits[:, 0] ^ other.bits[:, turned], axis=1).sum(axis=1)
            likeness[part, turned] = _correlations(one.thumbnails, oriented(other.thumbnails, turned))
    best = np.lexsort((-likeness, distances), axis=1)[:, 0] if len(first) else np.empty(0, np.intp)
    chosen = np.arange(len(first)), best
    return Pairs(first, second, distances[chosen], likeness[chosen], best)


def same_pictures(
    signatures: Signatures, labels: Sequence[str], *, hash_distance: int, progress: Progress
) -> tuple[Pairs, int]:
    """Find the pictures that are the same, by the rules of this module.

    Parameters
    ----------
    signatures : Signatures
        Of N pictures; one for each file whose bytes differ from all others.
    labels : sequence of str, N
        Tell pictures that are certainly unrelated; they have no other effect.
    hash_distance : int
        The largest distance of a pair, in bits, from 0 to 256.
    progress : callable
        Called with (tiles compared, tiles in all).

    Returns
    -------
    pairs : Pairs
        Ordered by distance, the nearest first. Of pictures with the same pixels the first is paired with each of the
        others.
    limit : int
        The distance that was asked for in the end, in bits.
    """
    identical, kept = _identical(signatures.pixels)
    distinct = signatures.take(kept)
    apart, least = _unrelated(distinct, [labels[index] for index in kept]), LIKENESS
    limit = hash_distance
    if apart < NEAR:
        limit, least = min(hash_distance, NEAR_BITS, apart // SHARE), NEAR_LIKENESS
    candidates = _candidates(distinct, limit, progress)
    near = compare(distinct, *candidates)
    near = near.take((near.distances <= limit) & (near.likeness >= least))
    found = compare(
        signatures,
        np.concatenate([identical[0], kept[near.first]]),
        np.concatenate([identical[1], kept[near.second]]),
    )
    return found.take(np.lexsort((found.second, found.first, -found.likeness, found.distances))), limit


def groups(n: int, pairs: Pairs) -> NDArray[np.int64]:
    """Return a group's number for each of n pictures: those that pairs connect share one.

    Numbers go from 0, in order of first appearance.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs), np.int8), (pairs.first, pairs.second)), shape=(n, n))
    _, found = connected_components(links, directed=False)
    _, first, which = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[which]


def representatives(digests: Sequence[bytes], numbers: NDArray[np.int64]) -> list[bytes]:
    """Return for each picture the digest that stands for its group: the smallest, read backwards.

    Its leading bytes, which decide the split, have no part in that choice: were it the smallest read forwards, groups
    would fall to the test split more often than single pictures do. `numbers` (N,) are from `groups`.
    """
    chosen: dict[int, bytes] = {}
    for digest, number in zip(digests, numbers.tolist(), strict=True):
        chosen[number] = min(chosen.get(number, digest), digest, key=lambda one: one[::-1])
    return [chosen[number] for number in numbers.tolist()]


def _identical(pixels: Sequence[bytes]) -> tuple[tuple[Indices, Indices], Indices]:
    """Return the pairs (first of its kind, another one), and the indices of the firsts."""
    firsts: dict[bytes, int] = {}
    of = np.array([firsts.setdefault(one, index) for index, one in enumerate(pixels)], np.intp)
    others = np.flatnonzero(of != np.arange(len(of)))
    return (of[others], others), np.array(sorted(firsts.values()), np.intp)


def _candidates(signatures: Signatures, limit: int, progress: Progress) -> tuple[Indices, Indices]:
    """Return the pairs, each once, whose hashes differ in at most `limit` bits, in any orientation."""
    bits, sides = _signs(signatures.bits[:, 0]), len(ORIENTATIONS)
    least = BITS - 2 * limit  # the product of two rows of signs is the bits that agree less those that do not
    found = []
    for turned in range(sides):
        other = _signs(signatures.bits[:, turned]) if turned else bits

        def told(done: int, total: int, turned: int = turned) -> None:
            progress(turned * total + done, sides * total)

        found.append(np.stack(close_pairs(bits, other, least=least, progress=told)[:2]))
    both = np.unique(np.concatenate(found, axis=1), axis=1)
    return both[0], both[1]


def _unrelated(signatures: Signatures, labels: Sequence[str]) -> int:
    """Return the median distance to the nearest picture of another class; if there is one class only, of any."""
    _, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    n = len(signatures)
    sample = np.unique(np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.intp))
    if codes.max(initial=0) == 0:
        codes = np.arange(n)
    chosen = _signs(signatures.bits[sample, 0])
    agreement = np.full(len(sample), -np.inf, np.float32)
    for start in range(0, n, SAMPLE):
        rows = slice(start, start + SAMPLE)
        for turned in range(len(ORIENTATIONS)):
            products = chosen @ _signs(signatures.bits[rows, turned]).T
            products[codes[sample][:, None] == codes[rows]] = -np.inf
            agreement = np.maximum(agreement, products.max(axis=1))
    known = agreement[np.isfinite(agreement)]
    return int((BITS - np.median(known)) / 2) if len(known) else BITS


def _signs(bits: NDArray[np.uint8]) -> Vectors:
    return np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1


def _correlations(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the correlation of the RGB values of each two thumbnails; near 0 where one of them is flat."""
    x, y = (side.reshape(len(side), -1).astype(np.float32) for side in (a, b))
    x -= x.mean(axis=1, keepdims=True)
    y -= y.mean(axis=1, keepdims=True)
    variances = ((x * x).mean(axis=1) + CONTRAST) * ((y * y).mean(axis=1) + CONTRAST)
    return np.asarray((x * y).mean(axis=1) / np.sqrt(variances), np.float32)
