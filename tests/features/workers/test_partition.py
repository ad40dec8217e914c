import hashlib
import itertools
import pickle

import numpy as np

from pipeline.features.workers import partition
from pipeline.features.workers.partition import Done, Part, Worker
from pipeline.storage.digests import fractions


def many(count: int) -> tuple[np.ndarray, list[str]]:
    digests = np.sort(np.random.default_rng(0).integers(0, 2**63, count)).astype(">u8")
    wide = np.zeros((count, 32), np.uint8)
    wide[:, :8] = digests.view(np.uint8).reshape(count, 8)
    return wide, [f"{number:07}.jpg" for number in range(count)]


def test_tasks_hold_every_image_of_which_a_row_is_missing_once_and_in_order() -> None:
    digests, paths = many(1000)
    missing = np.zeros((1000, 2), bool)
    missing[::3, 1] = True
    cut = list(partition.cut(digests, paths, missing, smallest=8, largest=64, workers=3))
    np.testing.assert_array_equal(np.concatenate([task.places for task in cut]), np.arange(0, 1000, 3))
    assert [path for task in cut for path in task.paths] == paths[::3]
    assert sum(task.rows for task in cut) == 334
    assert all(len(task) <= 64 for task in cut)
    assert all(earlier.high <= later.low for earlier, later in itertools.pairwise(cut))


def test_tasks_shrink_towards_the_end_so_that_no_worker_is_left_with_much() -> None:
    digests, paths = many(1000)
    sizes = [
        len(task)
        for task in partition.cut(digests, paths, np.ones((1000, 1), bool), smallest=10, largest=200, workers=2)
    ]
    assert sizes[0] == 200
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-2] == 10


def test_of_a_million_rows_a_task_carries_its_own_and_is_made_when_it_is_asked_for() -> None:
    digests, paths = many(1_000_000)
    stream = partition.cut(digests, paths, np.ones((1_000_000, 1), bool), smallest=64, largest=1024, workers=100)
    assert len(pickle.dumps(next(stream))) < 100_000
    assert next(stream).places[0] == 1024


def test_the_range_of_a_task_holds_its_digests_and_no_other() -> None:
    digests, paths = many(100)
    cut = list(partition.cut(digests, paths, np.ones((100, 1), bool), smallest=10, largest=10, workers=1))
    drawn = fractions(digests)
    for task in cut:
        np.testing.assert_array_equal(np.flatnonzero((drawn >= task.low) & (drawn < task.high)), task.places)


def test_a_part_holds_the_same_images_whatever_else_there_is() -> None:
    digests = np.frombuffer(b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(300)), np.uint8).reshape(-1, 32)
    part = Part(1, 4)
    np.testing.assert_array_equal(part.holds(digests)[:100], part.holds(digests[:100]))
    assert 40 < np.count_nonzero(part.holds(digests)) < 110


def test_workers_are_summed_up_the_busiest_first() -> None:
    done = [Done("a", 1, "", 10, 1.0, [], []), Done("b", 1, "", 15, 1.0, [], []), Done("a", 1, "", 20, 4.0, [], [])]
    assert partition.workers(done) == [Worker("a", 1, 30, 6.0), Worker("b", 1, 15, 15.0)]
