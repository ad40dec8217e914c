"""Whoever computes, and whatever becomes of them: the bytes of one process, or a clear error and everything kept."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import BusyError, InputError, StorageError, WorkersError
from pipeline.features import extract
from pipeline.features.cache import inventory, row_cache
from pipeline.features.settings import ExecutorSettings
from pipeline.features.workers import partition, retry
from pipeline.features.workers.executors.dask import Lost, sharing
from pipeline.features.workers.executors.executor import Executor, open_executor
from pipeline.features.workers.executors.local import Local
from pipeline.features.workers.partition import Done, Part
from pipeline.features.workers.worker import compute_in_worker, job_of
from pipeline.photos import manifest
from tests import ROOT, faulty
from tests.fakes import NO_POLICY, settings, write_photo

COUNT = 24
PATIENCE = 300.0  # seconds: a busy machine may take long to start a worker


class Site:
    """Photos with their manifest, a cache, features, and a folder in which faults are asked for."""

    def __init__(self, root: Path) -> None:
        self.root, self.photos, self.manifest = root, root / "photos", root / "manifest.csv"
        self.cache, self.features, self.report = root / "cache", root / "features.h5", root / "report.json"
        self.faults = root / "faults"

    def make(self, count: int = COUNT) -> "Site":
        for number in range(count):
            write_photo(self.photos / f"{number:02}.png", number)
        self.faults.mkdir()
        return self.prepare()

    def prepare(self) -> "Site":
        found = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in sorted(self.photos.iterdir())}
        rows = [manifest.Row(name, digest, "a", "train", 40, 30, "PNG") for name, digest in found.items()]
        manifest.write(manifest.from_rows(rows), self.manifest)
        return self

    def fault(self, name: str) -> None:
        (self.faults / name).touch()

    def extract(self, executor: Executor | None = None, **changes: Any) -> extract.ExtractResult:
        progress = changes.pop("progress", lambda done, total: None)
        engine = changes.pop("engine", partial(faulty.opened, str(self.faults)))
        return extract.extract(
            self.photos,
            self.manifest,
            self.features,
            settings(**{"size": 32, "cache": self.cache, "batch_size": 2} | changes),
            progress=progress,
            report_path=self.report,
            by=extract.By(executor, engine),
        )

    def bytes_of_one_process(self) -> bytes:
        """Extract undisturbed, elsewhere; what every other way must give."""
        alone = Site(self.root / "alone")
        alone.photos, alone.manifest = self.photos, self.manifest
        alone.faults.mkdir(parents=True, exist_ok=True)
        alone.extract()
        return alone.features.read_bytes()

    def kept(self) -> int:
        return sum(one.rows for one in inventory.contents(self.cache))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).make()


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "TASK_IMAGES", 4)
    monkeypatch.setattr(retry, "LEAST_TASK_IMAGES", 2)
    monkeypatch.setattr(retry, "RETRIED_IMAGES", (1,))


def dask(**options: Any) -> Executor:
    chosen = {"executor": "dask", "task_timeout": PATIENCE, **options}
    return open_executor(ExecutorSettings(**chosen))


@pytest.fixture(scope="module")
def crew() -> Iterator[Executor]:
    """Two workers, which the tests of this module share and kill."""
    with dask(workers=2) as executor:
        yield executor


# --- what is the same


def test_two_workers_give_the_bytes_of_one_process_and_say_what_each_did(site: Site, crew: Executor) -> None:
    seen: list[tuple[int, int]] = []
    report = site.extract(crew, progress=lambda done, total: seen.append((done, total)))
    assert site.features.read_bytes() == site.bytes_of_one_process()
    assert (report.computed, report.reused, report.lost) == (COUNT, 0, 0)
    assert sum(worker.images for worker in report.workers) == COUNT
    assert all(worker.pid != os.getpid() and worker.images_per_second > 0 for worker in report.workers)
    assert json.loads(site.report.read_text())["workers"] == [worker.__dict__ for worker in report.workers]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (COUNT, COUNT)


def test_views_are_computed_by_workers_too(site: Site, crew: Executor) -> None:
    some = {"views": 3, "policy": replace(NO_POLICY, flip="both")}
    assert site.extract(crew, **some).computed == 3 * COUNT
    spread = site.features.read_bytes()
    shutil.rmtree(site.cache)
    site.features.unlink()
    site.extract(**some)
    assert site.features.read_bytes() == spread


def test_a_worker_opens_the_network_once_for_all_its_tasks(site: Site, crew: Executor) -> None:
    site.extract(crew)
    assert len(faulty.noted(site.faults / faulty.OPENED)) <= 2
    shutil.rmtree(site.cache)
    site.extract(crew)
    assert len(faulty.noted(site.faults / faulty.OPENED)) <= 2


def test_no_worker_is_started_for_a_run_that_has_nothing_to_compute(site: Site) -> None:
    site.extract()
    site.features.unlink()
    with dask(workers=2) as idle:
        assert site.extract(idle).computed == 0
        assert idle._cluster is idle._client is None  # type: ignore[attr-defined]


def test_threads_are_shared_out_among_the_workers_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    given = sharing(3)
    assert given["TF_NUM_INTRAOP_THREADS"] == given["LOKY_MAX_CPU_COUNT"] == "2"
    assert sharing(20)["TF_NUM_INTRAOP_THREADS"] == "1"


# --- faults


def test_a_killed_worker_costs_what_it_was_at_and_the_bytes_are_the_same(site: Site, crew: Executor) -> None:
    site.fault(faulty.KILL_ONCE)
    report = site.extract(crew)
    assert report.lost == 1
    assert (report.computed, report.reused) == (COUNT, 0)
    assert site.features.read_bytes() == site.bytes_of_one_process()


def test_a_worker_that_hangs_is_replaced_and_the_bytes_are_the_same(
    site: Site, crew: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hung() -> None:
        faulty.until(site.faults / faulty.SEEN)
        crew.patience = 5.0  # type: ignore[attr-defined]

    monkeypatch.setattr(crew, "patience", PATIENCE)
    site.fault(faulty.HANG_ONCE)
    with ThreadPoolExecutor(1) as aside:
        waiting = aside.submit(hung)
        assert site.extract(crew).lost
    waiting.result()
    assert site.features.read_bytes() == site.bytes_of_one_process()


def test_an_image_that_kills_every_worker_is_found_and_named_and_all_others_are_stored(
    site: Site, crew: Executor
) -> None:
    faulty.write_killer(site.photos / "bad.png")
    site.prepare()
    with pytest.raises(
        InputError,
        match=r"^1 images could not be read: bad\.png \(its worker was killed.*`hs\.prepare\(exclude",
    ):
        site.extract(crew)
    assert not site.features.exists()
    assert json.loads(site.report.read_text())["quarantined"] == 1
    assert site.kept() == COUNT
    (site.photos / "bad.png").unlink()  # what `prepare --exclude` does to the manifest
    site.prepare()
    assert site.extract(crew).computed == 0
    assert site.features.read_bytes() == site.bytes_of_one_process()


def test_an_image_that_cannot_be_read_is_named_by_whichever_worker_reads_it(site: Site, crew: Executor) -> None:
    write_photo(site.photos / "07.png", 999)
    with pytest.raises(InputError, match=r"07\.png \(it changed since the manifest was made"):
        site.extract(crew)
    assert site.kept() == COUNT - 1


def test_an_error_in_a_worker_names_its_process(site: Site, crew: Executor) -> None:
    with pytest.raises(InputError, match=r"`dtype`: a feature of .* \(process \d+ on .*\)$"):
        site.extract(crew, engine=faulty.overflowing)


def test_workers_that_are_always_killed_end_the_run_with_a_clear_error(
    site: Site, crew: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MOST_LOST", 1)
    for path in site.photos.iterdir():
        faulty.write_killer(path)
        path.write_bytes(path.read_bytes() + path.name.encode())  # the same picture, another digest
    site.prepare()
    with pytest.raises(WorkersError, match=r"2 tasks were lost with their workers, 0 ended.*`batch_size`"):
        site.extract(crew)


def test_a_second_driver_is_told_who_is_first_and_does_not_disturb(site: Site, crew: Executor) -> None:
    site.fault(faulty.WAIT)
    with ThreadPoolExecutor(1) as aside:
        first = aside.submit(site.extract, crew)
        faulty.until(site.faults / faulty.SEEN)
        with dask(workers=2) as idle:
            for second in (None, idle):
                with pytest.raises(BusyError, match=rf"process {os.getpid()} on .* is computing these rows"):
                    site.extract(second)
        site.fault(faulty.GO)
    assert first.result().computed == COUNT
    assert site.extract().computed == 0
    assert site.features.read_bytes() == site.bytes_of_one_process()


def completed(site: Site, executor: Any) -> retry.Completion:
    job = job_of(
        site.photos,
        settings(size=32, cache=site.cache, batch_size=2),
        open_engine=partial(faulty.opened, str(site.faults)),
    )
    table = manifest.read(site.manifest)
    return retry.Completion(job, table, part=partition.EVERYTHING, executor=executor, progress=lambda *_: None)


def test_a_worker_that_was_given_up_and_finishes_late_does_no_harm(site: Site) -> None:
    late: list[partition.Task] = []

    class Impatient(Local):
        def run(self, function: Any, wanted: Any, **given: Any) -> Iterator[Any]:
            for task, done in super().run(function, wanted, **given):
                if not late:
                    late.append(task)
                    with run.rows[0].writer(task.low, task.high, run.job.run):  # it holds its range meanwhile
                        yield from super().run(function, iter([task]), **given)
                else:
                    yield task, done

    run = completed(site, Impatient())
    run.complete()
    compute_in_worker(run.job, late[0])  # here it is
    assert site.extract().computed == 0
    assert site.features.read_bytes() == site.bytes_of_one_process()


def test_a_row_that_a_worker_says_it_stored_and_that_is_not_here_is_a_clear_error(site: Site) -> None:
    class Elsewhere(Local):
        in_process = False

        def run(self, function: Any, wanted: Any, **_: Any) -> Iterator[Any]:
            for task in wanted:
                yield task, Done("node7", 12, "fake", len(task), 1.0, ["view-0/ab.rows"], [])

    with pytest.raises(StorageError, match=r"ab\.rows: process 12 on node7 stored this and it is not here.*`cache`"):
        completed(site, Elsewhere()).complete()


def test_rows_are_there_when_they_are_on_the_disk_and_not_when_a_worker_says_so(site: Site) -> None:
    class Forgetful(Local):
        in_process = False

        def run(self, function: Any, wanted: Any, **given: Any) -> Iterator[Any]:
            for number, task in enumerate(wanted):
                yield task, Lost("forgotten") if number % 2 else function(task)

    run = completed(site, Forgetful())
    run.complete()
    assert (run.computed, run.lost > 0, run.failures) == (COUNT, True, {})
    assert site.extract().computed == 0


def test_a_worker_with_other_libraries_is_refused_and_the_field_named(site: Site) -> None:
    run = completed(site, Local())
    described = {**run.job.plan.spec, "decoder": {**run.job.plan.spec["decoder"], "version": "0.1"}}
    job = replace(run.job, plan=replace(run.job.plan, spec=described))
    (task,) = partition.cut(run.digests, run.paths, run.missing(), smallest=99, largest=99, workers=1)
    with pytest.raises(InputError, match=r"decoder\.version: expected '0\.1', received '.*\(process"):
        compute_in_worker(job, task)


# --- a scheduler elsewhere


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A scheduler and two workers without nannies, processes of their own, until a test kills them."""
    folder = tmp_path_factory.mktemp("scheduler")
    file = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(*command: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *command],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    options = ("--no-dashboard", "--scheduler-file", str(file))
    started = [start("scheduler", "--host", "127.0.0.1", "--port", "0", *options)]
    worker = ("worker", "--no-nanny", "--nthreads", "1", *options)
    started += [start(*worker), start(*worker)]
    faulty.until(lambda: _address(file))
    yield SimpleNamespace(address=_address(file), processes=started)
    for process in started:
        process.kill()
        process.wait()


