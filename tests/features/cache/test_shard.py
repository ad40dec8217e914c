import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ArtefactError, StorageError
from pipeline.features.cache.shard import Shard, encode, name_of

SPEC = "5" * 64


def digests_of(count: int) -> np.ndarray:
    rows = sorted(hashlib.sha256(b"%d" % number).digest() for number in range(count))
    return np.frombuffer(b"".join(rows), np.uint8).reshape(count, 32)


def written(folder: Path, count: int = 6, shape: tuple[int, ...] = (3,), dtype: str = "float16") -> Path:
    rows = np.arange(count * np.prod(shape)).reshape(count, *shape).astype(dtype)
    data = encode(SPEC, digests_of(count), rows, view="0")
    path = folder / name_of(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_what_is_written_is_read_to_the_bit(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    path = written(tmp_path, 6, shape, dtype)
    rows = np.arange(6 * int(np.prod(shape))).reshape(6, *shape).astype(dtype)
    shard = Shard.open(path)
    assert (shard.spec, shard.dtype, shard.row_shape, shard.rows) == (SPEC, dtype, shape, 6)
    np.testing.assert_array_equal(shard.digests(), digests_of(6))
    np.testing.assert_array_equal(shard.read(0, 6), rows)
    np.testing.assert_array_equal(shard.read(2, 5), rows[2:5])
    verified, read = Shard.verified(path)
    assert verified == shard
    np.testing.assert_array_equal(read, rows)
    assert read.dtype == np.dtype(dtype)


def test_the_same_rows_give_the_same_bytes_whatever_their_order_in_memory() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    one = encode(SPEC, digests_of(4), rows, view="0")
    assert encode(SPEC, digests_of(4), np.asfortranarray(rows), view="0") == one
    assert encode(SPEC, digests_of(4), rows.astype(">f4"), view="0") == one


def test_the_header_is_one_line_of_json_and_the_rest_is_aligned(tmp_path: Path) -> None:
    line, _, rest = written(tmp_path).read_bytes().partition(b"\n")
    assert (len(line) + 1) % 64 == 0
    assert json.loads(line) == {
        "digests": hashlib.sha256(digests_of(6).tobytes()).hexdigest(),
        "dtype": "float16",
        "row_shape": [3],
        "rows": 6,
        "spec": SPEC,
        "view": "0",
    }
    assert len(rest) == 6 * (32 + 3 * 2)


def test_digests_are_read_without_the_rows_and_known_to_be_right(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[Shard.open(path).start + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match="expected digests with sha256"):
        Shard.open(path).digests()


HEADER = {"digests": "d" * 64, "dtype": "float16", "row_shape": [3], "rows": 6, "spec": SPEC}


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\n",
        b"\x89HDF\r\n\x1a\n",
        b"{}\n",
        b"[]\n",
        b"[" * 4000 + b"\n",
        b"\xff\xfe\n",
        HEADER | {"rows": 2**62},
        HEADER | {"rows": -6},
        HEADER | {"rows": 6.0},
        HEADER | {"rows": True},
        HEADER | {"rows": "6"},
        HEADER | {"row_shape": [2**40, 2**40]},
        HEADER | {"row_shape": [-3]},
        HEADER | {"row_shape": [0]},
        HEADER | {"row_shape": 3},
        HEADER | {"row_shape": None},
        HEADER | {"dtype": "object"},
        HEADER | {"dtype": ["float16"]},
        HEADER | {"spec": None},
        HEADER | {"digests": 5},
        HEADER | {"view": 0},
        {name: value for name, value in HEADER.items() if name != "dtype"},
    ],
    ids=str,
)
def test_a_header_that_claims_what_is_not_there_is_refused_before_anything_is_read(tmp_path: Path, header) -> None:  # type: ignore[no-untyped-def]
    body = written(tmp_path).read_bytes().partition(b"\n")[2]
    data = (header if isinstance(header, bytes) else json.dumps(header).encode() + b"\n") + body
    path = tmp_path / name_of(data)
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match=path.name):
        Shard.open(path)
    with pytest.raises(ArtefactError, match=path.name):
        Shard.verified(path)


def test_a_file_longer_or_shorter_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    sound = path.read_bytes()
    for data in (sound[:-1], sound + b"\0"):
        path.write_bytes(data)
        with pytest.raises(ArtefactError, match="expected 484 bytes, received 48"):
            Shard.open(path)


def test_any_flipped_bit_is_noticed_by_verified(tmp_path: Path) -> None:
    path = written(tmp_path)
    sound = path.read_bytes()
    for offset in range(len(sound)):
        flipped = bytearray(sound)
        flipped[offset] ^= 1 << offset % 8
        path.write_bytes(flipped)
        with pytest.raises(ArtefactError, match="expected the bytes of its name"):
            Shard.verified(path)


def test_a_file_that_is_gone_is_told_from_one_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Shard.open(tmp_path / "gone.rows")
    (tmp_path / "folder.rows").mkdir()
    with pytest.raises(StorageError, match=r"folder\.rows: cannot be read"):
        Shard.open(tmp_path / "folder.rows")
