"""What workers bring on this machine, and what a task costs.

    python benchmarks/scaling.py --images DIR [--count 400 --rounds 3 --backbone efficientnet_lite0 --size 224]

DIR holds photos, in folders or not. In one run, executors taking turns, each figure a median of the rounds:

* images a second from photos on disk to rows in the cache, start-up left out: for the base, and for a network that
  costs nothing, where decoding is the limit. Beside each, its ratio to one process without workers.
* milliseconds that a task costs whoever hands it out: there and back with nothing to do; and with one tiny image,
  which has a range to lock and a shard to write, fsync and read back.
"""

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pipeline.features import extract
from pipeline.features.extract import ExtractResult
from pipeline.features.resolve import Plan
from pipeline.features.settings import ExecutorSettings, ExtractSettings
from pipeline.features.workers import retry
from pipeline.features.workers.executors.executor import Executor, open_executor
from pipeline.photos import manifest

SUFFIXES = (".jpg", ".jpeg", ".png")
CREWS = {"local": ("local", None), "1 dask": ("dask", 1), "2 dask": ("dask", 2)}
TASKS = 300


class NoCostEngine:
    """Features at once."""

    row_shape = (1280,)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield (n, 1280) float32."""
        for batch in batches:
            yield np.zeros((len(batch), *self.row_shape), np.float32)


def no_cost(_: Plan) -> NoCostEngine:
    """Open the network that costs nothing."""
    return NoCostEngine()


def write_manifest(root: Path, paths: list[Path], out: Path) -> None:
    """List some photos, each in the train split."""
    rows = [
        manifest.Row(
            path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).digest(), "a", "train", 1, 1, ""
        )
        for path in paths
    ]
    manifest.write(manifest.from_rows(rows), out)


def nothing(_: object, advance: Callable[[int], None] | None = None) -> SimpleNamespace:
    """Be a task that does nothing."""
    return SimpleNamespace(computed=0)


class Bench:
    """Photos, a cache that is emptied of rows before each run, and the plan."""

    def __init__(self, root: Path, folder: Path, settings: ExtractSettings) -> None:
        self.root, self.folder, self.settings = root, folder, settings

    def rate(self, crew: Executor, engine: Any) -> float:
        """Extract, and return the images a second that the report gives."""
        return self.extract(crew, engine).images_per_second

    def extract(self, crew: Executor, engine: Any) -> ExtractResult:
        """Compute every row anew."""
        cache = self.folder / ("cache" if engine is None else "cache of a network that costs nothing")
        shutil.rmtree(cache / "rows", ignore_errors=True)
        return extract.extract(
            self.root,
            self.folder / "manifest.csv",
            self.folder / "features.h5",
            replace(self.settings, cache=cache),
            progress=lambda done, total: None,
            by=extract.By(crew, engine),
        )


def rates(bench: Bench, crews: dict[str, Executor], engine: Any, rounds: int) -> dict[str, float]:
    """Return the median rate of each, after a round that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in crews}
    for number in range(rounds + 1):
        for name, crew in crews.items():
            rate = bench.rate(crew, engine)
            if number:
                found[name].append(rate)
    return {name: statistics.median(values) for name, values in found.items()}


def round_trip(crew: Executor) -> float:
    """Return the milliseconds that a task costs which does nothing."""
    for count in (10, TASKS):
        started = time.perf_counter()
        for _ in crew.run(nothing, iter(range(count)), stored=lambda _: 0, advance=lambda _: None):
            pass
    return (time.perf_counter() - started) / TASKS * 1000


def tiny_task(crew: Executor, folder: Path, settings: ExtractSettings) -> float:
    """Return the milliseconds that a task of one tiny image costs."""
    retry.TASK_IMAGES = retry.LEAST_TASK_IMAGES = 1  # type: ignore[misc]
    bench = Bench(folder / "tiny", folder, settings)
    bench.extract(crew, no_cost)
    started = time.perf_counter()
    bench.extract(crew, no_cost)
    return (time.perf_counter() - started) / TASKS * 1000


def write_tiny(folder: Path) -> list[Path]:
    """Write images of 8 x 8 pixels."""
    folder.mkdir()
    for number in range(TASKS):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    settings = ExtractSettings(
        backbone=arguments.backbone,
        size=arguments.size,
        precision=arguments.precision,
        dtype="float16",
    )
    photos = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in SUFFIXES)[: arguments.count]
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        folder = Path(name)
        crews = {
            label: opened.enter_context(open_executor(ExecutorSettings(executor=kind, workers=n, task_timeout=600.0)))
            for label, (kind, n) in CREWS.items()
        }
        write_manifest(arguments.images, photos, folder / "manifest.csv")
        bench = Bench(arguments.images, folder, settings)
        columns = {
            f"{arguments.backbone} @{arguments.size}": rates(bench, crews, None, arguments.rounds),
            "decoding alone": rates(bench, crews, no_cost, arguments.rounds),
        }
        print(f"{len(photos):,} photos, images a second and the ratio to one process without workers")
        print(f"{'':14}" + "".join(f"{title:>26}" for title in columns))
        for label in crews:
            cells = [f"{found[label]:8.1f} ({found[label] / found['local']:.2f})" for found in columns.values()]
            print(f"{label:14}" + "".join(f"{cell:>26}" for cell in cells))
        write_manifest(folder / "tiny", write_tiny(folder / "tiny"), folder / "manifest.csv")
        print(f"\nmilliseconds a task, of {TASKS}: with nothing to do; with one tiny image to read, lock and store")
        for label, crew in crews.items():
            print(f"{label:14}{round_trip(crew):10.2f}{tiny_task(crew, folder, settings):10.2f}", flush=True)


if __name__ == "__main__":
    main()
