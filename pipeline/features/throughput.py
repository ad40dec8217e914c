"""How fast each machine was under a spec, kept beside its rows, so that a forecast need not measure again."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pipeline.features.workers.partition import Worker
from pipeline.storage.atomic import published

LEAST_IMAGES: Final = 100  # fewer say more about starting than about computing
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


def keep(folder: Path, workers: Sequence[Worker]) -> None:
    """Keep, in the folder of a spec, how fast the machines of these workers were, unless they hardly computed."""
    for host in sorted({worker.host for worker in workers}):
        its = [worker for worker in workers if worker.host == host]
        rate = round(sum(worker.images_per_second for worker in its), 1)
        speed = Speed(host, len(its), sum(worker.images for worker in its), rate)
        if speed.images >= LEAST_IMAGES:
            with contextlib.suppress(OSError), published(folder / f"{_PREFIX}{host}.json") as temporary:
                temporary.write_text(json.dumps(asdict(speed)) + "\n", encoding="utf-8")


def kept(folder: Path) -> list[Speed]:
    """Return what is kept in the folder of a spec, sorted by host; what cannot be understood is left out."""
    found = []
    for path in sorted(folder.glob(f"{_PREFIX}*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Speed(**json.loads(path.read_text(encoding="utf-8"))))
    return found
