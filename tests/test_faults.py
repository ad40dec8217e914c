"""What a user is promised when things break: faults injected for real, then a run that ends as if nothing had been.

Most of these run in processes of their own, forked off one that has imported what an extraction needs.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import BusyError, HeadstartError, StorageError
from pipeline.features import extract, features_file
from pipeline.features.cache import inventory, row_cache, shard, shard_files
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.extract import ExtractResult
from pipeline.photos import manifest
from pipeline.storage import atomic, hdf5
from tests import ROOT, faulty
from tests.fakes import CountingEngine, settings, write_photo

COUNT = 6
BATCH = 2
SHARD = 4
INTERRUPTED = 130


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `Site.extract` sets, here and in the processes that are killed, ends with the test."""
    monkeypatch.setattr(row_cache, "SHARD_ROWS", row_cache.SHARD_ROWS)


class Site:
    """Photos and their manifest, and a place of its own for the cache and the features of each trial."""

    def __init__(self, root: Path) -> None:
        self.photos, self.manifest = root / "photos", root / "manifest.csv"
        self.trial = root / "trial"

    @property
    def cache(self) -> Path:
        return self.trial / "cache"

    @property
    def features(self) -> Path:
        return self.trial / "features.h5"

    def make(self) -> "Site":
        for number in range(COUNT):
            write_photo(self.photos / f"{number}.png", number)
        self.list_photos()
        return self

    def list_photos(self) -> None:
        paths = sorted(self.photos.iterdir())
        digests = [hashlib.sha256(path.read_bytes()).digest() for path in paths]
        rows = [
            manifest.Row(path.name, digest, "a", "train", 40, 30, "PNG")
            for path, digest in zip(paths, digests, strict=True)
        ]
        manifest.write(manifest.from_rows(rows), self.manifest)

    def fresh(self) -> None:
        shutil.rmtree(self.trial, ignore_errors=True)
        self.trial.mkdir()

    def extract(self, engine: CountingEngine | None = None) -> ExtractResult:
        row_cache.SHARD_ROWS = SHARD  # type: ignore[misc]
        atomic._clear.cache_clear()  # as in a process of its own
        return extract.extract(
            self.photos,
            self.manifest,
            self.features,
            settings(size=32, cache=self.cache, batch_size=BATCH),
            progress=lambda done, total: None,
            by=extract.By(open_engine=lambda _: engine or CountingEngine()),
        )

    def sha256(self) -> str | None:
        return hashlib.sha256(self.features.read_bytes()).hexdigest() if self.features.exists() else None

    def published(self) -> int:
        return sum(one.rows for one in inventory.contents(self.cache))

    def litter(self) -> list[str]:
        """What is neither a sound shard nor a description nor the features, after the cache was pruned."""
        for item in inventory.waste(self.cache, []):
            inventory.remove(item)
        known = {"spec.json", "mutex", "features.h5", "report.json"}
        files = [path for path in self.trial.rglob("*") if path.is_file()]
        return [path.name for path in files if path.name not in known and not path.name.endswith(shard.SUFFIX)]


