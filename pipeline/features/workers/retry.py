"""Complete the row cache for the images of a run, whatever becomes of the workers.

What is missing is read off the disk, computed in tasks, and read off the disk again: a task that was lost with its
worker, whose shard is damaged, or that was stored in part, needs no bookkeeping. What is missing still is tried in
smaller tasks, at last one image alone with nothing else under way. Whoever is lost then was lost to that image.
"""

import contextlib
import time
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines.engine import Engine
from pipeline.errors import ArtefactError, StorageError, WorkersError
from pipeline.features.cache import row_cache
from pipeline.features.cache.shard import Shard
from pipeline.features.workers import partition
from pipeline.features.workers.executors.dask import Lost
from pipeline.features.workers.executors.executor import Executor
from pipeline.features.workers.partition import Done, Part, Task, Worker
from pipeline.features.workers.worker import Advance, Job, compute, compute_in_worker
from pipeline.photos.manifest import Manifest
from pipeline.storage.digests import as_keys
from pipeline.types import Progress

# Images a task, for workers: while nothing happens, and then for what was lost. A worker that is started anew costs
# seconds and a task milliseconds, so few steps lead from a thousand images to the one that kills whoever reads it.
TASK_IMAGES: Final = 4 * row_cache.SHARD_ROWS
LEAST_TASK_IMAGES: Final = 64
RETRIED_IMAGES: Final = (32, 1)
MOST_LOST: Final = 20  # beyond the number of tasks that ended


