"""How fast each machine was under a spec, kept beside its rows; and what an extraction will take."""

import contextlib
import math
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.errors import HeadstartError
from pipeline.features.workers import partition
from pipeline.features.workers.executors.local import Local
from pipeline.features.workers.partition import Part, Worker
from pipeline.features.workers.retry import Completion
from pipeline.features.workers.worker import Job, images_per_second
from pipeline.photos import manifest
from pipeline.storage.json_files import Document, fields_of, publish

LEAST_IMAGES: Final = 100  # fewer say more about starting than about computing
SAMPLE_IMAGES: Final = 512  # at most; time ends it sooner
DIGEST_BYTES: Final = 32
_PREFIX: Final = "speed-"


@dataclass(frozen=True)
class Speed:
    """What a machine did in the last run that computed something.

    Attributes
    ----------
    host : str
        Its name.
    workers : int
        Processes that computed there.
    images : int
        Rows that they computed.
    images_per_second : float
        All of them together.
    """

    host: str
    workers: int
    images: int
    images_per_second: float


SPEED: Final = Document("a speed", "`hs.extract`", fields_of(Speed), sealed=True)


def keep(folder: Path, workers: Sequence[Worker]) -> None:
    """Keep, in the folder of a spec, how fast the machines of these workers were, unless they hardly computed."""
    for host in sorted({worker.host for worker in workers}):
        its = [worker for worker in workers if worker.host == host]
        rate = round(sum(worker.images_per_second for worker in its), 1)
        speed = Speed(host, len(its), sum(worker.images for worker in its), rate)
        if speed.images >= LEAST_IMAGES:
            with contextlib.suppress(OSError):
                publish(folder / f"{_PREFIX}{host}.json", asdict(speed))


def kept(folder: Path) -> list[Speed]:
    """Return what is kept in the folder of a spec, sorted by host; what cannot be understood is left out."""
    found = []
    for path in sorted(folder.glob(f"{_PREFIX}*.json")):
        with contextlib.suppress(HeadstartError):
            said = SPEED.read(path)
            found.append(Speed(**{name: said[name] for name in SPEED.fields}))
    return found


@dataclass(frozen=True)
class Forecast:
    """What is to be done, and how long that takes.

    Attributes
    ----------
    images : int
        Distinct images.
    rows, missing : int
        One a view that an image gets; and those of them that are still to be computed.
    row_bytes : int
        Of one row, as stored; 0 while nothing is known of it.
    cached_bytes : int
        What lies in the cache under this spec.
    images_per_second : float
        Rows that one machine computes in a second; 0 if nothing is missing and nothing was ever measured.
    source : str
        Where that number comes from, in words.
    """

    images: int
    rows: int
    missing: int
    row_bytes: int
    cached_bytes: int
    images_per_second: float
    source: str

    @property
    def missing_bytes(self) -> int:
        """What the cache will grow by."""
        return self.missing * (self.row_bytes + DIGEST_BYTES)

    @property
    def features_bytes(self) -> int:
        """The rows and digests of ``features.h5``."""
        return self.rows * self.row_bytes + self.images * DIGEST_BYTES

    def hours(self, machines: int) -> float:
        """Return how long so many machines take, each as fast as that, that do not wait for one another."""
        return self.missing / (self.images_per_second * machines) / 3600 if self.missing else 0.0


def forecast(job: Job, manifest_path: Path, *, part: Part) -> Forecast:
    """Say what a run would do. Nothing is computed that is kept.

    The speed is that of the last run under this spec on this machine; else on another machine; else it is measured:
    some missing images go forward, for some seconds.

    Parameters
    ----------
    job : Job
        From `worker.job_of`.
    manifest_path : Path
    part : Part
        Of the images.

    Raises
    ------
    ArtefactError, InputError, StorageError
        As for `pipeline.features.extract.extract`.
    """
    run = Completion(job, manifest.read(manifest_path), part=part, executor=Local(), progress=lambda *_: None)
    missing = run.missing()
    shape = run.rows[0].index().row_shape
    folder = run.rows[0].folder.parent
    rate, source = _kept_rate(folder)
    if missing.any() and (not rate or shape is None):
        engine = job.engine(job.plan)
        shape = engine.row_shape
        cut = partition.cut(run.digests, run.paths, missing, smallest=SAMPLE_IMAGES, largest=SAMPLE_IMAGES, workers=1)
        rate = images_per_second(job, engine, next(cut))
        source = "measured now, on some of the missing images"
    return Forecast(
        images=len(run.digests),
        rows=int(np.count_nonzero(run.wanted)),
        missing=int(np.count_nonzero(missing)),
        row_bytes=math.prod(shape) * np.dtype(job.plan.spec["dtype"]).itemsize if shape is not None else 0,
        cached_bytes=sum(path.stat().st_size for path in folder.glob("view-*/*.rows")),
        images_per_second=rate,
        source=source,
    )


def _kept_rate(folder: Path) -> tuple[float, str]:
    speeds = kept(folder)
    here = [speed for speed in speeds if speed.host == socket.gethostname()]
    for speed in here or speeds:
        where = "here" if here else f"on {speed.host}"
        return speed.images_per_second, f"measured in the last run {where}, {speed.images:,} rows"
    return 0.0, "nothing was measured"
