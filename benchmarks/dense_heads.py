"""How long a dense head trains, against Keras' `fit` with the same layers, settings, rows and epochs.

    python benchmarks/dense_heads.py [MANIFEST.csv FEATURES.h5 | --rows 2000 --columns 8192 --classes 2]
                                     [--hidden 256 --dropout 0.5 --optimizer adam --batch-size 32 --epochs 10]

The features are the training and validation rows of a project, or synthetic ones as in `heads.py`, of which a tenth
validates. Both ways standardise them, train for all epochs and judge the validation rows after each. Each runs in a
process of its own, in turns, with as many threads as it likes; rows are read or drawn before its time is taken.

Printed are the medians of seconds: to import what trains, to train, and of the processors while training; then both
ways' ratio to ours, importing included and not, and the loss and accuracy on the validation rows after the last epoch.
On a machine that others use wall seconds wander: the processors' say more there.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

Split = tuple[np.ndarray, np.ndarray]


def rows(chosen: argparse.Namespace) -> tuple[Split, Split]:
    """Return what is learned from and what validates: float32 rows, and codes."""
    if chosen.manifest:
        from pipeline.features.features_file import Features
        from pipeline.photos import manifest

        parts = [manifest.read(chosen.manifest).distinct(split) for split in ("train", "val")]
        with Features(chosen.features) as stored:
            found = [stored.gather(part.digests).reshape(len(part), -1).astype(np.float32) for part in parts]
        classes = sorted(set(parts[0].labels))
        codes = [np.array([classes.index(label) for label in part.labels]) for part in parts]
        return (found[0], codes[0]), (found[1], codes[1])
    draw = np.random.default_rng(0)
    count, rank = chosen.rows + chosen.rows // 10, min(200, chosen.columns)
    y = np.arange(count) % chosen.classes
    spread = np.exp(-np.arange(rank) / 60)
    hidden = (draw.normal(size=(count, rank)) + 0.2 * draw.normal(size=(chosen.classes, rank))[y]) * spread
    X = hidden.astype(np.float32) @ draw.normal(size=(rank, chosen.columns)).astype(np.float32)
    X += 0.5 * draw.standard_normal(X.shape, np.float32)
    np.maximum(X, 0, out=X)
    return (X[: chosen.rows], y[: chosen.rows]), (X[chosen.rows :], y[chosen.rows :])


def ours(chosen: argparse.Namespace, learned: Split, held: Split) -> dict[str, float]:
    """Train our head; return the last row of its history."""
    from pipeline.heads.dense import DenseHead

    head = DenseHead(
        hidden=chosen.hidden,
        activation="relu",
        dropout=chosen.dropout,
        l1=0.0,
        l2=0.0,
        optimizer=chosen.optimizer,
        learning_rate=0.001,
        batch_size=chosen.batch_size,
        epochs=chosen.epochs,
        patience=0,
        class_weight=None,
        standardize="standard",
        seed=0,
    )
    return head.fit(*learned, held).history_[-1]


def theirs(chosen: argparse.Namespace, learned: Split, held: Split) -> dict[str, float]:
    """Train Keras' network; return what `fit` says of the last epoch."""
    import keras

    mean, scale = learned[0].mean(axis=0), learned[0].std(axis=0)
    scale[scale == 0] = 1
    (X, y), (X_held, y_held) = (((found - mean) / scale, codes) for found, codes in (learned, held))
    two = int(y.max()) == 1
    layers: list[Any] = [keras.Input((X.shape[1],))]
    layers += [keras.layers.Dense(width, activation="relu") for width in chosen.hidden]
    layers += [keras.layers.Dropout(chosen.dropout), keras.layers.Dense(1 if two else int(y.max()) + 1)]
    network = keras.Sequential(layers)
    loss = keras.losses.BinaryCrossentropy if two else keras.losses.SparseCategoricalCrossentropy
    right = keras.metrics.BinaryAccuracy if two else keras.metrics.SparseCategoricalAccuracy
    network.compile(
        chosen.optimizer,
        loss(from_logits=True),
        metrics=[right(name="accuracy", **({"threshold": 0.0} if two else {}))],
        jit_compile=chosen.xla,
    )
    told = network.fit(
        X,
        y[:, None],
        batch_size=chosen.batch_size,
        epochs=chosen.epochs,
        validation_data=(X_held, y_held[:, None]),
        validation_batch_size=1024,
        verbose=0,
    )
    return {name: values[-1] for name, values in told.history.items()}


WAYS = {"headstart": ("pipeline.heads.dense", ours), "keras": ("keras", theirs)}


def measured(chosen: argparse.Namespace) -> None:
    """Train one way and print what it took."""
    module, train = WAYS[chosen.one]
    learned, held = rows(chosen)
    begun = time.perf_counter()
    importlib.import_module(module)
    imported, cpu = time.perf_counter(), time.process_time()
    told = train(chosen, learned, held)
    wall, cpu = time.perf_counter() - imported, time.process_time() - cpu
    print(json.dumps([imported - begun, wall, cpu, told["val_loss"], told["val_accuracy"]]))


def main() -> None:
    """Print both, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, nargs="?", help="with FEATURES: a project's rows instead")
    parser.add_argument("features", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--columns", type=int, default=8192)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--hidden", type=int, nargs="*", default=[256])
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--optimizer", choices=("adam", "rmsprop", "sgd"), default="adam")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--xla", action="store_true", help="compile Keras' network with XLA")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.hidden = tuple(chosen.hidden)
    if chosen.one:
        measured(chosen)
        return
    took: dict[str, list[list[float]]] = {way: [] for way in chosen.ways}
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).parents[1])}
    for _ in range(chosen.rounds):
        for way in chosen.ways:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", way]
            ran = subprocess.run(command, env=quiet, stdout=subprocess.PIPE, text=True, check=True)
            took[way].append(json.loads(ran.stdout.splitlines()[-1]))
    medians = {way: [statistics.median(one) for one in zip(*found, strict=True)] for way, found in took.items()}
    own = medians[chosen.ways[0]]
    heads = ("import", "train", "CPU", "CPU ratio", "ratio", "with import", "val loss", "accuracy")
    print(f"{'':10}" + "".join(f"{name:>12}" for name in heads))
    for way, (imported, wall, cpu, loss, accuracy) in medians.items():
        ratios = cpu / own[2], wall / own[1], (imported + wall) / (own[0] + own[1])
        values = "".join(f"{value:12.2f}" for value in (imported, wall, cpu, *ratios))
        print(f"{way:10}{values}{loss:12.4f}{accuracy:12.3f}", flush=True)


if __name__ == "__main__":
    main()