class Completion:
    """One run: what is wanted, what was computed and by whom, what failed.

    Parameters
    ----------
    job : Job
    table : Manifest
    part : Part
        Which of its images; the rows of the part are held meanwhile.
    executor : Executor
    progress : callable
        Called with (rows computed so far, rows to compute).

    Attributes
    ----------
    images : int
        Rows of the manifest in this part.
    digests : ndarray of shape (n, 32), uint8
        Of the distinct ones among them, sorted.
    paths : list of str, n
    varied : ndarray of shape (n,), bool
        Which of them get all views: those to learn from, or all. The others get the first, the image itself.
    rows : list of RowCache
        One a view.
    done : list of Done
        The tasks that ended.
    failures : dict of int to str
        Which images, and why.
    computed : int
        Rows.
    lost : int
        Tasks that were lost with their worker.
    seconds : float
        From the first image decoded to the last row stored; start-up is not in it.
    """

    def __init__(self, job: Job, table: Manifest, *, part: Part, executor: Executor, progress: Progress) -> None:
        job = job.of(table)
        inside = part.holds(table.digests)
        _, first = np.unique(as_keys(table.digests), return_index=True)
        first = first[inside[first]]
        self.job, self.part, self.images = job, part, int(np.count_nonzero(inside))
        self.digests = table.digests[first]
        self.paths = [table.paths[place] for place in first]
        varied = table.digests if job.tta or job.views == 1 else table.learned()[0].digests
        self.varied: NDArray[np.bool_] = np.isin(as_keys(self.digests), as_keys(varied))
        self.executor, self.progress = executor, progress
        self.rows = job.rows
        self.done: list[Done] = []
        self.failures: dict[int, str] = {}
        self.computed = 0
        self.lost = 0
        self.seconds = 0.0
        self._total = self._advanced = 0

    def complete(self) -> None:
        """Compute every row that is not in the cache; `failures` says which could not be.

        BusyError if another run computes rows of this part; WorkersError if workers are lost again and again, or there
        are none; StorageError if the disk is full or fails, or what workers store does not arrive here; InputError if
        the network gave what cannot be stored, or a worker would compute something else.
        """
        needed: NDArray[np.bool_] = np.any(self.missing(), axis=0)
        if not needed.any():
            return
        with contextlib.ExitStack() as locks:
            for rows, wanted in zip(self.rows, needed, strict=True):
                if wanted:
                    locks.enter_context(rows.writer(self.part.low, self.part.high, self.job.run))
            missing = self.missing() & needed
            self._total = int(np.count_nonzero(missing))
            self._settle(missing, needed)
            self.computed += self._total - int(np.count_nonzero(missing[list(self.failures)]))

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """Which rows the run is for, of shape (images, views)."""
        return np.asarray(self.varied[:, None] | (np.arange(len(self.rows)) == 0))

    def missing(self) -> NDArray[np.bool_]:
        """Return which rows are wanted and not in the cache, (images, views); those of failed images do not count."""
        missing = np.stack([rows.index().missing(self.digests) for rows in self.rows], axis=1) & self.wanted
        missing[list(self.failures)] = False
        return missing

    def workers(self) -> list[Worker]:
        """Return who computed, the busiest first."""
        return partition.workers(self.done)

    def _settle(self, missing: NDArray[np.bool_], needed: NDArray[np.bool_]) -> None:
        """Have rows computed in smaller and smaller tasks until none is lost; name what loses every worker."""
        for largest in (TASK_IMAGES, *RETRIED_IMAGES):
            if not self._compute(missing, largest):
                return
            missing = self.missing() & needed
        self._convict(missing)

    def _compute(self, missing: NDArray[np.bool_], largest: int) -> int:
        """Have rows computed, in tasks of so many images at most; return how many tasks were lost."""
        if not missing.any():
            return 0
        one_stream = self.executor.in_process  # of batches, without a pause
        smallest = len(missing) if one_stream else min(LEAST_TASK_IMAGES, largest)
        self._advanced = self._total - int(np.count_nonzero(missing))
        workers = self.executor.workers
        cut = partition.cut(self.digests, self.paths, missing, smallest=smallest, largest=largest, workers=workers)
        return sum(1 for _ in self._lost(cut))

    def _convict(self, missing: NDArray[np.bool_]) -> None:
        """Have each image tried with nothing else under way."""
        for task in partition.cut(self.digests, self.paths, missing, smallest=1, largest=1, workers=1):
            for lost in self._lost(iter([task])):
                self.failures[int(task.places[0])] = f"{lost.reason}, whoever tried"

    def _lost(self, wanted: Iterator[Task]) -> Iterator[Lost]:
        """Run tasks, note what was done, and yield what was lost."""
        function = self._here if self.executor.in_process else partial(compute_in_worker, self.job)
        began = ended = float("inf")
        for task, outcome in self.executor.run(function, wanted, stored=self._stored, advance=self._advance):
            if isinstance(outcome, Lost):
                self.lost += 1
                self._check_losses(task, outcome)
                yield outcome
                continue
            self._check_stored(outcome)
            self.done.append(outcome)
            self.failures.update(outcome.failures)
            ended = time.monotonic()
            began = min(began, ended - outcome.seconds)
        self.seconds += ended - began if ended < float("inf") else 0.0

    def _here(self, task: Task, advance: Advance) -> Done:
        return compute(self.job, self._engine, task, advance)

    @cached_property
    def _engine(self) -> Engine:
        return self.job.engine(self.job.plan)

    def _advance(self, rows: int) -> None:
        self._advanced += rows
        self.progress(self._advanced, self._total)

    def _stored(self, task: Task) -> int:
        """Count the rows of a task that are on the disk."""
        there = [~rows.index().missing(task.digests) for rows in self.rows]
        return int(np.count_nonzero(np.stack(there, axis=1) & task.missing))

    def _check_stored(self, done: Done) -> None:
        """Raise StorageError unless what a worker stored is here; whether it is sound shows when it is read."""
        for name in done.shards:
            path = self.rows[0].folder.parent / name
            try:
                with contextlib.suppress(ArtefactError):
                    Shard.open(path)
            except FileNotFoundError:
                raise StorageError(
                    f"{path}: process {done.pid} on {done.host} stored this and it is not here: expected `cache` to be "
                    "one folder that all workers share"
                ) from None

    def _check_losses(self, task: Task, lost: Lost) -> None:
        """Raise WorkersError if tasks are rather lost than done."""
        if self.lost > MOST_LOST + len(self.done):
            raise WorkersError(
                f"{self.lost:,} tasks were lost with their workers, {len(self.done):,} ended: the last one, of "
                f"{len(task):,} images from {task.paths[0]} on, as {lost.reason}. Is memory short? Give fewer "
                "`workers` or a smaller `batch_size`. What was computed is kept"
            )
