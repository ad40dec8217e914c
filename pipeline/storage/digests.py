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
    """Look up digests (n, 32), in any order, among sorted keys (M,) of `as_keys`.

    Return where each stands, which means nothing where it is not found, and whether it was found, both (n,).
    """
    wanted = as_keys(digests)
    places = np.searchsorted(keys, wanted)
    found = places < len(keys)
    found[found] = keys[places[found]] == wanted[found]
    return places, found


def fractions(digests: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Read the first eight bytes of digests (N, 32) as numbers in [0, 1), even over images, the same for one."""
    return np.ascontiguousarray(digests[:, :8]).view(">u8").reshape(-1).astype(np.float64) / 2.0**64
