"""One task: read its images, run the trunk over them, keep the rows. The same in this process and in any worker."""

import contextlib
import itertools
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines.engine import Engine, version_of
from pipeline.backbones.weights import Weights
from pipeline.errors import HeadstartError, InputError
from pipeline.features import int8, resolve, spec
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.cache.shard_writer import ShardWriter
from pipeline.features.resolve import Plan
from pipeline.features.settings import ExtractSettings
from pipeline.features.workers.partition import Done, Task
from pipeline.photos import batches as reading
from pipeline.photos.augmentation import view_key
from pipeline.photos.batches import Photos
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.photos.settings import Policy

SAMPLE_SECONDS: Final = 5.0

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share, small enough to go with each of them.

    Attributes
    ----------
    root : Path or Address
        The image root.
    plan : Plan
        From `resolve.plan`.
    views : int
        Rows of an image that gets all views.
    tta : bool
        Whether all images do, or those to learn from.
    policy : Policy
        What may happen to an image in views other than the first.
    cache : Path
        The cache folder.
    batch_size : int
        Images a batch.
    run : str
        Names the run; its writers do not bar one another.
    open_engine : callable or None
        Makes the engine from the plan; None is `resolve.open_engine`.
    """

    root: Root
    plan: Plan
    views: int
    tta: bool
    policy: Policy
    cache: Path
    batch_size: int
    run: str
    open_engine: Callable[[Plan], Engine] | None

    def of(self, table: Manifest) -> Self:
        """Return the job for a manifest: in int8, with the graph that computes, which is made if the cache lacks it."""
        return replace(self, plan=int8.settled(self.plan, self.root, table, self.cache))

    @property
    def rows(self) -> list[RowCache]:
        """Where the rows are kept, one cache a view."""
        described = spec.canonical(self.plan.spec)
        keys = [view_key(self.policy, view) for view in range(self.views)]
        return [RowCache(self.cache, spec=described, dtype=self.plan.spec["dtype"], view=key) for key in keys]

    def engine(self, plan: Plan) -> Engine:
        """Open the engine."""
        default = partial(resolve.open_engine, batch_size=self.batch_size, cache=self.cache)
        return (self.open_engine or default)(plan)


def job_of(root: Root, settings: ExtractSettings, *, open_engine: Callable[[Plan], Engine] | None = None) -> Job:
    """Return a job, named anew, whose paths are found from any working directory."""
    plan, given = resolve.plan(settings), settings.weights
    if given not in ("imagenet", "none"):
        plan = replace(plan, settings=replace(plan.settings, weights=str(Path(given).absolute())))
    return Job(
        root.absolute(),
        plan,
        settings.views,
        settings.tta,
        settings.policy,
        settings.cache.absolute(),
        settings.batch_size,
        uuid.uuid4().hex,
        open_engine,
    )


def compute(job: Job, engine: Engine, task: Task, advance: Advance) -> Done:
    """Compute and keep the rows of a task, holding their range.

    Parameters
    ----------
    job : Job
    engine : Engine
        What runs the trunk; this call alone uses it.
    task : Task
    advance : callable
        Called with the rows of each batch.

    Raises
    ------
    BusyError
        Somebody of another run computes some of these rows.
    InputError
        A feature does not fit the dtype.
    StorageError
        The disk is full or fails. What was stored stays stored.
    """
    started = time.monotonic()
    computed = 0
    feed = _Feed(job, task)
    with _writers(job, task) as writers:
        for rows in engine.run(feed.batches()):
            places, views = feed.in_flight.popleft()
            for view in np.unique(views):
                writers[view].put(task.digests[places[views == view]], rows[views == view])
            computed += len(places)
            advance(len(places))
    return Done(
        host=socket.gethostname(),
        pid=os.getpid(),
        engine=f"{job.plan.engine} {version_of(job.plan.engine)}",
        computed=computed,
        seconds=time.monotonic() - started,
        shards=[f"{path.parent.name}/{path.name}" for writer in writers for path in writer.shards],
        failures=feed.failures,
    )


@contextlib.contextmanager
def _writers(job: Job, task: Task) -> Iterator[Sequence[ShardWriter]]:
    """Hold the range of a task in each view that it adds rows to, and gather the rows of every view."""
    needed: NDArray[np.bool_] = np.any(task.missing, axis=0)
    with contextlib.ExitStack() as opened:
        for rows, wanted in zip(job.rows, needed, strict=True):
            if wanted:
                opened.enter_context(rows.writer(task.low, task.high, job.run))
        yield [opened.enter_context(ShardWriter(rows)) for rows in job.rows]


def images_per_second(job: Job, engine: Engine, task: Task) -> float:
    """Return the rows of a task that are made a second, keeping none; 0 if no image could be read.

    It takes some seconds; the first batch is left out, since it warms things up. Arguments are as for `compute`.
    """
    feed = _Feed(job, task)
    started = time.monotonic()
    batches = itertools.takewhile(lambda _: time.monotonic() < started + SAMPLE_SECONDS, feed.batches())
    ended = [(time.monotonic(), len(rows)) for rows in engine.run(batches)]
    if len(ended) < 2:
        return sum(count for _, count in ended) / (time.monotonic() - started)
    return sum(count for _, count in ended[1:]) / (ended[-1][0] - ended[0][0])


class _Feed:
    """The images of a task as batches of pixels, read ahead by threads."""

    def __init__(self, job: Job, task: Task) -> None:
        self.job, self.task = job, task
        self.failures: list[tuple[int, str]] = []
        self.in_flight: deque[tuple[NDArray[np.int64], NDArray[np.int64]]] = deque()  # (images, views) of a batch

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """Yield batches of shape (b, size, size, 3); what is in each goes to `in_flight`."""
        for batch in reading.batches(
            Photos(self.job.root, self.task.paths, self.task.digests, self.job.policy),
            self.job.plan.fit,
            batch_size=self.job.batch_size,
            failed=lambda place, error: self.failures.append((int(self.task.places[place]), str(error))),
            views=lambda place: np.flatnonzero(self.task.missing[place]).tolist(),
        ):
            self.in_flight.append((batch.places, batch.views))
            yield batch.pixels


# --- in a worker process

_engines: Final[dict[tuple[str, Path, int], Engine]] = {}  # at most one, for as long as tasks of its spec come
_at_work: Final = threading.Lock()


def compute_in_worker(job: Job, task: Task) -> Done:
    """Compute a task in a process that others send tasks to; the engine is opened for the first and then kept.

    Threads of one process take turns: an engine serves one at a time. Errors are those of `compute`, with the name of
    this process, and InputError if this machine would compute other features, since its libraries or its weights are of
    another version.
    """
    try:
        with _at_work:
            return compute(job, _kept_engine(job), task, lambda rows: None)
    except HeadstartError as error:
        raise type(error)(f"{error} (process {os.getpid()} on {socket.gethostname()})") from error


def _kept_engine(job: Job) -> Engine:
    key = (spec.identity(job.plan.spec), job.cache, job.batch_size)
    if key not in _engines:
        _engines.clear()
        _engines[key] = job.engine(_planned_here(job.plan))
    return _engines[key]


def _planned_here(plan: Plan) -> Plan:
    """Resolve the settings of a plan with the libraries and files of this machine."""
    here = resolve.plan(replace(plan.settings, engine=plan.engine))
    if plan.graph:
        here = resolve.with_graph(here, Weights(plan.graph, plan.spec["graph"]["sha256"], None))
    fields = [
        f"{field}: expected {expected!r}, received {received!r}"
        for field, expected, received in spec.differences(plan.spec, here.spec)
    ]
    if fields:
        raise InputError(f"a worker would compute features of another spec: {'; '.join(fields)}")
    return here
