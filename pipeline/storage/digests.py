"""Digests, 32 bytes each, as an image's identity: compare them, find them, and draw a number from one; and a file's.

A text can hold its own digest: that of its bytes with zeros in the digest's place. So a reader finds any flipped bit.
"""

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.storage.regular_files import require_regular


def of_file(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal. An OSError of the disk is the caller's."""
    require_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


UNKNOWN: Final = "0" * 64  # stands in a text where its own digest will


def of_sealed(data: bytes, found: str) -> str:
    """Return the sha256 of a text with `UNKNOWN` in place of its own digest; `found` is the one that it holds."""
    return hashlib.sha256(data.replace(found.encode(), UNKNOWN.encode())).hexdigest()


def as_keys(digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """View digests of shape (N, 32) as N fixed strings, which compare as the bytes do."""
    return np.ascontiguousarray(digests).view("S32").reshape(-1)


def find(keys: NDArray[np.bytes_], digests: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Look digests up among sorted keys.

    Parameters
    ----------
    keys : ndarray of shape (M,), S32
        Sorted, from `as_keys`.
    digests : ndarray of shape (n, 32), uint8
        In any order.

    Returns
    -------
    places : ndarray of shape (n,), int
        Where each digest stands in `keys`; without meaning where it is not found.
    found : ndarray of shape (n,), bool
    """
    wanted = as_keys(digests)
    places = np.searchsorted(keys, wanted)
    found = places < len(keys)
    found[found] = keys[places[found]] == wanted[found]
    return places, found


def fractions(digests: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Read the first eight bytes of each digest as a number in [0, 1): even over images, and forever the same for one.

    Parameters
    ----------
    digests : ndarray of shape (N, 32), uint8

    Returns
    -------
    ndarray of shape (N,), float64
    """
    return np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.float64) / 2.0**64
