import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.backbones.engines.graphs import DIGESTS_FILE, GRAPH_FILES
from pipeline.errors import BusyError, InputError, StorageError
from pipeline.features import spec
from pipeline.features.cache import inventory
from pipeline.features.cache.inventory import contents, count, explain, find, nearest, remove, verify, waste
from pipeline.features.cache.row_cache import RowCache
from pipeline.storage.digests import of_file
from tests.features.cache.test_row_cache import digests_of, rows_of

BASE = {"dtype": "float16", "size": 224, "pooling": "avg", "decoder": {"name": "pillow", "version": "12"}}


def cache_of(root: Path, **changes: object) -> RowCache:
    return RowCache(root, spec=spec.canonical(BASE | changes), dtype="float16", view="0")


def filled(root: Path, count: int = 20, **changes: object) -> RowCache:
    cache, digests = cache_of(root, **changes), digests_of(count)
    for start in range(0, count, 10):
        cache.add(digests[start : start + 10], rows_of(digests[start : start + 10]))
    return cache


def shards(cache: RowCache) -> list[Path]:
    return sorted(cache.folder.glob("*.rows"))


def no_progress(done: int, total: int) -> None:
    pass


def removed(root: Path, *unneeded: RowCache) -> list[str]:
    wasted = waste(root, {cache.identity for cache in unneeded})
    for item in wasted:
        remove(item)
    return sorted(item.what for item in wasted)


