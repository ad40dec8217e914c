import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import BusyError, StorageError
from pipeline.features.cache import row_cache
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.cache.shard import Shard, encode, name_of
from pipeline.features.cache.shard_files import DamagedShardError
from pipeline.features.settings import default_cache

SPEC = '{"size":32}'


def digests_of(count: int) -> np.ndarray:
    rows = sorted(hashlib.sha256(b"%d" % number).digest() for number in range(count))
    return np.frombuffer(b"".join(rows), np.uint8).reshape(count, 32)


def rows_of(digests: np.ndarray, width: int = 5) -> np.ndarray:
    return digests[:, :width].astype(np.float16)


def cache_at(root: Path, spec: str = SPEC) -> RowCache:
    return RowCache(root, spec=spec, dtype="float16", view="0")


def filled(root: Path, count: int = 30, shard: int = 10) -> tuple[RowCache, np.ndarray]:
    cache, digests = cache_at(root), digests_of(count)
    for start in range(0, count, shard):
        part = digests[start : start + shard]
        cache.add(part, rows_of(part))
    return cache, digests


def read(cache: RowCache, digests: np.ndarray) -> np.ndarray:
    return np.concatenate(list(cache.blocks(cache.index(), digests)))


def test_an_empty_cache_misses_everything(tmp_path: Path) -> None:
    assert cache_at(tmp_path).index().missing(digests_of(3)).all()


def test_rows_that_were_added_are_there_and_others_are_missing(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path, 30)
    assert not cache.index().missing(digests).any()
    more = digests_of(40)
    assert np.count_nonzero(cache.index().missing(more)) == 10


def test_rows_come_back_to_the_bit_in_the_order_asked_for(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path)
    asked = digests[np.random.default_rng(0).permutation(30)]
    np.testing.assert_array_equal(read(cache, asked), rows_of(asked))


def test_blocks_and_shards_of_any_size_give_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "BLOCK_BYTES", 70)
    cache, digests = filled(tmp_path, 100, shard=3)
    np.testing.assert_array_equal(read(cache, digests), rows_of(digests))


def test_another_spec_or_view_shares_nothing(tmp_path: Path) -> None:
    _, digests = filled(tmp_path)
    assert cache_at(tmp_path, '{"size":64}').index().missing(digests).all()
    assert RowCache(tmp_path, spec=SPEC, dtype="float16", view="1").index().missing(digests).all()


def test_the_spec_can_be_read_beside_its_rows(tmp_path: Path) -> None:
    cache, _ = filled(tmp_path)
    assert (cache.folder.parent / "spec.json").read_text() == SPEC
    assert cache.folder.parent.name == hashlib.sha256(SPEC.encode()).hexdigest()


def test_the_same_rows_are_stored_once(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path, 10)
    cache.add(digests, rows_of(digests))
    assert len(list(cache.folder.glob("*.rows"))) == 1


