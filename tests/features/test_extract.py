import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.backbones.engines.engine import version_of
from pipeline.errors import BusyError, InputError, StorageError
from pipeline.features import extract, features_file, spec
from pipeline.features.cache import row_cache
from pipeline.features.extract import By
from pipeline.features.features_file import Features
from pipeline.photos import augmentation, batches, decode, manifest
from pipeline.photos.manifest import Manifest
from pipeline.photos.settings import Policy
from tests import ROOT
from tests.fakes import NO_POLICY, CountingEngine, plan, quadrant_means, settings, write_photo

SIZE = 32


class Project:
    """A folder of photos with its manifest, its cache and its features; `run` extracts with an engine that counts."""

    def __init__(self, root: Path, count: int) -> None:
        self.root = root / "photos"
        self.manifest, self.features, self.report = root / "manifest.csv", root / "features.h5", root / "report.json"
        self.cache = root / "cache"
        for number in range(count):
            write_photo(self.root / f"{number:03}.png", number)
        self.prepare()

    def prepare(self, label: str = "a", split: tuple[str, ...] = ("train",)) -> None:
        paths = sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*.png"))
        digests = [hashlib.sha256((self.root / path).read_bytes()).digest() for path in paths]
        count = len(paths)
        table = Manifest(
            paths=paths,
            digests=np.frombuffer(b"".join(digests), np.uint8).reshape(count, 32),
            labels=[label] * count,
            splits=[split[place % len(split)] for place in range(count)],
            widths=np.full(count, 40, np.int32),
            heights=np.full(count, 30, np.int32),
            formats=["PNG"] * count,
        )
        manifest.write(table, self.manifest)

    def run(
        self,
        engine: CountingEngine | None = None,
        batch_size: int = 4,
        views: int = 1,
        policy: Policy = NO_POLICY,
        **changes: object,
    ) -> extract.ExtractResult:
        self.engine = engine or CountingEngine()
        return extract.extract(
            self.root,
            self.manifest,
            self.features,
            settings(
                **{"size": SIZE, "views": views, "policy": policy, "cache": self.cache, "batch_size": batch_size}
                | changes
            ),
            progress=lambda done, total: None,
            report_path=self.report,
            by=By(open_engine=lambda _: self.engine),
        )

    def expected(self) -> dict[bytes, np.ndarray]:
        found = {}
        for path in self.root.rglob("*.png"):
            data = path.read_bytes()
            pixels = decode.fit(data, size=SIZE, geometry="squash")
            found[hashlib.sha256(data).digest()] = quadrant_means(pixels[None])[0]
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, 11)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_row_is_the_feature_of_its_own_image(project: Project) -> None:
    project.run(dtype="float32")
    expected = project.expected()
    with Features(project.features) as read:
        rows = read.gather(read.digests)
        assert [digest.tobytes() for digest in read.digests] == sorted(expected)
        for digest, row in zip(read.digests, rows, strict=True):
            np.testing.assert_array_equal(row, expected[digest.tobytes()])


def test_the_features_carry_their_spec(project: Project) -> None:
    project.run()
    with Features(project.features) as read:
        assert read.spec == plan(size=SIZE).spec
        assert read.dtype == np.float16


def test_the_report_says_what_was_done(project: Project) -> None:
    report = project.run()
    assert (report.images, report.distinct, report.computed, report.reused, report.quarantined) == (11, 11, 11, 0, 0)
    assert report.images_per_second > 0
    assert (report.engine, report.precision) == (f"tensorflow {version_of('tensorflow')}", "float32")
    found = json.loads(project.report.read_text())
    assert found == asdict(report) | {"sha256": found["sha256"]}


def test_a_second_run_forwards_nothing_opens_no_engine_and_gives_the_same_bytes(project: Project) -> None:
    project.run()
    before = sha256(project.features)
    report = project.run()
    assert (report.computed, report.reused, report.engine) == (0, 11, "")
    assert project.engine.images == 0
    assert sha256(project.features) == before


def test_ten_new_photos_cost_ten(project: Project) -> None:
    project.run()
    for number in range(100, 110):
        write_photo(project.root / f"{number}.png", number)
    project.prepare()
    assert project.run().computed == project.engine.images == 10
    assert len(project.expected()) == 21


