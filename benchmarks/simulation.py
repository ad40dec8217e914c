"""What an extraction costs as images, workers and features grow: measured small, checked larger, computed beyond.

    python benchmarks/simulation.py [--rate 199] [--width 1280] [--image-kb 27]

A run is a serial part in the driver (read the manifest, look up what is there, assemble the features), and tasks that
workers share. What both cost is measured here at small sizes. A simulation then hands tasks, cut as
`pipeline.features.workers.partition.cut` cuts them, to workers of which each has its own speed. What it says for sizes
that it was not fitted to is set beside measurements; without that the rest of its table would be worth nothing.

--rate is the images a second of one worker with a real base (`benchmarks/extraction.py`); the network here costs
nothing, so that the design is measured and not the base. --image-kb is the mean size of a photo's file.
"""

import argparse
import heapq
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import scale

SMALL, LARGE = (40_000, 120_000), 400_000  # rows: measured, and predicted from them
PHOTOS, MORE_PHOTOS = 1_500, 6_000
TASKS: Final = (64, 1024)  # images a task, to tell what a task costs
START_SECONDS: Final = 6.5  # until a worker has a real base: TensorFlow's import, the graph built and converted
SHARED_BYTES_A_SECOND: Final = 1e9  # assumed: of a file system that all workers share
SPREAD: Final = 0.15  # assumed: standard deviation of the logarithm of a worker's speed
MEMORY: Final = 24e9  # bytes, of the driver's machine


@dataclass(frozen=True)
class Costs:
    """What was measured, in seconds and bytes.

    Attributes
    ----------
    plan, plan_row : float
        Reading the manifest and looking up what is there: of a run, and of each of its rows.
    assemble_row : float
        A row from the cache into the features.
    task : float
        What a task costs beside its images.
    memory, memory_row : float
        The driver's peak.
    start : float
        Until a worker has its engine.
    """

    plan: float
    plan_row: float
    assemble_row: float
    task: float
    memory: float
    memory_row: float
    start: float


# --- the simulation


def simulated(images: int, workers: int, rate: float, costs: Costs, *, bytes_read: float) -> dict[str, float]:
    """Return seconds of planning, computing and assembling, with so many workers of so many images a second."""
    draw = np.random.default_rng(0)
    speeds = rate * np.exp(draw.normal(0.0, SPREAD, workers)) if workers > 2 else np.full(workers, rate)
    speeds *= min(1.0, SHARED_BYTES_A_SECOND / (bytes_read * speeds.sum()))
    free = [(costs.start, worker) for worker in range(workers)]
    for size in sizes(images, workers):
        when, worker = free[0]
        heapq.heapreplace(free, (when + costs.task + size / speeds[worker], worker))
    return {
        "plan": costs.plan + costs.plan_row * images,
        "compute": max(when for when, _ in free),
        "assemble": costs.assemble_row * images,
    }


