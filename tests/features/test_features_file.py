import hashlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import ArtefactError
from pipeline.features import features_file
from pipeline.features.features_file import Features
from pipeline.features.file_layout import Views
from pipeline.storage import hdf5
from tests.fakes import write_views

SPEC = '{"size":32}'


def digests_of(count: int) -> np.ndarray:
    rows = sorted(hashlib.sha256(b"%d" % number).digest() for number in range(count))
    return np.frombuffer(b"".join(rows), np.uint8).reshape(count, 32)


def rows_of(count: int, shape: tuple[int, ...] = (5,), dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(dtype)


def write(path: Path, digests: np.ndarray, rows: np.ndarray, block: int = 7) -> Path:
    blocks = (rows[start : start + block] for start in range(0, len(rows), block))
    features_file.write(
        path, spec=SPEC, digests=digests, row_shape=rows.shape[1:], dtype=str(rows.dtype), blocks=blocks
    )
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (70_000,)])
def test_rows_come_back_by_digest_to_the_bit(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    digests, rows = digests_of(23), rows_of(23, shape, dtype)
    order = np.random.default_rng(1).permutation(23)[:9]
    with Features(write(tmp_path / "f.h5", digests, rows)) as read:
        np.testing.assert_array_equal(read.gather(digests[order]), rows[order].astype(np.float32))
        np.testing.assert_array_equal(read.read(0, 23), rows)
        assert (len(read), read.row_shape, read.dtype, read.spec) == (23, shape, np.dtype(dtype), {"size": 32})


def views_of(path: Path, count: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write 23 images in so many views, those of every other one kept; return digests, rows and which have views."""
    digests, rows, of = digests_of(23), rows_of(23, (count, 5)), np.arange(0, 23, 2)
    write_views(path, digests, rows, spec=SPEC, described={"policy": {}}, of=of)
    return digests, rows, of


def test_views_stand_beside_the_images_and_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_file, "READ_BYTES", 2 * 5 * 2)
    digests, rows, of = views_of(tmp_path / "f.h5")
    order = of[[3, 0, 7]]
    with Features(tmp_path / "f.h5") as read:
        np.testing.assert_array_equal(read.gather_views(digests[order]), rows[order].astype(np.float32))
        np.testing.assert_array_equal(read.gather(digests), rows[:, 0].astype(np.float32))
        np.testing.assert_array_equal(read.varied, digests[of])
        assert (read.count, read.row_shape, len(read)) == (3, (5,), 23)
        with pytest.raises(ArtefactError, match=r"1 of 2 images have no views; run .* `hs\.extract\(tta=True\)`"):
            read.gather_views(digests[:2])


def test_views_are_the_same_bytes_and_without_them_the_file_is_as_before(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("1.h5", "2.h5")]
    for path in paths:
        views_of(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with h5py.File(paths[0]) as file:
        assert sorted(file) == ["digest", "features", "views"]


def test_views_as_an_earlier_version_kept_them_are_refused_with_the_step_that_makes_them_again(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", digests_of(4), rows_of(4, (3, 5)))
    with h5py.File(path, "r+") as file:
        file.attrs.create("views", b'{"count":3}', dtype=h5py.string_dtype("utf-8", 11))
    with pytest.raises(ArtefactError, match=r"as an earlier version left them; run `hs\.extract` again"):
        Features(path)


def test_no_bit_of_the_views_can_flip_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    digests, rows, of = views_of(path)
    data = path.read_bytes()
    for part in (rows[of][:, 1:].tobytes(), digests[of].tobytes()):
        start = data.index(part)
        for offset in range(0, len(part), 61):
            flipped = bytearray(data)
            flipped[start + offset] ^= 4
            path.write_bytes(flipped)
            with pytest.raises(ArtefactError), Features(path) as read:
                read.verify()


@pytest.mark.parametrize("kind", ["group is a link", "images that are not there", "unsorted", "other rows"])
def test_hostile_views_are_refused_when_the_file_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f.h5"
    digests, rows = digests_of(4), rows_of(4, (3, 5))
    if kind == "images that are not there":
        digests = digests_of(5)[:4]
        views = Views('{"count":3}', digests_of(5), [rows_of(5, (2, 5))])
        with pytest.raises(ArtefactError, match="have no row"):
            features_file.write(
                path, spec=SPEC, digests=digests, row_shape=(5,), dtype="float16", blocks=[rows[:, 0]], views=views
            )
        return
    if kind == "unsorted":
        with pytest.raises(ArtefactError, match="sorted and distinct"):
            write_views(path, digests, rows, spec=SPEC, described={}, of=[1, 0])
        return
    write_views(path, digests, rows, spec=SPEC, described={})
    with h5py.File(path, "r+") as file:
        if kind == "group is a link":
            file.move("views", "elsewhere")
            file["views"] = h5py.SoftLink("/elsewhere")
        else:
            del file["views/features"]
            file["views/features"] = rows_of(4, (1, 5))
    with pytest.raises(ArtefactError, match=r"f\.h5: expected"):
        Features(path)


def test_a_digest_may_be_asked_for_twice(tmp_path: Path) -> None:
    digests, rows = digests_of(4), rows_of(4)
    with Features(write(tmp_path / "f.h5", digests, rows)) as read:
        np.testing.assert_array_equal(read.gather(digests[[2, 0, 2]]), rows[[2, 0, 2]].astype(np.float32))


def test_the_same_rows_give_the_same_bytes_however_they_arrive(tmp_path: Path) -> None:
    digests, rows = digests_of(300), rows_of(300)
    one, two = write(tmp_path / "1.h5", digests, rows, 7), write(tmp_path / "2.h5", digests, rows, 300)
    assert one.read_bytes() == two.read_bytes()


def test_many_blocks_are_gathered_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_file, "READ_BYTES", 10 * 5 * 2)
    stored = hdf5.read
    digests, rows = digests_of(1000), rows_of(1000)
    path = write(tmp_path / "f.h5", digests, rows)
    with Features(path) as read:
        reads = []
        monkeypatch.setattr(hdf5, "read", lambda *block: reads.append(block) or stored(*block))
        np.testing.assert_array_equal(read.gather(digests[::-3]), rows[::-3].astype(np.float32))
    assert len(reads) > 1


def test_a_missing_row_says_how_many_and_what_to_do(tmp_path: Path) -> None:
    digests, rows = digests_of(10), rows_of(10)
    with (
        Features(write(tmp_path / "f.h5", digests[1:], rows[1:])) as read,
        pytest.raises(ArtefactError, match=r"1 of 10 images of the manifest have no row.*`hs.extract`"),
    ):
        read.gather(digests)


def test_too_few_rows_publish_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with pytest.raises(ArtefactError, match="expected 10 rows to write, received 9"):
        write(path, digests_of(10), rows_of(9))
    assert list(tmp_path.iterdir()) == []


def test_too_many_rows_publish_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with pytest.raises(ArtefactError, match=r"f\.h5: expected 10 rows to write, received 14"):
        write(path, digests_of(10), rows_of(23))
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_rows_are_produced_comes_out_and_publishes_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield rows_of(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        features_file.write(
            tmp_path / "f.h5", spec=SPEC, digests=digests_of(10), row_shape=(5,), dtype="float16", blocks=failing()
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", digests_of(3), rows_of(3))
    before = path.read_bytes()
    with pytest.raises(ArtefactError):
        write(path, digests_of(10), rows_of(9))
    assert path.read_bytes() == before


def test_no_bit_of_the_rows_can_flip_unnoticed(tmp_path: Path) -> None:
    rows = rows_of(40)
    path = write(tmp_path / "f.h5", digests_of(40), rows)
    data = bytearray(path.read_bytes())
    start = bytes(data).index(rows[:3].tobytes())
    for offset in range(0, rows.nbytes, 37):
        flipped = bytearray(data)
        flipped[start + offset] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(ArtefactError, match="damaged"), Features(path) as read:
            read.verify()


@pytest.mark.parametrize("kept", [0, 100, 2000, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "f.h5", digests_of(40), rows_of(40))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ArtefactError, match=r"f\.h5"), Features(path) as read:
        read.verify()


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="expected a file of features, found none"):
        Features(tmp_path / "f.h5")


def hostile(path: Path, kind: str) -> None:
    secret = path.parent / "secret.bin"
    secret.write_bytes(b"\0" * 4096)
    with h5py.File(path.parent / "other.h5", "w") as other:
        other["features"] = rows_of(4)
    with h5py.File(path, "w") as file:
        file.attrs["spec"] = SPEC
        file["digest"] = digests_of(4)
        if kind == "external link":
            file["features"] = h5py.ExternalLink("other.h5", "/features")
        elif kind == "soft link":
            file["elsewhere"] = rows_of(4)
            file["features"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4, 5), "f2")
            layout[:] = h5py.VirtualSource("other.h5", "features", (4, 5))
            file.create_virtual_dataset("features", layout)
        elif kind == "external storage":
            file.create_dataset("features", (4, 5), "f4", external=[(str(secret), 0, 80)])
        elif kind == "absurd shape":
            file.create_dataset("features", (4, 2**40), "f4", chunks=(1, 1024))
        elif kind == "missing":
            pass
        elif kind == "group":
            file.create_group("features")
        elif kind == "compressed":
            file.create_dataset("features", data=np.zeros((4, 5), "f4"), compression="gzip")
        elif kind == "integers":
            file["features"] = np.zeros((4, 5), int)
        elif kind == "too many rows":
            file["features"] = rows_of(5)


@pytest.mark.parametrize(
    "kind",
    [
        "external link",
        "soft link",
        "virtual",
        "external storage",
        "absurd shape",
        "missing",
        "group",
        "compressed",
        "integers",
        "too many rows",
    ],
)
def test_a_hostile_file_is_refused_when_it_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "f.h5"
    hostile(path, kind)
    with pytest.raises(ArtefactError, match=r"f\.h5"):
        Features(path)


def test_unsorted_digests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="sorted and distinct"):
        write(tmp_path / "f.h5", digests_of(4)[::-1], rows_of(4))
