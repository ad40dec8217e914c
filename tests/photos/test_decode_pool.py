import importlib
import os

import joblib
import pytest

from pipeline.errors import StorageError
from pipeline.photos.decode_pool import each
from tests.photos.pooled import (
    disk_fails_on_seven,
    exit_on_three,
    hears_ctrl_c,
    killed_by_thirteens,
    loaded_modules,
    process_id,
    square,
)


def run(function, items, *, workers=2, progress=lambda *_: None):
    return each(function, items, workers=workers, progress=progress)


def test_only_the_calling_process_hears_ctrl_c() -> None:
    assert run(hears_ctrl_c, range(4)) == [False] * 4
    assert hears_ctrl_c(0)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), PermissionError(13, "Permission denied")])
def test_without_semaphores_all_is_run_here_and_that_is_said(
    error: OSError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise error

    steps: list[tuple[int, int]] = []
    caplog.set_level("WARNING", "pipeline")
    # Its name as an attribute may be that of multiprocessing's module. The C library answers so without /dev/shm.
    synchronize = importlib.import_module("joblib.externals.loky.backend.synchronize")
    monkeypatch.setattr(synchronize, "_SemLock", refused)
    assert run(process_id, range(3), progress=lambda *step: steps.append(step)) == [os.getpid()] * 3
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert f"no semaphores ({error.strerror}: on Linux they need a writable /dev/shm)" in caplog.text


def test_results_are_in_the_order_of_the_items_and_progress_ends_at_the_total():
    seen = []
    assert run(square, range(200), progress=lambda done, total: seen.append((done, total))) == [
        number * number for number in range(200)
    ]
    assert seen[-1] == (200, 200)
    assert sorted(seen) == seen


def test_no_items_give_no_results():
    assert run(square, []) == []


def test_the_caller_s_process_runs_nothing_and_few_items_need_one_other():
    (other,) = set(run(process_id, range(30), workers=None))
    assert other != os.getpid()


def test_an_item_that_kills_its_process_costs_that_item_only():
    expected = [None if number % 13 == 12 else number for number in range(27)]
    assert run(killed_by_thirteens, range(27)) == expected


def test_a_process_that_exits_costs_its_item_only():
    assert run(exit_on_three, range(6), workers=1) == [0, 1, 2, None, 4, 5]


def test_joblib_works_in_the_same_process_before_and_after():
    calls = [joblib.delayed(square)(number) for number in range(5)]
    for _ in range(2):
        assert joblib.Parallel(n_jobs=2)(calls) == [0, 1, 4, 9, 16]
        assert run(square, range(5)) == [0, 1, 4, 9, 16]


def test_an_exception_ends_the_run_and_the_next_run_works():
    with pytest.raises(StorageError, match="seven: the disk fails"):
        run(disk_fails_on_seven, range(100))
    assert run(square, range(5)) == [0, 1, 4, 9, 16]


def test_workers_do_not_load_what_the_items_do_not_need():
    assert not {"tensorflow", "keras", "matplotlib", "sklearn"} & set(run(loaded_modules, [0])[0])
