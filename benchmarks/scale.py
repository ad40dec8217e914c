"""How extraction grows to a million rows: seconds and peak memory, with a network that costs nothing.

    python benchmarks/scale.py [--rows 100000 1000000] [--width 1280]

For each count, in processes of their own: the first run, a run that has nothing to do, one after a thousand rows were
added to the manifest, and one pass over the features in blocks. The photos exist in memory only, each a small bitmap
made from its number, so that reading, hashing and decoding are real and no disk is filled with files. The rows and
the features are real files: 2 bytes a value, twice.

Printed are seconds, microseconds a row, and the process' peak memory. Where a count grows tenfold, microseconds a row
show whether a step grows faster than the rows, and memory what is held for each of them: digest, path, label.
"""

import argparse
import hashlib
import io
import resource
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 8
ADDED = 1000
ROWS_AT_ONCE = 8192
HEADER = struct.pack("<2sIHHI IiiHHIIiiII", b"BM", 54 + 3 * SIDE**2, 0, 0, 54, 40, SIDE, SIDE, 1, 24, 0, 0, 0, 0, 0, 0)


def bitmap(number: int) -> bytes:
    """Return a bitmap of 8 x 8 pixels that no other number has."""
    return HEADER + number.to_bytes(8, "little").ljust(3 * SIDE**2, b"\x80")


class NoCostEngine:
    """Features at once: the pixels' bytes, over and over."""

    def __init__(self, width: int) -> None:
        self.row_shape = (width,)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield (n, width) float32."""
        for batch in batches:
            yield np.resize(batch.reshape(len(batch), -1), (len(batch), *self.row_shape)).astype(np.float32)


def write_manifest(path: Path, rows: int, photo: Callable[[int], bytes] = bitmap) -> None:
    """Write a manifest of that many numbered photos."""
    with path.open("w", encoding="utf-8") as file:
        file.write("path,digest,label,split,width,height,format\n")
        for number in range(rows):
            digest = hashlib.sha256(photo(number)).hexdigest()
            split = ("test", "val", "train")[min(number % 10, 2)]
            file.write(f"{number % 2}/{number}.bmp,{digest},{number % 2},{split},{SIDE},{SIDE},BMP\n")


def opened(width: int, plan: Any) -> NoCostEngine:
    """Open the network in whichever process it is for, and let photos be made there instead of read."""
    from pipeline.photos import decode

    decode.read_bytes = lambda path: bitmap(int(path.stem))
    return NoCostEngine(width)


@cache
def coarse() -> bytes:
    """Return a JPEG of 500 x 375 pixels of about the size that photos have."""
    colours = np.random.default_rng(0).integers(0, 256, (47, 63, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def photo(number: int) -> bytes:
    """Return that JPEG with a number at its end, so that no other has its digest."""
    return coarse() + number.to_bytes(8, "little")


def developed(width: int, plan: Any) -> NoCostEngine:
    """Open the network, with photos whose decoding is what takes the time."""
    from pipeline.photos import decode

    decode.read_bytes = lambda path: photo(int(path.stem))
    return NoCostEngine(width)


def extract(folder: Path, width: int, network: Any = opened, executor: Any = None) -> str:
    """Run `headstart extract` as it is, but for the photos and the network."""
    from pipeline.features import extract
    from pipeline.features.settings import ExtractSettings

    settings = ExtractSettings(
        backbone="mobilenet",
        weights="none",
        size=32,
        dtype="float16",
        cache=folder / "cache",
    )
    done = extract.extract(
        folder,
        folder / "manifest.csv",
        folder / "features.h5",
        settings,
        progress=lambda done, total: None,
        by=extract.By(executor, partial(network, width)),
    )
    return f"{done.computed:,} computed at {done.images_per_second:.1f}"


def stream(folder: Path, _: int) -> str:
    """Read every feature once, in blocks, as training does."""
    from pipeline.features.features_file import Features

    with Features(folder / "features.h5") as features:
        starts = range(0, len(features), ROWS_AT_ONCE)
        return f"{sum(len(features.read(start, start + ROWS_AT_ONCE)) for start in starts):,} read"


def work(task: Any, folder: Path, width: int, pipe: Connection) -> None:
    """Do a task in this process; send its seconds, its peak memory in MB, and what it did."""
    started = time.perf_counter()
    what = task(folder, width)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    pipe.send((time.perf_counter() - started, peak, what))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--folder", type=Path, help="where the files go for a while; the system's place if not given")
    arguments = parser.parse_args()
    print(f"{'rows':>9}  {'':14}{'seconds':>9}{'us a row':>10}{'peak MB':>9}")
    for rows in arguments.rows:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            write_manifest(Path(folder) / "manifest.csv", rows)
            for name, task in (("first run", extract), ("nothing to do", extract), ("a pass", stream)):
                show(rows, name, task, Path(folder), arguments.width)
            write_manifest(Path(folder) / "manifest.csv", rows + ADDED)
            show(rows, f"{ADDED:,} more", extract, Path(folder), arguments.width)


def show(rows: int, name: str, task: Any, folder: Path, width: int) -> None:
    """Run a task in a new process and print its line."""
    seconds, peak, what = measured(task, folder, width)
    print(f"{rows:9,}  {name:14}{seconds:9.1f}{seconds / rows * 1e6:10.1f}{peak:9,.0f}  {what}", flush=True)


def measured(task: Any, folder: Path, width: int) -> tuple[float, float, str]:
    """Run a task in a new process; return its seconds, its peak memory in MB, and what it did."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(task, folder, width, theirs))
    process.start()
    theirs.close()
    found: tuple[float, float, str] = ours.recv()
    process.join()
    return found


if __name__ == "__main__":
    main()
