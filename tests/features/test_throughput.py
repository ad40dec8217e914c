import json
import socket
from pathlib import Path

import numpy as np
import pytest

from pipeline.features import throughput
from pipeline.features.throughput import Forecast, Speed
from pipeline.features.workers import worker
from pipeline.features.workers.partition import EVERYTHING, Part, Worker
from tests.fakes import CountingEngine, settings
from tests.features.workers.executors.test_executor import COUNT, Site


class Watched(CountingEngine):
    """Counts how often it was opened."""

    opened = 0


def watched(_: object) -> Watched:
    Watched.opened += 1
    return Watched()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    Watched.opened = 0
    return Site(tmp_path).make()


def job(site: Site) -> worker.Job:
    return worker.job_of(site.photos, settings(size=32, cache=site.cache, batch_size=4), open_engine=watched)


def test_without_a_cache_everything_is_missing_and_the_speed_is_measured_and_nothing_kept(site: Site) -> None:
    found = throughput.forecast(job(site), site.manifest, part=EVERYTHING)
    assert (found.images, found.rows, found.missing, found.cached_bytes) == (COUNT, COUNT, COUNT, 0)
    assert found.row_bytes == 12 * 2
    assert found.missing_bytes == found.features_bytes == COUNT * (24 + 32)
    assert found.images_per_second > 0
    assert found.source == "measured now, on some of the missing images"
    assert not site.cache.exists()


def test_after_a_run_the_speed_is_that_of_the_run_and_nothing_is_opened(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "LEAST_IMAGES", 2)
    report = site.extract()
    found = throughput.forecast(job(site), site.manifest, part=EVERYTHING)
    assert (found.missing, found.missing_bytes, found.hours(1), Watched.opened) == (0, 0, 0.0, 0)
    assert found.images_per_second == report.workers[0].images_per_second
    assert found.source == f"measured in the last run here, {COUNT} rows"
    assert found.cached_bytes == sum(path.stat().st_size for path in site.cache.rglob("*.rows"))


def test_the_speed_of_another_machine_is_better_than_none_and_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.extract(shard="0/2")
    folder = next(site.cache.glob("rows/*"))
    throughput.keep(folder, [Worker("node7", 1, 80, 30.0), Worker("node7", 2, 70, 20.0), Worker("node8", 1, 9, 1.0)])
    found = throughput.forecast(job(site), site.manifest, part=EVERYTHING)
    assert (found.images_per_second, found.source) == (50.0, "measured in the last run on node7, 150 rows")
    assert 0 < found.missing < COUNT
    assert Watched.opened == 0


def test_hours_are_rows_by_rate_by_machines() -> None:
    found = Forecast(1000, 3000, 1800, 10, 0, 0.5, "")
    assert (found.hours(1), found.hours(4)) == (1.0, 0.25)


def test_a_part_is_forecast_alone(site: Site) -> None:
    parts = [throughput.forecast(job(site), site.manifest, part=Part(number, 3)).missing for number in range(3)]
    assert sum(parts) == COUNT
    assert all(parts)


def test_speeds_are_kept_for_each_machine_and_damaged_ones_ignored(tmp_path: Path) -> None:
    throughput.keep(tmp_path, [Worker("a", 1, 500, 12.5), Worker("b", 1, throughput.LEAST_IMAGES - 1, 99.0)])
    (tmp_path / "speed-c.json").write_text("{")
    (tmp_path / "speed-d.json").write_text(json.dumps({"host": "d"}))
    assert throughput.kept(tmp_path) == [Speed("a", 1, 500, 12.5)]


def test_a_folder_that_cannot_be_written_costs_the_speed_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    throughput.keep(tmp_path / "file", [Worker(socket.gethostname(), 1, 500, 12.5)])
    assert throughput.kept(tmp_path) == []


def test_a_sample_of_one_batch_is_timed_too(site: Site) -> None:
    (task,) = list(computing_tasks(site))
    described = worker.job_of(site.photos, settings(size=32, cache=site.cache, batch_size=64))
    assert np.isfinite(worker.images_per_second(described, CountingEngine(), task))


def computing_tasks(site: Site):  # type: ignore[no-untyped-def]
    from pipeline.features.workers import partition
    from tests.features.workers.executors.test_executor import completed

    run = completed(site, None)
    return partition.cut(run.digests, run.paths, run.missing(), smallest=99, largest=99, workers=1)
