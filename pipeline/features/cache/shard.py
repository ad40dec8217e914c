"""One shard: an immutable file of rows, named by the sha256 of its bytes.

::

    {"digests":"77aa…","dtype":"float16","row_shape":[1280],"rows":256,"spec":"31b0…","view":"0"}
    digests, rows x 32 bytes
    rows, little-endian

The first line is JSON, padded to a multiple of 64 bytes; ``digests`` is the sha256 of the digests. Nothing in a shard
can point elsewhere, and its length follows from its header, so no header can claim what is not there. The digests are
read without the rows, and a few rows without the others.
"""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, StorageError
from pipeline.storage.json_files import TEXT, Document, each, maybe, one_of, whole
from pipeline.storage.regular_files import require_regular

SUFFIX: Final = ".rows"
DTYPES: Final = ("float16", "float32")
HEADER: Final = Document(
    "the header of a shard",
    "`hs.extract`",
    {
        "spec": TEXT,
        "dtype": one_of(*DTYPES),
        "digests": TEXT,
        "rows": whole(1),
        "row_shape": each(whole(1)),
        "view": maybe(TEXT),  # earlier versions did not write it
    },
)
DIGEST_BYTES: Final = 32
_ALIGNMENT: Final = 64
_LONGEST_HEADER: Final = 4096


def encode(spec: str, digests: NDArray[np.uint8], rows: NDArray[Any], *, view: str) -> bytes:
    """Return the bytes of a shard. The same rows give the same bytes.

    `spec` is its sha256, hexadecimal, `digests` are (n, 32), `rows` (n, …) in float16 or float32, `view` is the key of
    the view that they are of.
    """
    keys = digests.tobytes()
    values = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    header = {
        "digests": hashlib.sha256(keys).hexdigest(),
        "dtype": rows.dtype.name,
        "row_shape": rows.shape[1:],
        "rows": len(rows),
        "spec": spec,
        "view": view,
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    padded = -(-(len(text) + 1) // _ALIGNMENT) * _ALIGNMENT
    return b"".join((text.ljust(padded - 1).encode() + b"\n", keys, values.data.cast("B")))


def name_of(data: bytes) -> str:
    """Return the file name for a shard of these bytes."""
    return hashlib.sha256(data).hexdigest() + SUFFIX


@dataclass(frozen=True)
class Shard:
    """What the header of a shard says.

    Attributes
    ----------
    path : Path
        Its file.
    spec : str
        sha256 of the spec that made its rows.
    dtype : str
        ``float16`` or ``float32``.
    row_shape : tuple of int
        Shape of one row.
    rows : int
        How many.
    start : int
        Where the digests begin: the length of the header in bytes.
    view : str or None
        Key of the view; None where an earlier version did not say.
    """

    path: Path
    spec: str
    dtype: str
    row_shape: tuple[int, ...]
    rows: int
    digest: str
    start: int
    view: str | None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read the header of a shard.

        FileNotFoundError if it is gone; ArtefactError if it is none, or is longer or shorter than it says; StorageError
        if the disk fails, or the file may not be read.
        """
        with _reading(path) as file:
            return cls._parse(path, file)

    @classmethod
    def _parse(cls, path: Path, file: BinaryIO) -> Self:
        line = file.readline(_LONGEST_HEADER)
        length = file.seek(0, io.SEEK_END)
        said = HEADER.parse(line, path)
        shape = tuple(said["row_shape"])
        start, view = len(line), said.get("view")
        shard = cls(path, said["spec"], said["dtype"], shape, said["rows"], said["digests"], start, view)
        expected = shard.start + shard.rows * (DIGEST_BYTES + shard.row_bytes)
        if length != expected:
            raise ArtefactError(f"{path}: expected {expected:,} bytes, received {length:,}")
        return shard

    def require_of(self, spec: str, view: str) -> None:
        """Raise ArtefactError if its rows are of another spec or view, as where it was copied from elsewhere."""
        if self.spec != spec or self.view not in (None, view):
            raise ArtefactError(
                f"{self.path}: expected rows of spec {spec}, view {view}, received those of {self.spec}, {self.view}"
            )

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize

    def digests(self) -> NDArray[np.uint8]:
        """Return the digests, of shape (rows, 32); errors as for `open`."""
        keys = self._read(self.start, self.rows * DIGEST_BYTES)
        if hashlib.sha256(keys).hexdigest() != self.digest:
            raise ArtefactError(f"{self.path}: expected digests with sha256 {self.digest}, received others")
        return np.frombuffer(keys, np.uint8).reshape(self.rows, DIGEST_BYTES)

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Return rows [first, last), of shape (last - first, …), as they stand there; errors as for `open`.

        Only `verified` knows that they are sound.
        """
        start = self.start + self.rows * DIGEST_BYTES + first * self.row_bytes
        return self._as_rows(self._read(start, (last - first) * self.row_bytes), last - first)

    @classmethod
    def verified(cls, path: Path) -> tuple[Self, NDArray[Any]]:
        """Read a whole shard once: its header and its rows, known to be those that its name stands for.

        Errors as for `open`.
        """
        with _reading(path) as file:
            data = file.read()
        if name_of(data) != path.name:
            raise ArtefactError(f"{path}: expected the bytes of its name, received those of {name_of(data)}")
        shard = cls._parse(path, io.BytesIO(data))
        return shard, shard._as_rows(memoryview(data)[shard.start + shard.rows * DIGEST_BYTES :], shard.rows)

    def _read(self, start: int, length: int) -> bytes:
        with _reading(self.path) as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise ArtefactError(f"{self.path}: expected {length:,} bytes from {start:,}, received {len(data):,}")
        return data

    def _as_rows(self, data: bytes | memoryview, count: int) -> NDArray[Any]:
        return np.frombuffer(data, np.dtype(self.dtype).newbyteorder("<")).reshape(count, *self.row_shape)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        require_regular(path)
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