def forked(action: Callable[[], object]) -> int:
    """Run in a child; return its exit status, or minus the signal that ended it."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        action()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # all else ends as a stage does, interpreter and HDF5 included, which takes longer
    except HeadstartError as error:
        sys.exit(f"Error: {error}")
    sys.exit(0)


def say(*values: object) -> None:
    """Tell the test that started this process."""
    sys.stdout.write(" ".join(map(str, values)) + "\n")
    sys.stdout.flush()


def wide_features(path: Path) -> None:
    """Write a features file of many chunks, 1.3 MB."""
    keys = np.arange(500, dtype=">u4").view(np.uint8).reshape(500, 4)
    rows = np.arange(500 * 1280, dtype=np.float32).reshape(500, 1280) % 1000
    features_file.write(
        path,
        spec="{}",
        digests=np.pad(keys, ((0, 0), (0, 28))),
        row_shape=(1280,),
        dtype="float16",
        blocks=(rows[start : start + 60].astype(np.float16) for start in range(0, 500, 60)),
    )


def in_process(function: Callable[..., object], *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a function of this module in a fresh process: forking is safe there."""
    return subprocess.run(
        [sys.executable, "-c", program(function, *arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def program(function: Callable[..., object], *arguments: object) -> str:
    """Write the program that runs a function of this module; as its forks end, they leave alone what it imported."""
    frozen = "import gc; gc.collect(); gc.freeze()"
    return f"from tests import test_faults; {frozen}; test_faults.{function.__name__}(*{arguments!r})"


STEPS = [
    (os, "mkdir"),
    (os, "fsync"),
    (os, "replace"),
    (os, "unlink"),
    (os, "open"),
    (fcntl, "flock"),
    (json, "dump"),
    (Path, "write_text"),
    (Path, "write_bytes"),
    (h5py.File, "__init__"),
    (h5py.Dataset, "__setitem__"),
    (h5py.File, "close"),
    (hdf5._Disk, "write"),
]


def strike(kind: int, number: int) -> Callable[[], int]:
    """Send this process a signal just before its step `number`; a shard's bytes are two steps, two halves.

    Returns a function that counts the steps so far.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background ignores it
    counter = itertools.count()
    taken: list[str] = []

    def step(name: str) -> None:
        taken.append(name)
        if next(counter) == number:
            os.kill(os.getpid(), kind)

    def instrumented(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def wrapper(*arguments: object, **named: object) -> object:
            step(name)
            if name == "write_bytes":
                path, data = arguments
                original(path, data[: len(data) // 2])  # type: ignore[index]
                step(name)
            return original(*arguments, **named)

        setattr(owner, name, wrapper)

    for owner, name in STEPS:
        instrumented(owner, name)
    return lambda: len(taken)


def kill_at_each_step(root: str, kind: int, stride: int) -> None:
    site = Site(Path(root)).make()
    site.fresh()
    counted = site.trial / "steps"

    def struck(number: int) -> None:
        count = strike(kind, number)
        site.extract()
        counted.write_text(str(count()))

    assert forked(partial(struck, -1)) == 0
    total = int(counted.read_text())
    expected = site.sha256()
    ended = []
    for number in range(0, total, stride):
        site.fresh()
        ended.append(forked(partial(struck, number)))
        assert site.sha256() in (None, expected)
        kept = site.published()
        report = site.extract()
        assert site.sha256() == expected
        assert (report.reused, report.computed) == (kept, COUNT - kept)
        assert site.litter() == [], (number, site.litter())
    say(json.dumps({"steps": total, "ended": sorted(set(ended))}))


@pytest.mark.parametrize(("kind", "stride"), [(signal.SIGKILL, 1), (signal.SIGINT, 1), (signal.SIGTERM, 7)])
def test_killed_at_any_write_fsync_or_rename_a_rerun_ends_with_the_same_bytes_and_computes_no_kept_row_again(
    tmp_path: Path, kind: signal.Signals, stride: int
) -> None:
    result = in_process(kill_at_each_step, str(tmp_path), int(kind), stride)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["steps"] > 40
    assert found["ended"] == [INTERRUPTED if kind == signal.SIGINT else -kind]


def limit_every_file(root: str, survives: bool) -> None:
    """Let no file grow beyond a limit, for many limits: the write that would fails, or the kernel kills within it."""
    site = Site(Path(root)).make()
    site.fresh()
    site.extract()
    expected, most = site.sha256(), site.features.stat().st_size

    def limited(limit: int, action: Callable[[], object]) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN if survives else signal.SIG_DFL)
        try:
            action()
        except OSError as error:
            raise StorageError(f"{error.strerror}") from error

    ended = []
    for limit in range(0, most, 127):
        site.fresh()
        ended.append(forked(partial(limited, limit, site.extract)))
        assert not site.features.exists()
        site.extract()
        assert site.sha256() == expected
        assert site.litter() == []
    for limit in range(0, 1_300_000, 70_001):
        site.fresh()
        ended.append(forked(partial(limited, limit, partial(wide_features, site.features))))
        assert not site.features.exists()
    say(json.dumps(sorted(set(ended))))


def test_a_full_disk_at_any_byte_is_a_clean_error_publishes_nothing_and_a_rerun_ends_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    """HDF5 by itself ends such a process with a segmentation fault."""
    result = in_process(limit_every_file, str(tmp_path), True)
    assert (result.returncode, json.loads(result.stdout)) == (0, [1]), result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) > 30
    assert all(line.startswith("Error: ") and line.endswith("File too large") for line in lines), result.stderr


def test_killed_within_any_write_a_rerun_ends_with_the_same_bytes(tmp_path: Path) -> None:
    result = in_process(limit_every_file, str(tmp_path), False)
    assert (result.returncode, json.loads(result.stdout)) == (0, [-signal.SIGXFSZ]), result.stderr


def mounted(place: Path, mounts: Sequence[str], function: Callable[..., object], *arguments: object) -> list[str]:
    """Run a function of this module where `place` is mounted in its own way; return the lines it printed.

    The mounts are seen by that process alone. Where the system grants none, the test is skipped.
    """
    place.mkdir(parents=True, exist_ok=True)
    commands = " && ".join(f'mount {mount} "{place}"' for mount in mounts).replace("SELF", f'"{place}"')
    unshare = [shutil.which("unshare") or "true", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if unshare[0] == "true" or subprocess.run([*unshare, "sh", "-c", commands], capture_output=True).returncode:
        pytest.skip("this system lets the test mount nothing: no `unshare`, or no right to")
    script = f'{commands} && exec "{sys.executable}" -c "{program(function, *arguments)}" 2>&1'
    result = subprocess.run([*unshare, "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout
    return result.stdout.splitlines()


def fill_a_small_disk(root: str) -> None:
    """Leave room for 0, 1, 2, … blocks of 4 KB."""
    site = Site(Path(root))
    filler = site.trial / "filler"
    for room in range(12):
        for path in site.trial.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        size = shutil.disk_usage(site.trial).free - 4096 * room
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
        forked(site.extract)
        filler.unlink()
        site.extract()
        say(site.sha256())


def test_a_disk_that_is_really_full_is_a_clean_error_and_with_room_again_the_bytes_are_the_same(tmp_path: Path) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    site.extract()
    expected = site.sha256()
    lines = mounted(site.trial, ["-t tmpfs -o size=256k none"], fill_a_small_disk, str(tmp_path))
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) > 3
    assert all(line.endswith("No space left on device") for line in errors)
    assert [line for line in lines if line not in errors] == [expected] * 12


def use_a_read_only_cache(root: str) -> None:
    site = Site(Path(root))
    say(site.extract().computed, inventory.verify(site.cache, lambda done, total: None))
    write_photo(site.photos / "new.png", 99)
    site.list_photos()
    forked(site.extract)


def test_a_read_only_cache_serves_a_run_that_needs_no_new_row_and_refuses_another_cleanly(tmp_path: Path) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    site.extract()
    lines = mounted(site.cache, ["--bind SELF", "-o remount,ro,bind"], use_a_read_only_cache, str(tmp_path))
    assert lines[0] == "0 []"
    assert re.fullmatch(r"Error: .*/locks: cannot lock the cache: Read-only file system", lines[1])


def damage_in_a_read_only_cache(root: str) -> None:
    forked(Site(Path(root)).extract)


def test_a_damaged_shard_in_a_read_only_cache_is_a_clean_error_that_names_it(tmp_path: Path) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    site.extract()
    path = next(site.cache.rglob(f"*{shard.SUFFIX}"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    site.features.unlink()
    lines = mounted(site.cache, ["--bind SELF", "-o remount,ro,bind"], damage_in_a_read_only_cache, str(tmp_path))
    assert lines == [f"Error: {path}: damaged, and cannot be set aside: Read-only file system"]


class Slow(CountingEngine):
    """An engine that says that it is at work and then waits for leave to go on."""

    def __init__(self, trial: Path) -> None:
        super().__init__()
        self.trial = trial

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for computed in super().run(batches):
            yield computed
            (self.trial / "working").write_text(str(os.getpid()))
            while not (self.trial / "go").exists():
                time.sleep(0.01)


def stage(root: str) -> None:
    """What `headstart extract` is to DVC."""
    site = Site(Path(root))
    try:
        site.extract(Slow(site.trial))
    except HeadstartError as error:
        sys.exit(f"Error: {error}")


def started(root: Path) -> "subprocess.Popen[str]":
    program = f"from tests import test_faults; test_faults.stage({str(root)!r})"
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def awaited(path: Path) -> str:
    faulty.until(lambda: path.exists() and path.read_text())
    return path.read_text()


def test_a_second_writer_is_told_who_is_first_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    with started(tmp_path) as first:
        awaited(site.trial / "working")
        with started(tmp_path) as second:
            assert re.fullmatch(
                rf"Error: .*: process {first.pid} on .* is computing these rows; .*\n", second.communicate()[1]
            )
            assert second.returncode == 1
        (site.trial / "go").touch()
    assert first.returncode == 0
    assert site.extract().computed == 0


DVC_YAML = """
stages:
  extract:
    cmd: >-
      "{python}" -c "import sys; sys.path.insert(0, r'{root}'); from tests.test_faults import stage; stage(r'{place}')"
    outs:
      - trial/features.h5
"""


def test_a_stage_orphaned_by_a_killed_dvc_repro_is_named_to_the_next_and_its_rows_are_kept(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    (tmp_path / "dvc.yaml").write_text(DVC_YAML.format(python=sys.executable, root=ROOT, place=tmp_path))
    dvc = [sys.executable, "-m", "dvc"]
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = True\n")  # as `dvc init --no-scm` leaves it
    repro = subprocess.Popen([*dvc, "repro"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    orphan = int(awaited(site.trial / "working"))
    repro.kill()
    repro.wait()
    again = subprocess.run([*dvc, "repro"], cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode != 0
    assert f"process {orphan} on" in again.stderr
    (site.trial / "go").touch()
    faulty.until(lambda: not inventory.contents(site.cache)[0].writers)
    subprocess.run([*dvc, "repro"], cwd=tmp_path, check=True, capture_output=True)
    assert site.extract().computed == 0


def race(root: str) -> None:
    """Two processes publish the same shards at the same time."""
    cache = RowCache(Path(root), spec="{}", dtype="float16", view="0")
    digests = np.zeros((200, 32), np.uint8)
    digests[:, 0] = np.arange(200)

    def add() -> None:
        for start in range(0, 200, 4):
            cache.add(digests[start : start + 4], digests[start : start + 4, :7].astype(np.float16))

    child = os.fork()
    add()
    if not child:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    (rows,) = cache.blocks(cache.index(), digests)
    np.testing.assert_array_equal(rows, digests[:, :7].astype(np.float16))
    assert len(list(cache.folder.glob("*"))) == 50
    assert cache.verify() == []


def test_two_processes_that_publish_the_same_shards_leave_one_sound_copy_of_each(tmp_path: Path) -> None:
    result = in_process(race, str(tmp_path))
    assert result.returncode == 0, result.stderr


def test_verify_and_prune_while_a_writer_is_at_work_neither_disturb_nor_are_disturbed(tmp_path: Path) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    stop = threading.Event()
    seen: list[int] = []

    def administer() -> None:
        while not stop.is_set():
            assert inventory.verify(site.cache, lambda done, total: None) == []
            held = inventory.contents(site.cache)
            everything = {one.identity for one in held} if not (site.trial / "go").exists() else set()
            for item in inventory.waste(site.cache, everything):
                with contextlib.suppress(BusyError):
                    inventory.remove(item)
            seen.append(sum(len(one.writers) for one in held))

    with ThreadPoolExecutor(1) as pool, started(tmp_path) as writer:
        administration = pool.submit(administer)
        try:
            faulty.until(
                lambda: (
                    administration.done()
                    or writer.poll() is not None
                    or ((site.trial / "working").exists() and any(seen[-20:]))
                )
            )
            (site.trial / "go").touch()
            told = writer.communicate(timeout=300)[1]
        finally:
            writer.kill()
            stop.set()
        administration.result()
    assert writer.returncode == 0, told
    assert site.extract().computed in (0, COUNT)  # pruned after the writer had gone, or not


def test_rows_pruned_while_they_are_assembled_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    site.extract()
    expected = site.sha256()
    site.features.unlink()
    write, pruned = features_file.write, []

    def write_late(*arguments: object, **named: object) -> None:
        if not pruned:
            pruned.extend(inventory.waste(site.cache, {one.identity for one in inventory.contents(site.cache)}))
            for item in pruned:
                inventory.remove(item)
        write(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(features_file, "write", write_late)
    assert site.extract().computed == COUNT
    assert site.sha256() == expected


def hdf5_file(kind: str, path: Path) -> bytes:
    """An HDF5 file as this project's first shards were, that points elsewhere."""
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["features"] = np.ones((2, 12), np.float16)
    with h5py.File(path, "w") as file:
        file["digest"] = np.zeros((2, 32), np.uint8)
        if kind == "external link":
            file["features"] = h5py.ExternalLink("other.h5", "/features")
        elif kind == "soft link":
            file["features"] = h5py.SoftLink("/digest")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((2, 12), "f2")
            layout[:] = h5py.VirtualSource("other.h5", "features", (2, 12))
            file.create_virtual_dataset("features", layout)
        elif kind == "absurd shape":
            file.create_dataset("features", (2, 2**40), "f2", chunks=(1, 1024))
        elif kind == "foreign filter":
            file.create_dataset("features", data=np.ones((2, 12)), compression="gzip")
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual", "absurd shape", "foreign filter"])
def test_a_hostile_hdf5_file_among_the_shards_is_set_aside_and_not_followed(tmp_path: Path, kind: str) -> None:
    site = Site(tmp_path).make()
    site.fresh()
    site.extract()
    expected = site.sha256()
    data = hdf5_file(kind, tmp_path / "hostile.h5")
    view = next(site.cache.rglob("view-0"))
    honest = shard_files.shard_paths(view)[0]
    honest.write_bytes(data)  # in the place of a shard
    strayed = view / shard.name_of(data)
    strayed.write_bytes(data)  # under the name that its bytes ask for
    report = site.extract()
    assert 0 < report.computed < COUNT
    assert site.sha256() == expected
    assert strayed.with_suffix(".damaged").exists()
    assert inventory.verify(site.cache, lambda done, total: None) == []