def test_shards_scattered_over_the_digests_are_each_read_whole_once_and_no_row_is_read_a_third_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many small increments, as a growing folder leaves them: no work grows with shards times blocks."""
    cache, digests = cache_at(tmp_path), digests_of(600)
    for start in range(60):
        part = digests[start::60]
        cache.add(part, rows_of(part))
    index = cache.index()
    whole: list[Path] = []
    again = 0
    verified, read_some = Shard.verified, Shard.read

    def counted(path: Path) -> object:
        whole.append(path)
        return verified(path)

    def counted_rows(self: Shard, first: int, last: int) -> np.ndarray:
        nonlocal again
        again += last - first
        return read_some(self, first, last)

    monkeypatch.setattr(row_cache, "BLOCK_BYTES", 30 * 10)
    monkeypatch.setattr(Shard, "verified", counted)
    monkeypatch.setattr(Shard, "read", counted_rows)
    blocks = list(cache.blocks(index, digests))
    np.testing.assert_array_equal(np.concatenate(blocks), rows_of(digests))
    assert len(blocks) == 20
    assert sorted(whole) == shards(cache)
    assert again <= 600


def test_digests_are_known_without_reading_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, digests = filled(tmp_path)
    asked: list[int] = []
    read_some = Shard._read

    def counted(self: Shard, start: int, length: int) -> bytes:
        asked.append(length)
        return read_some(self, start, length)

    monkeypatch.setattr(Shard, "_read", counted)
    monkeypatch.setattr(Shard, "verified", None)
    assert not cache.index().missing(digests).any()
    assert asked == [10 * 32] * 3


def shards(cache: RowCache) -> list[Path]:
    return sorted(cache.folder.glob("*.rows"))


def test_no_flipped_bit_anywhere_in_a_shard_gives_a_wrong_row(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path, 10)
    (path,) = shards(cache)
    sound = path.read_bytes()
    for offset in range(0, len(sound), 7):
        flipped = bytearray(sound)
        flipped[offset] ^= 16
        path.write_bytes(flipped)
        fresh = cache_at(tmp_path)
        index = fresh.index()
        if not index.missing(digests).any():
            with pytest.raises(DamagedShardError):
                list(fresh.blocks(index, digests))
        assert cache_at(tmp_path).index().missing(digests).all()
        path.write_bytes(sound)


@pytest.mark.parametrize("kept", [0, 1, 500, -1])
def test_a_truncated_shard_is_set_aside_and_its_rows_are_missing_again(tmp_path: Path, kept: int) -> None:
    cache, digests = filled(tmp_path)
    path = shards(cache)[1]
    path.write_bytes(path.read_bytes()[:kept])
    index = cache.index()
    if not index.missing(digests).any():
        with pytest.raises(DamagedShardError):
            list(cache.blocks(index, digests))
        index = cache.index()
    assert np.count_nonzero(index.missing(digests)) == 10
    assert path.with_suffix(".damaged").exists()


def test_a_shard_that_vanishes_while_it_is_needed_says_so(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path)
    index = cache.index()
    shards(cache)[0].unlink()
    with pytest.raises(DamagedShardError, match="gone"):
        list(cache.blocks(index, digests))


def test_swapped_shards_are_noticed(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path, 20)
    one, two = shards(cache)
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    with pytest.raises(DamagedShardError, match="expected the bytes of its name"):
        list(cache.blocks(cache.index(), digests))


@pytest.mark.parametrize(("text", "view"), [('{"size":64}', "0"), (SPEC, "1-abc")])
def test_a_shard_of_another_spec_or_view_is_not_trusted(text: str, view: str, tmp_path: Path) -> None:
    cache, digests = cache_at(tmp_path), digests_of(10)
    other = RowCache(tmp_path, spec=text, dtype="float16", view=view)
    stray = other.add(digests, rows_of(digests))
    for look in (lambda: cache.index().missing(digests).all(), cache.verify):
        cache.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(stray, cache.folder)
        assert look()
        assert [path.name for path in cache.folder.iterdir()] == [f"{stray.stem}.damaged"]
    assert not other.index().missing(digests).any()


def test_a_shard_of_an_earlier_version_which_names_no_view_is_taken(tmp_path: Path) -> None:
    cache, digests = cache_at(tmp_path), digests_of(3)
    line, _, rest = encode(cache.identity, digests, rows_of(digests), view="0").partition(b"\n")
    header = {name: value for name, value in json.loads(line).items() if name != "view"}
    data = json.dumps(header).encode() + b"\n" + rest
    cache.folder.mkdir(parents=True)
    (cache.folder / name_of(data)).write_bytes(data)
    assert not cache.index().missing(digests).any()
    assert cache.verify() == []


def test_rows_of_another_shape_or_type_are_not_trusted(tmp_path: Path) -> None:
    cache, _ = filled(tmp_path, 10)
    more = digests_of(30)[10:]
    cache.add(more[:5], rows_of(more[:5], width=4))
    RowCache(tmp_path, spec=SPEC, dtype="float32", view="0").add(more[5:], rows_of(more[5:]))
    index = cache.index()
    assert len(index.shards) == 1
    assert len(list(cache.folder.glob("*.damaged"))) == 2


def test_a_damaged_description_is_written_again(tmp_path: Path) -> None:
    cache, _ = filled(tmp_path, 10)
    described = cache.folder.parent / "spec.json"
    described.write_bytes(b"\xff\xfe")
    more = digests_of(20)
    cache.add(more, rows_of(more))
    assert described.read_text() == SPEC


def test_a_writer_that_is_alone_removes_what_killed_ones_left(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path)
    left = cache.folder / ".0123-abcdefgh.rows"
    left.write_bytes(b"half a shard")
    with cache.writer(0.0, 0.5):
        assert not left.exists()
        left.write_bytes(b"of the writer of the first half")
        with cache.writer(0.5, 1.0):
            assert left.exists()
    np.testing.assert_array_equal(read(cache, digests), rows_of(digests))


def test_a_full_disk_publishes_nothing_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, digests = filled(tmp_path, 10)

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"view-0: cannot keep rows there: No space left on device"):
        cache.add(digests[:3], rows_of(digests[:3]))
    assert len(os.listdir(cache.folder)) == 1


def test_a_second_writer_of_the_same_rows_is_told_who_holds_them(tmp_path: Path) -> None:
    with (
        cache_at(tmp_path).writer(0.0, 1.0),
        pytest.raises(BusyError, match=rf"process {os.getpid()} on .* is computing these rows"),
        cache_at(tmp_path).writer(0.2, 0.3),
    ):
        pass


def test_writers_of_different_ranges_work_side_by_side(tmp_path: Path) -> None:
    with cache_at(tmp_path).writer(0.0, 0.5), cache_at(tmp_path).writer(0.5, 1.0):
        pass


def test_writers_of_different_specs_work_side_by_side(tmp_path: Path) -> None:
    with cache_at(tmp_path).writer(0.0, 1.0), cache_at(tmp_path, '{"size":64}').writer(0.0, 1.0):
        pass


def test_the_lock_of_a_killed_writer_does_not_outlive_it(tmp_path: Path) -> None:
    program = f"""
        import signal
        from pathlib import Path
        from pipeline.features.cache.row_cache import RowCache
        with RowCache(Path({str(tmp_path)!r}), spec={SPEC!r}, dtype="float16", view="0").writer(0.0, 1.0):
            print("held", flush=True)
            signal.pause()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid}"), cache_at(tmp_path).writer(0.0, 1.0):
            pass
        holder.send_signal(signal.SIGKILL)
    with cache_at(tmp_path).writer(0.0, 1.0):
        pass
    assert [path.name for path in (cache_at(tmp_path).folder / "locks").iterdir()] == ["mutex"]


def test_a_cache_that_cannot_be_written_says_so_and_can_still_be_read(tmp_path: Path) -> None:
    cache, digests = filled(tmp_path)
    (cache.folder / "locks").write_text("a file where the folder would be")
    with pytest.raises(StorageError, match="cannot lock the cache"), cache.writer(0.0, 1.0):
        pass
    np.testing.assert_array_equal(read(cache, digests), rows_of(digests))


def test_the_default_folder_is_the_variable_or_the_outermost_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEADSTART_CACHE", raising=False)
    inner = tmp_path / ".dvc" / "tmp" / "exps" / "tmp1"
    (inner / ".dvc").mkdir(parents=True)
    assert default_cache(inner) == tmp_path / ".headstart"
    with contextlib.chdir(tmp_path):
        assert default_cache(Path("nowhere")) == tmp_path / ".headstart"
    monkeypatch.setenv("HEADSTART_CACHE", "/a/cache")
    assert default_cache(inner) == Path("/a/cache")