def test_an_empty_cache_holds_nothing_and_is_not_made(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    assert contents(root) == waste(root, []) == verify(root, no_progress) == []
    assert explain(root, BASE) is None
    assert not root.exists()


def test_each_spec_is_listed_with_its_rows_over_all_views_and_its_size(tmp_path: Path) -> None:
    one, other = filled(tmp_path), filled(tmp_path, 30, size=64)
    RowCache(tmp_path, spec=one.spec, dtype="float16", view="1").add(digests_of(5), rows_of(digests_of(5)))
    listed = {item.identity: item for item in contents(tmp_path)}
    assert list(listed) == sorted([one.identity, other.identity])
    mine = listed[one.identity]
    assert (mine.spec, mine.rows, mine.shards, mine.damaged, mine.writers) == (BASE, 25, 3, [], [])
    assert mine.bytes >= sum(path.stat().st_size for path in one.folder.parent.rglob("*.rows"))
    assert (listed[other.identity].rows, listed[other.identity].spec) == (30, BASE | {"size": 64})


@pytest.mark.parametrize("damage", ["missing", "other bytes"])
def test_rows_whose_description_is_lost_are_listed_and_can_be_used(tmp_path: Path, damage: str) -> None:
    cache = filled(tmp_path)
    described = cache.folder.parent / "spec.json"
    if damage == "missing":
        described.unlink()
    else:
        described.write_bytes(b"\xff{")
    (listed,) = contents(tmp_path)
    assert (listed.spec, listed.rows) == (None, 20)
    assert nearest(tmp_path, BASE | {"size": 64}) is None
    assert count(tmp_path, BASE, digests_of(20), ["0"]) == (20, 20)


def test_listing_shows_damage_and_changes_nothing(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    one, two = shards(cache)
    one.write_bytes(b"no shard")
    two.rename(two.with_suffix(".damaged"))
    before = sorted(tmp_path.rglob("*"))
    (listed,) = contents(tmp_path)
    assert (listed.rows, sorted(listed.damaged)) == (0, sorted([one, two.with_suffix(".damaged")]))
    assert sorted(tmp_path.rglob("*")) == before


def test_writers_at_work_are_listed(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    with cache.writer(0.0, 0.5):
        (listed,) = contents(tmp_path)
        assert [(writer.low, writer.high) for writer in listed.writers] == [(0.0, 0.5)]
    assert contents(tmp_path)[0].writers == []


def test_a_spec_is_found_by_its_first_digits(tmp_path: Path) -> None:
    one, other = filled(tmp_path), filled(tmp_path, size=64)
    held = contents(tmp_path)
    assert find(held, one.identity[:6].upper()).identity == one.identity
    for digits in ("", "not one"):
        with pytest.raises(InputError, match=rf"\({held[0].short}, {held[1].short}\), received '{digits}'"):
            find(held, digits)
    with pytest.raises(InputError, match="none, the cache is empty"):
        find([], other.identity)


def test_verify_reads_every_shard_finds_every_flipped_one_and_sets_it_aside(tmp_path: Path) -> None:
    one, other = filled(tmp_path), filled(tmp_path, 30, size=64)
    flipped = [shards(one)[1], shards(other)[0]]
    for path in flipped:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    seen: list[tuple[int, int]] = []
    assert sorted(verify(tmp_path, lambda done, total: seen.append((done, total)))) == sorted(flipped)
    assert seen == [(done, 5) for done in range(1, 6)]
    assert all(path.with_suffix(".damaged").exists() and not path.exists() for path in flipped)
    assert verify(tmp_path, no_progress) == []
    assert count(tmp_path, BASE, digests_of(20), ["0"]) == (10, 20)


def test_verify_finds_a_shard_that_lies_under_another_spec(tmp_path: Path) -> None:
    one, other = filled(tmp_path, 10), filled(tmp_path, 10, size=64)
    stray = one.folder / shards(other)[0].name
    shutil.copy(shards(other)[0], stray)
    assert verify(tmp_path, no_progress) == [stray]


def test_verify_and_listing_leave_the_files_of_a_writer_at_work_alone(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    with cache.writer(0.0, 1.0):
        half = cache.folder / ".0123-abcdefgh.rows"
        half.write_bytes(b"half a sh")
        assert verify(tmp_path, no_progress) == []
        assert waste(tmp_path, []) == []
        assert half.exists()


def test_pruning_removes_damaged_files_and_what_killed_processes_left_and_no_row(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (cache.folder / "0123.damaged").write_bytes(b"12345")
    with cache.writer(0.0, 0.5):
        pass
    (cache.folder / ".0123-abcdefgh.rows").write_bytes(b"half")
    (cache.folder.parent / ".spec-abcdefgh.json").write_bytes(b"half")
    (cache.folder / "locks" / "0123.json").write_bytes(b"{}")
    (tmp_path / "rows" / ".removed-0123").mkdir()
    assert {(item.path.name, item.bytes) for item in waste(tmp_path, []) if item.what == "damaged"} == {
        ("0123.damaged", 5)
    }
    assert removed(tmp_path) == ["damaged", "half removed", *["left by a killed process"] * 3]
    assert waste(tmp_path, []) == []
    assert count(tmp_path, BASE, digests_of(20), ["0"]) == (20, 20)
    assert [path.name for path in cache.folder.parent.iterdir() if path.is_file()] == ["spec.json"]


def test_pruning_a_spec_removes_it_as_a_whole_and_no_other(tmp_path: Path) -> None:
    one, other = filled(tmp_path), filled(tmp_path, 30, size=64)
    size = next(item.bytes for item in contents(tmp_path) if item.identity == one.identity)
    (item,) = waste(tmp_path, {one.identity})
    assert item == (one.folder.parent, size, "20 rows")
    remove(item)
    assert [path.name for path in (tmp_path / "rows").iterdir()] == [other.identity]
    assert count(tmp_path, BASE, digests_of(20), ["0"]) == (0, 20)
    one.add(digests_of(20), rows_of(digests_of(20)))
    assert count(tmp_path, BASE, digests_of(20), ["0"]) == (20, 20)


def test_pruning_spares_a_spec_while_a_writer_is_at_work_on_it(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (early,) = waste(tmp_path, {cache.identity})
    with cache.writer(0.0, 0.1):
        assert waste(tmp_path, {cache.identity}) == []
        with pytest.raises(BusyError, match="is adding rows; nothing was removed"):
            remove(early)
    assert count(tmp_path, BASE, digests_of(20), ["0"]) == (20, 20)


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (cache.folder / "0123.damaged").write_bytes(b"")
    once = waste(tmp_path, []) + waste(tmp_path, {cache.identity})
    for item in once + once:
        remove(item)
    assert contents(tmp_path) == []


def test_what_cannot_be_removed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = filled(tmp_path)
    (item,) = waste(tmp_path, {cache.identity})

    def read_only(self: Path, target: Path) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "rename", read_only)
    with pytest.raises(StorageError, match=f"{cache.identity}: cannot be removed: Read-only file system"):
        remove(item)
    assert count(tmp_path, BASE, digests_of(20), ["0"]) == (20, 20)


def test_rows_are_counted_once_a_digest(tmp_path: Path) -> None:
    filled(tmp_path)
    asked = digests_of(30)
    assert count(tmp_path, BASE, np.concatenate([asked, asked[:5]]), ["0"]) == (20, 30)


def test_rows_are_counted_for_each_view(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    RowCache(tmp_path, spec=cache.spec, dtype="float16", view="1-abc").add(digests_of(5), rows_of(digests_of(5)))
    assert count(tmp_path, BASE, digests_of(20), ["0", "1-abc", "2-abc"]) == (25, 60)


def test_a_miss_names_each_field_that_differs_from_the_nearest_spec(tmp_path: Path) -> None:
    far = filled(tmp_path, 30, size=64, pooling="max")
    near = filled(tmp_path, 20, size=160)
    asked = BASE | {"decoder": {"name": "pillow", "version": "13"}}
    found = nearest(tmp_path, asked)
    assert found is not None
    assert found.cached.identity == near.identity
    assert found.fields == [("decoder.version", "12", "13"), ("size", 160, 224)]
    assert explain(tmp_path, asked) == (
        f"nearest cached spec {near.identity[:8]} (20 rows) differs in "
        "decoder.version: cached 12, asked 13; size: cached 160, asked 224"
    )
    asked["size"], asked["pooling"] = 64, "max"
    found = nearest(tmp_path, asked)
    assert found is not None
    assert found.cached.identity == far.identity


def test_of_specs_as_near_the_one_with_most_rows_is_named_and_the_one_asked_for_never(tmp_path: Path) -> None:
    filled(tmp_path, 10, size=160)
    most = filled(tmp_path, 20, size=192)
    filled(tmp_path, 30)
    found = nearest(tmp_path, BASE)
    assert found is not None
    assert found.cached.identity == most.identity


def test_only_rows_of_the_photos_at_hand_make_a_spec_near(tmp_path: Path) -> None:
    near, far = filled(tmp_path, 30, size=160), filled(tmp_path, 10, size=192, pooling="max")
    identities = [cache.folder.parent.name for cache in (near, far)]
    found = nearest(tmp_path, BASE, digests_of(10))
    assert found is not None
    assert (found.cached.identity, found.rows) == (identities[0], 10)
    new = 255 - digests_of(20)  # of photos that were never seen
    assert explain(tmp_path, BASE, new) is None
    far.add(new[:5], rows_of(new[:5]))
    found = nearest(tmp_path, BASE, new)
    assert found is not None
    assert (found.cached.identity, found.rows) == (identities[1], 5)


def test_a_field_that_only_one_of_the_two_has_and_a_long_digest_are_shown_readably(tmp_path: Path) -> None:
    filled(tmp_path, weights={"sha256": "5" * 64})
    explained = explain(tmp_path, BASE | {"weights": {"seed": 0}})
    assert explained is not None
    assert explained.endswith("weights.seed: cached none, asked 0; weights.sha256: cached 55555555…, asked none")


def test_the_description_is_what_its_sha256_says(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    (cache.folder.parent / "spec.json").write_text(json.dumps(BASE | {"size": 1}))
    assert inventory.contents(tmp_path)[0].spec is None


def kept_graph(root: Path, name: str) -> Path:
    """What stands for a graph in a cache: OpenVINO is not asked when it is verified."""
    folder = root / "graphs" / name / "openvino-1.2.3"
    folder.mkdir(parents=True)
    for file in GRAPH_FILES:
        (folder / file).write_text(f"{file} of {name}")
    found = {file: of_file(folder / file) for file in GRAPH_FILES}
    (folder / DIGESTS_FILE).write_text(json.dumps(found | {"made_for": f"{name}/{folder.name}"}))
    return folder


def test_verify_finds_a_kept_graph_that_is_damaged_or_was_made_for_another_spec(tmp_path: Path) -> None:
    sound, copied, flipped, older = (kept_graph(tmp_path, name) for name in ("a", "b", "c", "d"))
    shutil.rmtree(copied)
    shutil.copytree(sound, copied)
    (flipped / "model.bin").write_text("model.bin of C")
    document = json.loads((older / DIGESTS_FILE).read_text())
    (older / DIGESTS_FILE).write_text(json.dumps({name: document[name] for name in GRAPH_FILES}))
    assert verify(tmp_path, no_progress) == [copied, flipped]
    assert verify(tmp_path, no_progress) == []
    assert sound.exists()
    assert older.exists()  # sound by its digests; whoever wants it makes it anew
    found = waste(tmp_path, [])
    assert [item.path for item in found] == [path.with_name(f"{path.name}.damaged") for path in (copied, flipped)]
    for item in found:
        remove(item)
    assert waste(tmp_path, []) == []
