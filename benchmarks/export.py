"""Does every format of every kind of base do what the model does? The parity table of docs/measurements.md.

    python benchmarks/export.py --images DIR [--sample 400 --bases vgg16@150,resnet50@224 --quantize none]

DIR holds photos in class folders, or train and test folders with class folders inside. For each base, a logistic head
is trained on some training photos, joined with the base, exported in all formats, and each of them is run on test
photos by its own runtime in a process of its own. Bases have random weights, but for EfficientNet-Lite0, whose weights
are here. Latencies are of this machine, and of one image at a time as it comes, resize included.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.photos import manifest

BASES = "efficientnet_lite0@224,mobilenet_v2@160,vgg16@150,resnet50@224,efficientnet_b0@224,xception@150"
FEW = {"train": 60, "val": 50}  # images that a head is trained on, and calibrated
WITH_WEIGHTS = ("efficientnet_lite0",)


def headstart(command: str, *arguments: object) -> None:
    """Run a command; its errors end the benchmark."""
    subprocess.run(
        [sys.executable, "-m", "stages", command, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL
    )


def prepared(photos: Path, work: Path) -> tuple[Path, Path]:
    """Write the manifest of all photos, and that of the few that heads are trained on."""
    whole, few = work / "manifest.csv", work / "few.csv"
    headstart("prepare", photos, whole, "--stratify")
    table = manifest.read(whole)
    places = []
    for split, count in FEW.items():
        found = [place for place, of in enumerate(table.splits) if of == split]
        places += found[:: max(1, len(found) // count)][:count]
    manifest.write(table.take(places), few)
    return whole, few


def exported(photos: Path, whole: Path, few: Path, base: str, options: list[object], work: Path) -> Path:
    """Train a head on a base, join both, export the model in all formats, and return the folder."""
    name, _, size = base.partition("@")
    weights = ["--weights", "imagenet" if name in WITH_WEIGHTS else "none"]
    cache = ["--cache", work / "cache"]
    # Random bases end in numbers that float16 does not hold.
    seen = ["--backbone", name, "--size", size, "--dtype", "float32"]
    headstart("extract", photos, few, work / "features.h5", *seen, *weights, *cache)
    # What a random base tells is so little that calibrated probabilities would all be one half.
    calibrated = ["--calibrate", "temperature" if name in WITH_WEIGHTS else "none"]
    headstart("train", few, work / "features.h5", work / "head", "--C", 1, *calibrated)
    headstart("finetune", photos, few, work / "features.h5", work / "head", work / "model", *weights, *cache)
    compared = ["--images", photos, "--manifest", whole, *options, *cache]
    headstart("export", work / "model", work / "out", "--format", "all", *compared)
    return work / "out"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--sample", type=int, default=400)
    parser.add_argument("--bases", default=BASES)
    parser.add_argument("--quantize", default="all")
    arguments = parser.parse_args()
    print("| base | format | images | labels agree | largest difference | accuracy | ms an image | MB |")
    print("|---|---|---:|---:|---:|---|---:|---:|")
    options = ["--sample", arguments.sample, "--quantize", arguments.quantize]
    with tempfile.TemporaryDirectory() as folder:
        whole, few = prepared(arguments.images, Path(folder))
        for base in arguments.bases.split(","):
            out = exported(arguments.images, whole, few, base, options, Path(folder) / base)
            with (out / "parity.csv").open(newline="") as file:
                for row in csv.DictReader(file):
                    print(_line(base, row), flush=True)


def _line(base: str, row: dict[str, str]) -> str:
    differences = (row["largest_difference"], row["largest_difference_from_files"] or "0")
    accuracy, low, high = (float(row[f"accuracy{end}"]) for end in ("", "_low", "_high"))
    return (
        f"| {base} | {row['format']} | {row['images']} | {row['agreeing']} of {row['clear']} "
        f"| {max(map(float, differences)):.1e} | {accuracy:.3f} [{low:.3f}, {high:.3f}] "
        f"| {float(row['milliseconds']):.1f} | {float(row['megabytes']):.1f} |"
    )


if __name__ == "__main__":
    main()