def test_a_rename_a_relabel_and_a_resplit_cost_nothing_and_leave_the_bytes_alone(project: Project) -> None:
    project.run()
    before = sha256(project.features)
    (project.root / "003.png").rename(project.root / "renamed.png")
    project.prepare(label="b", split=("test",))
    assert project.run().computed == 0
    assert sha256(project.features) == before


def test_one_edited_file_costs_one(project: Project) -> None:
    project.run()
    write_photo(project.root / "003.png", 999)
    project.prepare()
    assert project.run().computed == 1


def test_one_field_of_the_spec_costs_all_and_back_again_nothing(project: Project) -> None:
    project.run()
    before = sha256(project.features)
    assert project.run(pooling="max").computed == 11
    assert project.run().computed == 0
    assert sha256(project.features) == before


def test_identical_files_are_forwarded_once(project: Project) -> None:
    (project.root / "copy.png").write_bytes((project.root / "001.png").read_bytes())
    project.prepare()
    report = project.run()
    assert (report.images, report.distinct, report.computed) == (12, 11, 11)


@pytest.mark.parametrize("batch_size", [1, 3, 11, 64])
def test_the_batch_size_changes_no_byte(project: Project, tmp_path: Path, batch_size: int) -> None:
    project.run()
    before = sha256(project.features)
    project.cache = tmp_path / "another cache"
    project.run(batch_size=batch_size)
    assert max(project.engine.batches) <= batch_size
    assert sha256(project.features) == before


def test_the_shard_size_changes_no_byte(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run()
    before = sha256(project.features)
    project.cache = tmp_path / "another cache"
    monkeypatch.setattr(row_cache, "SHARD_ROWS", 2)
    project.run(batch_size=2)
    assert len(list(project.cache.rglob("*.rows"))) == 6
    assert sha256(project.features) == before


def test_an_image_that_changed_since_prepare_is_named_and_all_others_are_stored(project: Project) -> None:
    write_photo(project.root / "003.png", 999)
    with pytest.raises(
        InputError,
        match=r"1 images could not be read: 003.png \(it changed since the manifest was made",
    ):
        project.run()
    assert not project.features.exists()
    assert json.loads(project.report.read_text())["quarantined"] == 1
    project.prepare()
    assert project.run().computed == 1


def test_an_image_that_disappeared_is_named_and_all_others_are_stored(project: Project) -> None:
    (project.root / "003.png").unlink()
    with pytest.raises(InputError, match=r"003.png \(file not found\)"):
        project.run()
    project.prepare()
    assert project.run().computed == 0


@pytest.mark.parametrize(("another", "found"), [(False, "found none"), (True, "none of them is there")])
def test_a_folder_without_the_images_is_one_error_and_not_one_for_each_image(
    project: Project, another: bool, found: str
) -> None:
    project.root.rename(project.root.with_name("elsewhere"))
    if another:
        project.root.mkdir()
    with pytest.raises(
        InputError, match=rf"^{project.root}: expected the folder of images to which .* refers, {found}"
    ):
        project.run()


def test_many_failures_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    project = Project(tmp_path, 16)
    for path in sorted(project.root.iterdir())[1:]:
        path.unlink()
    with pytest.raises(InputError, match=r"15 images could not be read: .*; and 5 more"):
        project.run()


def test_a_disk_that_starts_to_fail_stops_the_run_and_keeps_what_was_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path, 20)
    sound = decode.read_bytes
    count = iter(range(10**6))

    def failing(path: Path) -> bytes:
        if next(count) >= 16:
            raise StorageError(f"{path}: the disk fails: Input/output error")
        return sound(path)

    monkeypatch.setattr(decode, "read_bytes", failing)
    monkeypatch.setattr(row_cache, "SHARD_ROWS", 2)
    monkeypatch.setattr(batches, "BATCHES_AHEAD", 1)
    with pytest.raises(StorageError, match="the disk fails"):
        project.run(batch_size=2)
    monkeypatch.setattr(decode, "read_bytes", sound)
    assert 4 <= project.run().computed <= 10