def _address(file: Path) -> str | None:
    try:
        address: str = json.loads(file.read_text())["address"]
    except (FileNotFoundError, ValueError):  # not there, or half of it
        return None
    return address


DRIVER = """
    import sys
    from pathlib import Path
    from pipeline.features.workers import retry
    from tests.features.workers.executors.test_executor import Site, dask
    retry.LEAST_TASK_IMAGES = 2
    with dask(scheduler=sys.argv[2]) as crew:
        Site(Path(sys.argv[1])).extract(crew)
"""


def test_a_worker_that_outlives_its_driver_is_named_and_what_it_stores_counts(
    site: Site, scheduler: SimpleNamespace
) -> None:
    site.fault(faulty.WAIT)
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(site.root), scheduler.address]
    with subprocess.Popen(command, cwd=ROOT) as killed:
        faulty.until(lambda: len(faulty.noted(site.faults / faulty.SEEN)) == 2)
        killed.kill()
    with pytest.raises(BusyError, match=r"process (\d+) on") as told:
        site.extract()
    found = re.search(r"process (\d+) on", str(told.value))
    assert found is not None
    assert int(found[1]) in faulty.noted(site.faults / faulty.SEEN)
    site.fault(faulty.GO)
    faulty.until(lambda: not any(one.writers for one in inventory.contents(site.cache)))
    assert 0 < site.kept() < COUNT
    assert site.extract().reused > 0
    assert site.features.read_bytes() == site.bytes_of_one_process()


