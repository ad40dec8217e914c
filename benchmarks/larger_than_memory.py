"""Train on a features file that does not fit in memory: peak memory and seconds, and whether the head is the same.

    python benchmarks/larger_than_memory.py FOLDER [--gigabytes 10 --columns 2048 --memory 1GB --heads logistic ridge …]

Writes FOLDER/manifest.csv and FOLDER/features.h5, synthetic float32 features of this size and of a tenth of it, unless
they are there. Each head is then trained by `headstart train` in a process of its own, whose peak of resident memory is
read: on the large file with --memory, and on the tenth both with --memory a tenth and without a bound. Of the two heads
of the tenth, the largest difference of a probability on its first 2,000 rows is printed.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.features import features_file
from pipeline.heads import store
from pipeline.photos import manifest

BLOCK = 8192
SPEC = {"synthetic": "larger_than_memory"}


def write(folder: Path, rows: int, columns: int, classes: int) -> None:
    """Write a manifest and its features; a class is a centre, two rows in ten are for validation and for the test."""
    if (folder / "features.h5").exists():
        with features_file.Features(folder / "features.h5") as file:
            if (len(file), file.row_shape) == (rows, (columns,)):
                return
        raise SystemExit(f"{folder}: expected features of {rows:,} x {columns:,}, found others; remove them")
    folder.mkdir(parents=True, exist_ok=True)
    digests = np.frombuffer(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(rows)), np.uint8)
    digests = digests.reshape(-1, 32)[np.lexsort(digests.reshape(-1, 32).T[::-1])]
    codes = digests[:, 5].astype(np.int64) % classes
    splits = np.array(["train"] * 8 + ["val", "test"])[digests[:, 9] % 10]
    sides = np.full(rows, 8, np.int32)
    manifest.write(
        manifest.Manifest(
            paths=[f"{place}.png" for place in range(rows)],
            digests=digests,
            labels=[f"class {code}" for code in codes],
            splits=splits.tolist(),
            widths=sides,
            heights=sides,
            formats=["PNG"] * rows,
        ),
        folder / "manifest.csv",
    )
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(64, columns)).astype(np.float32) * 0.3
    centres = draw.normal(size=(classes, columns)).astype(np.float32) * 0.06

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, rows, BLOCK):
            own = codes[start : start + BLOCK]
            hidden = draw.standard_normal((len(own), 64), np.float32) @ mixing + centres[own]
            yield np.maximum(hidden + draw.standard_normal((len(own), columns), np.float32), 0)

    features_file.write(
        folder / "features.h5",
        spec=json.dumps(SPEC),
        digests=digests,
        row_shape=(columns,),
        dtype="float32",
        blocks=blocks(),
    )


def train(folder: Path, head: str, memory: str, out: Path) -> tuple[float, int, str]:
    """Return seconds, peak resident bytes and what the command printed, for one head in a process of its own."""
    options = {"dense": ["--hidden", "64", "--epochs", "1", "--patience", "0", "--batch-size", "1024"]}.get(head, [])
    command = [sys.executable, "-m", "stages", "train", folder / "manifest.csv", folder / "features.h5", out]
    command += ["--head", head, "--memory", memory, *options]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{head}: exit status {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - started, usage.ru_maxrss * unit, printed.strip().splitlines()[-1]


def main() -> None:
    """Print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--columns", type=int, default=2048)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--heads", nargs="+", default=["logistic", "ridge", "centroid", "dense"])
    parser.add_argument("--skip-large", action="store_true", help="only the tenth")
    parser.add_argument("--skip-tenth", action="store_true", help="only the large file")
    chosen = parser.parse_args()
    rows = int(chosen.gigabytes * 1e9 / (4 * chosen.columns))
    print(f"{'head':10}{'rows':>12}{'GB':>7}{'--memory':>10}{'seconds':>9}{'peak MB':>9}  printed")

    def line(folder: Path, count: int, head: str, memory: str) -> Path:
        out = folder / f"{head}-{memory}"
        seconds, peak, printed = train(folder, head, memory, out)
        size = count * chosen.columns * 4 / 1e9
        shown = printed.partition(" -> ")[0]
        print(f"{head:10}{count:12,}{size:7.2f}{memory:>10}{seconds:9.1f}{peak / 1e6:9,.0f}  {shown}", flush=True)
        return out

    if not chosen.skip_tenth:
        tenth = chosen.folder / "tenth"
        write(tenth, rows // 10, chosen.columns, chosen.classes)
        with features_file.Features(tenth / "features.h5") as file:
            first = file.gather(file.digests[:2000])
        for head in chosen.heads:
            pair = [line(tenth, rows // 10, head, memory) for memory in ("100MB", "1TB")]
            one, other = (store.load(folder)[0].predict_proba(first) for folder in pair)
            print(f"{'':10}largest difference of a probability: {np.abs(one - other).max():.1e}", flush=True)
    if not chosen.skip_large:
        write(chosen.folder / "large", rows, chosen.columns, chosen.classes)
        for head in chosen.heads:
            line(chosen.folder / "large", rows, head, chosen.memory)
    print(f"this process, which wrote the files: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")


if __name__ == "__main__":
    main()