def test_a_full_disk_is_an_error_that_names_the_cache_and_keeps_what_was_stored(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Path.write_bytes
    count = iter(range(10**6))

    def full(self: Path, data: bytes) -> int:
        if next(count) >= 2:
            sound(self, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return sound(self, data)

    monkeypatch.setattr(row_cache, "SHARD_ROWS", 2)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="cannot keep rows there: No space left on device"):
        project.run(batch_size=2)
    assert not project.features.exists()
    monkeypatch.setattr(Path, "write_bytes", sound)
    assert project.run().computed == 7


def test_a_full_disk_while_assembling_leaves_the_old_features(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run()
    before = sha256(project.features)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features_file, "write", full)
    with pytest.raises(StorageError, match=r"features\.h5: cannot be written: No space left on device"):
        project.run(pooling="max")
    assert sha256(project.features) == before


def test_features_that_are_there_already_are_left_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run()
    before = project.features.stat().st_ino
    project.run()
    assert project.features.stat().st_ino == before
    project.run(views=2, policy=replace(NO_POLICY, flip="both"))
    assert project.features.stat().st_ino != before


def test_features_with_a_flipped_bit_are_assembled_anew(project: Project) -> None:
    project.run()
    before = sha256(project.features)
    data = bytearray(project.features.read_bytes())
    with h5py.File(project.features) as file:
        data[file["features"].id.get_chunk_info(0).byte_offset] ^= 1
    project.features.write_bytes(data)
    assert project.run().computed == 0
    assert sha256(project.features) == before


def shards(project: Project) -> list[Path]:
    return sorted(project.cache.rglob("[0-9a-f]*.rows"))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "swapped"])
def test_a_damaged_shard_is_computed_again_and_the_bytes_are_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(row_cache, "SHARD_ROWS", 4)
    project.run()
    before = sha256(project.features)
    one, two, _ = shards(project)
    sound = one.read_bytes()
    if damage == "flipped":
        one.write_bytes(sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:])
    elif damage == "truncated":
        one.write_bytes(sound[:-100])
    elif damage == "missing":
        one.unlink()
    else:
        one.write_bytes(two.read_bytes())
        two.write_bytes(sound)
    project.features.unlink()
    report = project.run()
    assert 3 <= report.computed <= (8 if damage == "swapped" else 4)
    assert sha256(project.features) == before


def test_a_second_run_at_the_same_time_is_told_who_is_at_work(project: Project) -> None:
    described = plan(size=SIZE)
    rows = row_cache.RowCache(project.cache, spec=spec.canonical(described.spec), dtype="float16", view="0")
    with rows.writer(0.0, 1.0), pytest.raises(BusyError, match=f"process {os.getpid()}"):
        project.run()
    assert project.run().computed == 11


def test_a_cache_that_cannot_be_written_still_serves_a_run_that_needs_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.run()
    locks = next(project.cache.rglob("locks"))
    for path in locks.iterdir():
        path.unlink()
    locks.rmdir()
    locks.write_text("no folder can be made here")
    assert project.run().computed == 0
    write_photo(project.root / "new.png", 500)
    project.prepare()
    with pytest.raises(StorageError, match="cannot lock the cache"):
        project.run()


class Overflowing(CountingEngine):
    def run(self, batches):  # type: ignore[no-untyped-def]
        for rows in super().run(batches):
            yield rows + self.extra

    extra = 1e5


def test_a_feature_too_large_for_float16_is_an_error_that_names_the_option(project: Project) -> None:
    with pytest.raises(InputError, match=r"`dtype`: a feature of 1\.00.*does not fit float16.*`dtype='float32'`"):
        project.run(engine=Overflowing())
    assert project.run(engine=Overflowing(), dtype="float32").computed == 11


class Scaled(CountingEngine):
    """Features of the images, or of the first place alone, times a factor."""

    def __init__(self, factor: float, *, places: int = 12) -> None:
        super().__init__()
        self.factor, self.places = factor, places

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for rows in super().run(batches):
            yield np.float32(self.factor) * (rows if self.places else np.ones_like(rows) * rows[:, :1])


