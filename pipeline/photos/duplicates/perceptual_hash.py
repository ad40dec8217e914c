"""What a picture looks like, in 256 bits and a thumbnail: the same for a copy that was re-encoded, resized or turned.

The hash is built as PDQ is [1]_: grey pixels at 64 by 64, their cosine transform at the frequencies 1 to 16 both ways,
and a bit for each coefficient above the median. Mirroring a picture negates the coefficients of odd frequency, one way
or the other, and a quarter turn swaps both ways besides: so the hashes of all eight orientations cost one transform. It
is not PDQ's own hash, which filters and resizes otherwise: the two cannot be compared.

A hash sees structure only: of two flat pictures in different colours it is the same, and of a tiny picture it mostly
repeats what interpolation made up. `likeness` therefore compares thumbnails, which hold colour and contrast.

References
----------
.. [1] Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019. It recommends 31 of
   256 bits as the largest distance of a match.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BITS: Final = 256
HASH_BYTES: Final = BITS // 8
SIDE: Final = 64  # px, before the cosine transform
FREQUENCIES: Final = 16  # a side; 0, the mean, is left out
THUMBNAIL: Final = 16  # px
# Mirrored top to bottom, left to right, and then along the diagonal, or not: the first is the picture as it is.
ORIENTATIONS: Final = tuple((up, left, across) for across in (0, 1) for up in (0, 1) for left in (0, 1))


class Signature(NamedTuple):
    """What one picture looks like.

    Attributes
    ----------
    pixels : bytes, 32
        sha256 of size and upright RGB: the same for pictures that differ in their metadata or lossless coding only.
    bits : bytes, 8 of 32
        The perceptual hash in each of the orientations that `oriented` names; the first is as it is.
    thumbnail : bytes, 768
        RGB, 16 by 16, whatever the aspect ratio was.
    """

    pixels: bytes
    bits: bytes
    thumbnail: bytes


@dataclass(frozen=True)
class Signatures:
    """The signatures of N pictures as columns.

    Attributes
    ----------
    pixels : list of bytes, N
    bits : ndarray of shape (N, 8, 32), uint8
    thumbnails : ndarray of shape (N, 16, 16, 3), uint8
    """

    pixels: list[bytes]
    bits: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, indices: NDArray[np.intp]) -> "Signatures":
        """Return the signatures at these indices, in their order."""
        pixels = [self.pixels[index] for index in indices]
        return Signatures(pixels, self.bits[indices], self.thumbnails[indices])


def sign(pixels: NDArray[np.uint8]) -> Signature:
    """Return the signature of upright RGB pixels of shape (height, width, 3)."""
    image = Image.fromarray(pixels)
    grey = image.convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    basis = _cosines()
    coefficients = basis @ np.asarray(grey, np.float64) @ basis.T
    odd = np.where(np.arange(1, FREQUENCIES + 1) % 2, -1.0, 1.0)
    turned = [coefficients * odd[:, None] ** up * odd**left for up, left, _ in ORIENTATIONS[:4]]
    bits = b"".join(_bits(one) for one in (*turned, *(one.T for one in turned)))
    small = image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Signature(digest.digest(), bits, small.tobytes())


def oriented(thumbnails: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return thumbnails (N, 16, 16, 3) in one of the `ORIENTATIONS`."""
    up, left, across = ORIENTATIONS[orientation]
    turned = thumbnails[:, :: -1 if up else 1, :: -1 if left else 1]
    return turned.swapaxes(1, 2) if across else turned


def as_columns(signatures: Sequence[Signature]) -> Signatures:
    """Return signatures as columns."""
    return Signatures(
        pixels=[one.pixels for one in signatures],
        bits=_stacked([one.bits for one in signatures], (len(ORIENTATIONS), HASH_BYTES)),
        thumbnails=_stacked([one.thumbnail for one in signatures], (THUMBNAIL, THUMBNAIL, 3)),
    )


def _stacked(rows: list[bytes], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, *shape)


def _bits(coefficients: NDArray[np.float64]) -> bytes:
    return np.packbits(coefficients > np.median(coefficients)).tobytes()


@cache
def _cosines() -> NDArray[np.float64]:
    """Return the rows 1 to 16 of the cosine transform (DCT-II) of 64 numbers: shape (16, 64)."""
    frequency = np.arange(1, FREQUENCIES + 1)[:, None]
    return np.asarray(np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * frequency))
