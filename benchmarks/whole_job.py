"""The whole job, from a folder of photos to the accuracy on its test split: the notebook's way against ours.

    python benchmarks/whole_job.py --images DIR [--epochs 10] [--rounds 1]
    python benchmarks/whole_job.py --images DIR --backbone mobilenet_v2 --size 160 --weights FILE
        --ways notebook float32 --finetune="--cut block-1 --epochs 5" --finetune="--cut block-4 --epochs 5"

DIR holds train and test folders with class folders inside. Both get the same files in the same split and the same
network with the same weights, and each runs in processes of its own, start-up and all, with empty caches.

The notebook's way: tf.data reads the photos, the frozen base and a new dense layer are one model, and `fit` runs all
of it over every photo in every epoch; then `evaluate`. Ours: `headstart prepare`, `extract`, `train`, `evaluate`, in
turn. Each `--finetune` then goes on from the head of the way before it, by `headstart finetune` and `evaluate`, whose
time alone is its own. Printed are seconds, CPU seconds, how often the notebook's CPU seconds hold ours, and the
accuracy on the test split with its 95 % interval.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VAL_FRACTION = 0.1
WAYS = ("notebook", "float32", "bfloat16")


def notebook(images: Path, backbone_name: str, size: int, weights_name: str, epochs: int) -> float:
    """Train as the tutorials do, in this process; return the accuracy on the test split."""
    import keras
    import tensorflow as tf

    from pipeline.backbones import cutting, table
    from pipeline.backbones.weights import find_weights, load

    def dataset(split: str, part: str | None) -> tf.data.Dataset:
        named = {"validation_split": VAL_FRACTION, "subset": part, "seed": 0} if part else {}
        return keras.utils.image_dataset_from_directory(
            images / split, image_size=(size, size), batch_size=32, shuffle=split == "train", verbose=False, **named
        ).prefetch(tf.data.AUTOTUNE)

    backbone = table.find(backbone_name)
    weights = find_weights(backbone, weights_name, size=size, alpha=1.0, seed=0)
    base = load(backbone, size=size, alpha=1.0, weights=weights)
    trunk = cutting.trunk(backbone, base, cut=table.resolve_cut(backbone, "top"), pooling="avg")
    trunk.trainable = False
    pixels = keras.Input((size, size, 3))
    outputs = keras.layers.Dense(1)(trunk(keras.ops.cast(pixels, "uint8"), training=False))
    model = keras.Model(pixels, outputs)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=[keras.metrics.BinaryAccuracy(threshold=0)])
    model.fit(dataset("train", "training"), validation_data=dataset("train", "validation"), epochs=epochs, verbose=0)
    return float(model.evaluate(dataset("test", None), verbose=0)[1])


def headstart(folder: Path, *commands: tuple[str | Path, ...]) -> float:
    """Run commands of ours, the last of which evaluates into `folder`/out; return the accuracy on the test split."""
    for command in commands:
        subprocess.run([sys.executable, "-m", "stages", *map(str, command)], check=True, capture_output=True)
    return float(json.loads((folder / "out" / "metrics.json").read_text())["accuracy"])


def run(way: str, arguments: argparse.Namespace, folder: Path) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and accuracy of a way, in processes of its own."""
    images, manifest, features, head, out, model = (
        arguments.images,
        *(folder / name for name in ("manifest.csv", "features.h5", "head", "out", "model")),
    )
    cache = ("--cache", folder / "cache")
    started, used = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    if way == "notebook":
        command = [sys.executable, __file__, "--notebook", *sys.argv[1:]]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        accuracy = float(found.stdout.split()[-1])
    elif way.startswith("--"):
        shutil.rmtree(model, ignore_errors=True)
        accuracy = headstart(
            folder,
            ("finetune", images, manifest, features, head, model, *way.split(), *cache),
            ("evaluate", images, manifest, features, model, out, *cache),
        )
    else:
        base = ("--backbone", arguments.backbone, "--size", arguments.size, "--weights", arguments.weights)
        accuracy = headstart(
            folder,
            ("prepare", images, manifest, "--val-fraction", VAL_FRACTION),
            ("extract", images, manifest, features, *base, "--precision", way, *cache),
            ("train", manifest, features, head, "--C", "0.01"),
            ("evaluate", images, manifest, features, head, out, *cache),
        )
    spent = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - used
    return time.perf_counter() - started, spent, accuracy


def round_of(ways: list[str], arguments: argparse.Namespace) -> list[tuple[float, float, float]]:
    """Run every way once; what fine-tunes takes over the folder of the way before it."""
    with tempfile.TemporaryDirectory() as name:
        found, folder = [], Path(name)
        for place, way in enumerate(ways):
            if not way.startswith("--"):
                folder = Path(name) / str(place)
                folder.mkdir()
            found.append(run(way, arguments, folder))
            print(way, *(f"{value:.4f}" for value in found[-1]), file=sys.stderr, flush=True)
        return found


def _possible(ways: Sequence[str]) -> list[str]:
    """Return the ways that this machine can go; say of the others why not."""
    from pipeline.backbones.engines import engine

    known = engine.precisions(engine.choose("auto"))
    for way in set(ways) - {"notebook", *known}:
        print(f"left out, {way}: this processor has no such arithmetic")
    return [way for way in ways if way in ("notebook", *known)]


def main() -> None:
    """Measure and print."""
    from pipeline.stats.intervals import proportion

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--weights", default="imagenet", help="as in `headstart extract`")
    parser.add_argument("--epochs", type=int, default=10, help="of the notebook")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--finetune", action="append", default=[], metavar="OPTIONS", help="of `headstart finetune`")
    parser.add_argument("--notebook", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.notebook:
        print(notebook(arguments.images, arguments.backbone, arguments.size, arguments.weights, arguments.epochs))
        return
    images = sum(path.is_file() for path in (arguments.images / "test").rglob("*"))
    ways = [*_possible(arguments.ways), *arguments.finetune]
    rounds = [round_of(ways, arguments) for _ in range(arguments.rounds)]
    print(f"{arguments.backbone} at {arguments.size} px, {arguments.epochs} epochs, {os.cpu_count()} cores")
    print(f"{'':60}{'seconds':>9}{'CPU':>9}{'ratio':>8}  accuracy")
    for place, way in enumerate(ways):
        seconds, spent, accuracy = (statistics.median(one[place][i] for one in rounds) for i in range(3))
        ratio = statistics.median(one[0][1] / one[place][1] for one in rounds)
        low, high = proportion(round(accuracy * images), images)
        print(f"{way:60}{seconds:9.1f}{spent:9.1f}{ratio:8.1f}  {accuracy:.4f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
