"""Each file looked at once, in worker processes: whether it can be decoded, its size, its digest."""

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError
from pipeline.photos import decode, decode_pool
from pipeline.photos.duplicates import perceptual_hash
from pipeline.photos.duplicates.perceptual_hash import Signature
from pipeline.photos.remote import Address, Root, located
from pipeline.photos.settings import PrepareSettings
from pipeline.photos.source import Candidate, Rejected
from pipeline.types import Progress

CRASHED: Final = "the decoder crashed on it"


class Inspected(NamedTuple):
    """What is learned of one image by decoding it: digest (32 bytes), upright size in px, format."""

    digest: bytes
    width: int
    height: int
    format: str


def inspect(path: str) -> Inspected | str:
    """Read and decode one file in full; return what it is, or the reason why it cannot be used."""
    seen = _seen(path)
    return seen if isinstance(seen, str) else seen[0]


def inspect_and_sign(path: str) -> tuple[Inspected, Signature] | str:
    """Do what `inspect` does, and return beside it what the picture looks like."""
    seen = _seen(path)
    return seen if isinstance(seen, str) else (seen[0], perceptual_hash.sign(seen[1]))


def sign(job: tuple[str, bytes]) -> Signature | str:
    """Return the signature of a file with this digest, or the reason why there is none."""
    path, digest = job
    try:
        data = decode.read_bytes(located(path))
        if decode.digest(data) != digest:
            return "it changed since"
        return perceptual_hash.sign(decode.decode(data)[0])
    except ImageError as error:
        return str(error)


def _seen(path: str) -> tuple[Inspected, NDArray[np.uint8]] | str:
    """Return what a file is, and its pixels; or the reason why it cannot be used."""
    try:
        data = decode.read_bytes(located(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, from a worker, without the file's name: no use to anyone
            pixels, name = decode.decode(data)
    except ImageError as error:
        return str(error)
    return Inspected(decode.digest(data), pixels.shape[1], pixels.shape[0], name), pixels


def inspected(
    root: Root, candidates: Sequence[Candidate], settings: PrepareSettings, progress: Progress
) -> tuple[list[tuple[Candidate, Inspected]], list[Signature], list[Rejected]]:
    """Decode every candidate, and tell the images, with their signatures if wanted, from what cannot be used."""
    paths = full(root, [candidate.path for candidate in candidates])
    accepted: list[tuple[Candidate, Inspected]] = []
    signatures, broken = [], []
    look: Callable[[str], Inspected | tuple[Inspected, Signature] | str] = (
        inspect_and_sign if settings.group_near_duplicates else inspect
    )
    found = decode_pool.each(look, paths, workers=settings.workers, progress=progress)
    for candidate, result in zip(candidates, found, strict=True):
        if isinstance(result, Inspected):
            accepted.append((candidate, result))
        elif isinstance(result, tuple):
            accepted.append((candidate, result[0]))
            signatures.append(result[1])
        else:
            broken.append(Rejected(candidate.path, CRASHED if result is None else result))
    return accepted, signatures, broken


def full(root: Root, paths: Iterable[str]) -> list[str]:
    """Return whole paths, which any process can open."""
    if isinstance(root, Address):
        return [str(root / path) for path in paths]
    top = os.path.abspath(root)  # noqa: PTH100 -- a worker may have been started in another folder
    return [os.path.join(top, path) for path in paths]  # noqa: PTH118 -- a million of them
