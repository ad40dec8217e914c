"""What lies where in ``features.h5``, how it is written, and the digest of all that has no checksum of its own."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError
from pipeline.storage import hdf5
from pipeline.storage.digests import as_keys
from pipeline.storage.json_files import Document, whole

ATTRIBUTES: Final = {
    "spec": Document("the spec of features", "`hs.extract`", {}),
    "views": Document("the views of features", "`hs.extract`", {"count": whole(1)}),
}
DIGEST, FEATURES = "digest", "features"
VIEWS: Final = "views"  # an attribute, and the group of what there is of the views but the first


class Views(NamedTuple):
    """The views of some images, beside the images themselves.

    Attributes
    ----------
    described : str
        Their count, with the image itself, and their policy, as canonical JSON.
    digests : ndarray of shape (M, 32), uint8
        Of the images that have them, sorted and distinct.
    blocks : iterable of ndarray of shape (m, count - 1, *row_shape)
        The rows in the order of `digests`; the m add up to M.
    """

    described: str
    digests: NDArray[np.uint8]
    blocks: Iterable[NDArray[Any]]

    @property
    def others(self) -> int:
        """How many there are of an image, beside itself."""
        return int(json.loads(self.described)["count"]) - 1


def texts_of(spec: str, views: Views | None) -> dict[str, str]:
    """Return the attributes of a file, but for its seal."""
    return {"spec": spec} | ({VIEWS: views.described} if views else {})


def seal(
    texts: Mapping[str, str], digests: list[NDArray[np.uint8]], row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> str:
    """Return the sha256 of all that a features file says but its rows, which have checksums of their own."""
    said = json.dumps([sorted(texts.items()), *(one.shape for one in digests), row_shape, dtype.name])
    return hashlib.sha256(said.encode() + b"".join(one.tobytes() for one in digests)).hexdigest()


def fill(
    path: Path,
    texts: Mapping[str, str],
    tables: Iterable[tuple[str, NDArray[np.uint8], tuple[int, ...], Iterator[NDArray[Any]]]],
    dtype: str,
) -> list[int]:
    """Fill an empty file with tables (name, digests, shape of a row, rows); return how many rows each received."""
    received = []
    with hdf5.written(path) as (file, require_written):
        for name, text in texts.items():
            hdf5.write_text_attribute(file, name, text)
        for group, digests, row_shape, blocks in tables:
            start = 0
            hdf5.create(file, f"{group}{DIGEST}", (len(digests), 32), "uint8")[...] = digests
            features = hdf5.create(file, f"{group}{FEATURES}", (len(digests), *row_shape), dtype)
            for block in blocks:
                place, start = start, start + len(block)
                if start > len(digests):
                    break
                features[place:start] = block
                require_written()
            received.append(start)
    return received


def read_digests(file: hdf5.File, group: str, rows: int) -> NDArray[np.uint8]:
    """Read a table's digests; ArtefactError unless there are so many, sorted and distinct."""
    found = hdf5.dataset(file, f"{group}{DIGEST}")
    if found.shape != (rows, 32) or found.dtype != np.uint8:
        raise ArtefactError(f"{file.filename}: expected /{group}{DIGEST} ({rows}, 32) uint8, received {kind(found)}")
    digests: NDArray[np.uint8] = hdf5.read(found, 0, rows)
    return digests


def require_sorted(path: Path, digests: NDArray[np.uint8]) -> None:
    """Raise ArtefactError unless digests are sorted and distinct."""
    keys = as_keys(digests)
    if not (keys[:-1] < keys[1:]).all():
        raise ArtefactError(f"{path}: expected digests sorted and distinct; the file is damaged")


def kind(dataset: hdf5.Dataset) -> str:
    """Return shape and dtype, for a message."""
    return f"{dataset.shape} {dataset.dtype}"
