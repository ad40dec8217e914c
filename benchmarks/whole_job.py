"""The whole job, from a folder of photos to the accuracy on its test split: the notebook's way against ours.

    python benchmarks/whole_job.py --images DIR [--epochs 10] [--rounds 1]

DIR holds train and test folders with class folders inside. Both get the same files in the same split and the same
network with the same weights, and each runs in processes of its own, start-up and all, with empty caches.

The notebook's way: tf.data reads the photos, the frozen base and a new dense layer are one model, and `fit` runs all
of it over every photo in every epoch; then `evaluate`. Ours: `headstart prepare`, `extract`, `train`, `evaluate`, in
turn. Printed are seconds, how often the notebook's seconds hold ours, and the accuracy on the test split.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VAL_FRACTION = 0.1
WAYS = ("notebook", "float32", "bfloat16")


def notebook(images: Path, backbone_name: str, size: int, epochs: int) -> float:
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
    weights = find_weights(backbone, "imagenet", size=size, alpha=1.0, seed=0)
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


def headstart(images: Path, backbone: str, size: int, precision: str, folder: Path) -> float:
    """Run our four commands; return the accuracy on the test split."""
    manifest, features, head, out = (str(folder / name) for name in ("manifest.csv", "features.h5", "head", "out"))
    base = ("--backbone", backbone, "--size", str(size), "--precision", precision, "--cache", str(folder / "cache"))
    for command in (
        ("prepare", str(images), manifest, "--val-fraction", str(VAL_FRACTION)),
        ("extract", str(images), manifest, features, *base),
        ("train", manifest, features, head, "--C", "0.01"),
        ("evaluate", str(images), manifest, features, head, out),
    ):
        subprocess.run([sys.executable, "-m", "stages", *command], check=True, capture_output=True)
    return float(json.loads((folder / "out" / "metrics.json").read_text())["accuracy"])


def run(way: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return seconds and accuracy of a way, in a process of its own."""
    started = time.perf_counter()
    if way == "notebook":
        command = [sys.executable, __file__, "--notebook", *sys.argv[1:]]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        accuracy = float(found.stdout.split()[-1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            accuracy = headstart(arguments.images, arguments.backbone, arguments.size, way, Path(folder))
    return time.perf_counter() - started, accuracy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--notebook", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.notebook:
        print(notebook(arguments.images, arguments.backbone, arguments.size, arguments.epochs))
        return
    rounds = [[run(way, arguments) for way in WAYS] for _ in range(arguments.rounds)]
    print(f"{arguments.backbone} at {arguments.size} px, {arguments.epochs} epochs, {os.cpu_count()} cores")
    print(f"{'':10}{'seconds':>9}{'ratio':>8}{'accuracy':>10}")
    for place, way in enumerate(WAYS):
        seconds = statistics.median(one[place][0] for one in rounds)
        ratio = statistics.median(one[0][0] / one[place][0] for one in rounds)
        print(f"{way:10}{seconds:9.1f}{ratio:8.1f}{statistics.median(one[place][1] for one in rounds):10.4f}")


if __name__ == "__main__":
    main()