def sizes(images: int, workers: int) -> Iterator[int]:
    """Yield the images of each task, as `pipeline.features.workers.partition.cut` makes them."""
    from pipeline.features.workers import partition, retry

    while images > 0:
        share = -(-images // (partition.SHARES_A_WORKER * workers))
        size = min(images, max(retry.LEAST_TASK_IMAGES, min(retry.TASK_IMAGES, share)))
        yield size
        images -= size


# --- the measurements


def serial(rows: int, width: int) -> dict[str, tuple[float, float, str]]:
    """Measure a run that has nothing to do, and one that only assembles: seconds, peak MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scale.write_manifest(folder / "manifest.csv", rows)
        scale.measured(scale.extract, folder, width)
        nothing = scale.measured(scale.extract, folder, width)
        (folder / "features.h5").unlink()
        return {"nothing": nothing, "assemble": scale.measured(scale.extract, folder, width)}


def fitted(width: int) -> Costs:
    """Measure the driver at both small sizes, and a task by cutting the same rows into many and into few."""
    few, many = (serial(rows, width) for rows in SMALL)
    apart = SMALL[1] - SMALL[0]
    plan_row = (many["nothing"][0] - few["nothing"][0]) / apart
    memory_row = (many["assemble"][1] - few["assemble"][1]) * 2**20 / apart
    both = (many["assemble"][0] - few["assemble"][0]) / apart
    return Costs(
        plan=few["nothing"][0] - plan_row * SMALL[0],
        plan_row=plan_row,
        assemble_row=both - plan_row,
        task=task_cost(width),
        memory=few["assemble"][1] * 2**20 - memory_row * SMALL[0],
        memory_row=memory_row,
        start=0.0,
    )


def task_cost(width: int) -> float:
    """Measure what one more task costs two workers, seconds of one of them."""
    found = []
    for images in TASKS:
        with tempfile.TemporaryDirectory() as name:
            scale.write_manifest(Path(name) / "manifest.csv", SMALL[0])
            found.append(scale.measured(partial(spread, images), Path(name), width)[0])
    return 2 * (found[0] - found[1]) / (SMALL[0] / TASKS[0] - SMALL[0] / TASKS[1])


def spread(images: int, folder: Path, width: int, network: Any = scale.opened) -> str:
    """Extract with two worker processes, in tasks of so many images."""
    from pipeline.features.settings import ExecutorSettings
    from pipeline.features.workers import retry
    from pipeline.features.workers.executors.executor import open_executor

    retry.TASK_IMAGES = retry.LEAST_TASK_IMAGES = images
    with open_executor(ExecutorSettings(executor="dask", workers=2, task_timeout=600.0)) as executor:
        return scale.extract(folder, width, network, executor)


def alone(folder: Path, width: int) -> str:
    """Extract photos on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return scale.extract(folder, width, scale.developed)


def together(folder: Path, width: int) -> str:
    """Extract photos with two workers, one core each."""
    from pipeline.features.workers import retry

    return spread(retry.TASK_IMAGES, folder, width, scale.developed)


def decoding(task: Any, photos: int, width: int) -> tuple[float, float]:
    """Return seconds of a whole run over photos, and of its rows alone as the report has them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scale.write_manifest(folder / "manifest.csv", photos, scale.photo)
        seconds, _, what = scale.measured(task, folder, width)
        return seconds, photos / float(what.partition(" at ")[2])


def check(name: str, predicted: float, measured: float, unit: str) -> None:
    """Print both and their ratio."""
    print(f"{name:44}{predicted:10,.1f}{measured:10,.1f} {unit:3}{predicted / measured:8.2f}", flush=True)


def main() -> None:
    """Measure, check, and compute beyond."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=199.0)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--image-kb", type=float, default=27.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 20, 200, 1000])
    given = parser.parse_args()
    costs = fitted(given.width)
    print(
        f"measured at {SMALL[0]:,} and {SMALL[1]:,} rows: a run {costs.plan:.2f} s; of a row, planning "
        f"{costs.plan_row * 1e6:.1f} us, assembling {costs.assemble_row * 1e6:.1f} us, memory {costs.memory_row:,.0f} "
        f"bytes; a task {costs.task * 1e3:.1f} ms\n"
    )
    print(f"{'':44}{'predicted':>10}{'measured':>10}{'':5}{'ratio':>7}")
    large = serial(LARGE, given.width)
    planning = costs.plan + costs.plan_row * LARGE
    check(f"{LARGE:,} rows, nothing to do", planning, large["nothing"][0], "s")
    check(f"{LARGE:,} rows, assembled", planning + costs.assemble_row * LARGE, large["assemble"][0], "s")
    check(
        f"{LARGE:,} rows, peak", (costs.memory + costs.memory_row * LARGE) / 1e6, large["assemble"][1] * 1.048576, "MB"
    )
    _, few = decoding(alone, PHOTOS, given.width)
    _, more = decoding(together, MORE_PHOTOS, given.width)
    expected = simulated(MORE_PHOTOS, 2, PHOTOS / few, costs, bytes_read=0.1)["compute"]
    check(f"{MORE_PHOTOS:,} photos decoded by two of one core", expected, more, "s")
    beyond(replace(costs, start=START_SECONDS), given)


def beyond(costs: Costs, given: argparse.Namespace) -> None:
    """Print what sizes nobody measured would take."""
    print(f"\n{given.rate:,.0f} images/s a worker, {given.image_kb:,.0f} kB an image, {given.width:,} features:")
    print(
        f"{'images':>14}{'workers':>9}{'plan':>10}{'compute':>10}{'assemble':>10}{'memory':>10}{'disk':>10}{'read':>11}"
    )
    for images in (10**4, 10**6, 10**8, 10**9):
        for workers in given.workers:
            found = simulated(images, workers, given.rate, costs, bytes_read=given.image_kb * 1e3)
            memory, disk = costs.memory + costs.memory_row * images, 4.0 * given.width * images
            reading = given.image_kb * 1e3 * images / found["compute"]
            times = "".join(f"{hours(seconds):>10}" for seconds in found.values())
            over = "!" if memory > MEMORY else " "
            sizes_told = f"{memory / 1e9:8,.1f}GB{over}{disk / 1e9:7,.0f}GB{reading / 1e6:7,.0f}MB/s"
            print(f"{images:14,}{workers:9,}{times}{sizes_told}", flush=True)


def hours(seconds: float) -> str:
    """Return a time as people say it."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.1f} s"


if __name__ == "__main__":
    main()