def test_features_that_the_storage_would_make_zero_are_an_error_that_names_a_dtype(project: Project) -> None:
    with pytest.raises(InputError, match=r"`dtype`: the features .* float16 cannot tell from 0 .*`dtype=float32`"):
        project.run(engine=Scaled(1e-8))
    assert project.run(engine=Scaled(1e-8), dtype="float32").computed == 11


def test_features_that_do_not_vary_are_said_with_the_extraction(project: Project) -> None:
    (random, same) = project.run(engine=Scaled(0.0), dtype="float32").warnings
    assert (random, "of 11 images are all the same" in same) == (spec.RANDOM, True)
    assert "differ along one line only" in project.run(engine=Scaled(1.0, places=0), size=SIZE * 2).warnings[1]
    assert project.run(size=SIZE * 4).warnings == [spec.RANDOM]
    assert json.loads(project.report.read_text())["warnings"] == [spec.RANDOM]


def test_a_feature_that_is_no_number_is_an_error(project: Project) -> None:
    engine = Overflowing()
    engine.extra = float("nan")
    with pytest.raises(InputError, match="no number"):
        project.run(engine=engine, dtype="float32")


def test_progress_ends_at_the_whole(project: Project) -> None:
    seen: list[tuple[int, int]] = []
    extract.extract(
        project.root,
        project.manifest,
        project.features,
        settings(size=SIZE, cache=project.cache, batch_size=4),
        progress=lambda done, total: seen.append((done, total)),
        by=By(open_engine=lambda _: CountingEngine()),
    )
    assert seen == [(4, 11), (8, 11), (11, 11)]


FLIPS = Policy(flip="both", rotation=0.1, zoom=0.0, shift=0.1, brightness=0.0, contrast=0.0)


def test_each_view_is_the_feature_of_that_view_of_its_own_image(project: Project) -> None:
    project.run(views=3, policy=FLIPS, dtype="float32")
    with Features(project.features) as read:
        rows = read.gather_views(read.digests)
        assert rows.shape == (11, 3, 12)
        np.testing.assert_array_equal(read.gather(read.digests), rows[:, 0])
        assert read.views == {"count": 3, "policy": FLIPS.__dict__}
        for path in project.root.iterdir():
            data = path.read_bytes()
            digest = hashlib.sha256(data).digest()
            pixels = decode.fit(data, size=SIZE, geometry="squash")
            place = [one.tobytes() for one in read.digests].index(digest)
            for view in range(3):
                expected = quadrant_means(augmentation.apply(pixels, digest=digest, view=view, policy=FLIPS)[None])[0]
                np.testing.assert_array_equal(rows[place, view], expected)


def test_going_from_three_views_to_five_computes_two(project: Project) -> None:
    assert project.run(views=3, policy=FLIPS).computed == 33
    report = project.run(views=5, policy=FLIPS)
    assert (report.views, report.computed, report.reused) == (5, 22, 33)
    assert project.run(views=2, policy=FLIPS).computed == 0


def test_views_are_of_the_images_to_learn_from_and_a_new_split_costs_those_that_moved(project: Project) -> None:
    project.prepare(split=("train", "test"))  # 6 and 5
    report = project.run(views=3, policy=FLIPS)
    assert (report.views, report.computed, report.reused) == (3, 11 + 2 * 6, 0)
    assert learned(project) == [0, 2, 4, 6, 8, 10]
    project.prepare(split=("train", "train", "test"))  # of which 1, 3, 7 and 9 are new
    assert (project.run(views=3, policy=FLIPS).computed, learned(project)) == (8, [0, 1, 3, 4, 6, 7, 9, 10])
    before = sha256(project.features)
    report = project.run(views=3, policy=FLIPS, tta=True)
    assert (report.computed, report.reused, len(learned(project))) == (2, 31, 11)
    project.run(views=3, policy=FLIPS)
    assert sha256(project.features) == before


def learned(project: Project) -> list[int]:
    """The numbers of the photos that have all views."""
    with Features(project.features) as read:
        varied = {digest.tobytes() for digest in read.varied}
    paths = sorted(project.root.glob("*.png"))
    return [place for place, path in enumerate(paths) if hashlib.sha256(path.read_bytes()).digest() in varied]