def test_a_lost_scheduler_is_a_clear_error_everything_is_kept_and_running_again_goes_on(
    site: Site, scheduler: SimpleNamespace
) -> None:
    def kill(done: int, total: int) -> None:
        scheduler.processes[0].send_signal(signal.SIGKILL)

    with (
        dask(scheduler=scheduler.address) as crew,
        pytest.raises(WorkersError, match=rf"`scheduler='{scheduler.address}'`: the connection is lost.*is kept"),
    ):
        site.extract(crew, progress=kill)
    kept = site.kept()
    assert 0 < kept < COUNT
    for process in scheduler.processes:
        process.kill()
        process.wait()
    assert site.extract().reused >= kept
    assert site.features.read_bytes() == site.bytes_of_one_process()


def test_a_scheduler_that_is_not_there_is_a_clear_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.features.workers.executors.dask.CONNECT_SECONDS", 0.2)
    with (
        dask(scheduler="tcp://127.0.0.1:9") as crew,
        pytest.raises(WorkersError, match=r"`scheduler='tcp://127\.0\.0\.1:9'`: expected a scheduler there"),
    ):
        site.extract(crew)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (ModuleNotFoundError("No module named 'pipeline'"), WorkersError, "on every machine, received No module named"),
        (ValueError("something else"), ValueError, "something else"),
    ],
)
def test_a_worker_without_this_package_is_a_clear_error(error: Exception, expected: type, message: str) -> None:
    failed = SimpleNamespace(status="error", exception=lambda: error)
    with pytest.raises(expected, match=message):
        dask(scheduler="tcp://a:1")._result(failed)  # type: ignore[attr-defined]