def test_where_validation_images_are_learned_from_they_have_views_too(project: Project) -> None:
    project.prepare(split=("train", "val"))
    assert project.run(views=2, policy=FLIPS).computed == 22


def test_another_policy_leaves_view_0(project: Project) -> None:
    project.run()
    assert project.run(views=2, policy=FLIPS).computed == 11
    other = Policy(**{**FLIPS.__dict__, "shift": 0.2})
    report = project.run(views=2, policy=other)
    assert (report.computed, report.reused) == (11, 11)


def test_one_view_gives_the_same_bytes_whatever_the_policy(project: Project) -> None:
    project.run()
    before = sha256(project.features)
    assert project.run(policy=FLIPS).computed == 0
    assert sha256(project.features) == before


def test_a_view_missing_for_one_image_costs_one_row(project: Project) -> None:
    project.run(views=2, policy=FLIPS)
    before = sha256(project.features)
    write_photo(project.root / "new.png", 500)
    project.prepare()
    assert project.run().computed == 1
    report = project.run(views=2, policy=FLIPS)
    assert (report.computed, report.reused) == (1, 23)
    (project.root / "new.png").unlink()
    project.prepare()
    project.run(views=2, policy=FLIPS)
    assert sha256(project.features) == before


def test_pooled_features_are_float16_and_whole_maps_float32_by_default() -> None:
    assert plan(pooling="avg").spec["dtype"] == plan(pooling="grid3").spec["dtype"] == "float16"
    assert plan(pooling="none").spec["dtype"] == plan(pooling="flatten").spec["dtype"] == "float32"


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "vgg16"},
        {"alpha": 0.5},
        {"weights_seed": 1},
        {"size": 64},
        {"resize": "crop"},
        {"cut": "block_1_project_BN"},
        {"pooling": "max"},
        {"dtype": "float32"},
    ],
    ids=str,
)
def test_every_setting_that_can_change_a_value_changes_the_identity(change: dict[str, object]) -> None:
    assert spec.identity(plan(**change).spec) != spec.identity(plan().spec)


def test_the_spec_is_known_without_tensorflow() -> None:
    program = "import sys; from tests.fakes import plan; plan(); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


SLOW_RUN = """
    import sys, time
    from pathlib import Path
    from pipeline.features import extract
    from pipeline.features.cache import row_cache
    from tests.fakes import CountingEngine, settings

    class Noting(CountingEngine):
        def run(self, batches):
            for batch in batches:
                time.sleep(0.002)
                with open(sys.argv[2], "a") as log:
                    log.write(f"{len(batch)}\\n")
                yield from super().run([batch])

    row_cache.SHARD_ROWS = 4
    root = Path(sys.argv[1])
    extract.extract(
        root / "photos", root / "manifest.csv", root / "features.h5",
        settings(size=32, cache=root / "cache", batch_size=2), progress=lambda done, total: None,
        by=extract.By(open_engine=lambda _: Noting()),
    )
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_at_random_and_run_again_it_ends_with_the_same_bytes_and_loses_a_shard_at_most(
    tmp_path: Path, kind: signal.Signals
) -> None:
    project = Project(tmp_path, 60)
    project.run()
    before = sha256(project.features)
    project.features.unlink()
    project.cache.rename(tmp_path / "undisturbed")
    log = tmp_path / "log"
    command = [sys.executable, "-c", textwrap.dedent(SLOW_RUN), str(tmp_path), str(log)]
    draw = random.Random(kind)
    kills = 0
    while True:
        run = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while kills < 6 and run.poll() is None and not (log.exists() and log.stat().st_size > 8 * kills):
            time.sleep(0.002)
        if kills == 6:
            assert run.wait(60) == 0
            break
        time.sleep(draw.uniform(0, 0.03))
        run.send_signal(kind)
        run.wait(60)
        kills += 1
    assert sha256(project.features) == before
    forwarded = sum(int(line) for line in log.read_text().split())
    # In flight at a kill: one shard being filled, one being written, one batch in the engine.
    assert forwarded <= 60 + kills * (4 + 4 + 2)