# --- parts


def test_the_parts_of_any_number_leave_no_digest_out_and_share_none() -> None:
    digests = np.random.default_rng(0).integers(0, 256, (999, 32), dtype=np.uint8)
    digests[0], digests[1] = 0, 255
    for of in (1, 2, 3, 7, 100):
        held = np.stack([Part(number, of).holds(digests) for number in range(of)])
        np.testing.assert_array_equal(held.sum(axis=0), 1)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_parts_in_any_order_one_of_them_repeated_give_the_same_bytes_and_assembling_computes_nothing(
    site: Site, order: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = [site.extract(shard=f"{number}/3") for number in order]
    assert site.extract(shard="1/3").computed == 0
    assert sum(report.computed for report in done) == sum(report.images for report in done) == COUNT
    assert all(report.computed for report in done)
    assert not site.features.exists()
    assert site.extract().computed == 0
    assert site.features.read_bytes() == site.bytes_of_one_process()


def test_a_part_without_images_is_done_at_once(site: Site) -> None:
    empty = [report for report in (site.extract(shard=f"{n}/500") for n in range(0, 500, 50)) if not report.images]
    assert empty
    assert not any(report.computed for report in empty)


PART = """
    import sys
    from pathlib import Path
    from pipeline.features.cache import row_cache
    from tests.features.workers.executors.test_executor import Site
    row_cache.SHARD_ROWS = 2
    Site(Path(sys.argv[1])).extract(shard="1/3")
"""


def test_a_part_that_is_killed_and_repeated_computes_only_what_it_lost_beside_the_others(site: Site) -> None:
    site.fault(faulty.KILL_ONCE)
    command = [sys.executable, "-c", textwrap.dedent(PART), str(site.root)]
    assert subprocess.run(command, cwd=ROOT).returncode == -signal.SIGKILL
    first, third = row_cache_of(site).writer(0.0, 1 / 3), row_cache_of(site).writer(2 / 3, 1.0)
    with first, third:  # the other parts are at work
        site.extract(shard="1/3")
        with pytest.raises(BusyError), row_cache_of(site).writer(0.3, 0.4):
            pass
    assert site.extract().reused > 0
    assert site.features.read_bytes() == site.bytes_of_one_process()


def row_cache_of(site: Site) -> row_cache.RowCache:
    return completed(site, None).rows[0]


# --- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"executor": "local", "workers": 2},
            "`workers`: expected with `executor='dask'`, received `executor='local'`",
        ),
        ({"executor": "local", "scheduler": "tcp://a:1"}, "`scheduler`: expected with `executor='dask'`"),
        ({"executor": "dask", "workers": 2, "scheduler": "tcp://a:1"}, "`workers`: expected none with `scheduler`"),
        ({"executor": "ray"}, "`executor`: expected one of local, dask, received 'ray'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_executor(ExecutorSettings(**options))


def test_a_missing_dask_is_named_with_its_extra(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with dask(workers=2) as crew, pytest.raises(InputError, match=r"pip install 'headstart\[dask\]'"):
        site.extract(crew)
