"""How long an epoch of fine-tuning takes from cached activations, against the usual partly frozen Keras model.

    python benchmarks/finetuning.py --images DIR [--backbone NAME --size PX --cut LAYER --limit N --epochs N]

Both train the same layers, from the same head, on the same pixels in the same order, with plain SGD and batch
normalisation in inference mode, and judge the validation images after each epoch. The usual way is that of Keras' own
guide: layers below the cut are not trainable, the base is in inference mode, `tf.data` decodes in parallel
and prefetches, `Model.fit` trains; `--jit` says whether it is compiled by XLA.

"tail alone" is the limit: the same steps on one batch that stays in memory, in a bare `tf.function`, with nothing read,
shuffled, summed or kept.

Each way runs in a process of its own, and they take turns, so that a change of the machine's speed meets
all. The first epoch, which traces and compiles, is not counted. Decoding counts where it happens: in every epoch of
the usual way, and once in ours, which is printed as the extraction. Where other work disturbs the clock, look at the
CPU seconds.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from extraction import answer

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SEED = 0
Row = dict[str, float]
LOSSES = ("loss", "val_loss")


class Job:
    """What both ways are given."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.images: Path = arguments.images
        self.backbone: str = arguments.backbone
        self.size: int = arguments.size
        self.weights: str = arguments.weights
        self.cut: str = arguments.cut
        self.limit: int = arguments.limit
        self.epochs: int = arguments.epochs
        self.batch_size: int = arguments.batch_size
        self.learning_rate: float = arguments.learning_rate
        self.jit: bool = arguments.jit
        self.folder = folder

    @property
    def manifest(self) -> Path:
        """The manifest of the images that are used."""
        return self.folder / "manifest.csv"

    def prepare(self) -> None:
        """Make manifest, features and head."""
        from pipeline.features import extract
        from pipeline.features.settings import ExtractSettings
        from pipeline.heads import train
        from pipeline.heads.logistic import LogisticHead
        from pipeline.heads.resolve import Training
        from pipeline.photos import manifest, prepare
        from pipeline.photos.settings import PrepareSettings

        prepare.prepare(
            self.images,
            self.folder / "all.csv",
            PrepareSettings(val_fraction=0.2),
            progress=lambda done, total: None,
        )
        table = manifest.read(self.folder / "all.csv")
        used = [place for place, split in enumerate(table.splits) if split != "test"]
        chosen = np.random.default_rng(SEED).permutation(used)[: self.limit]
        manifest.write(table.take(sorted(chosen.tolist())), self.manifest)
        extract.extract(
            self.images,
            self.manifest,
            self.folder / "features.h5",
            ExtractSettings(**vars(self.plan().settings), cache=self.folder / "cache"),
            progress=lambda done, total: None,
        )
        head = LogisticHead(C=0.01, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=SEED)
        train.fit(self.manifest, self.folder / "features.h5", self.folder / "head", Training(head=head))

    def plan(self) -> Any:
        """Return the plan of the features under the head."""
        from pipeline.features import resolve
        from pipeline.features.settings import FeatureSettings

        settings = FeatureSettings(
            backbone=self.backbone,
            weights=self.weights,
            weights_seed=SEED,
            size=self.size,
            dtype="float32",
        )
        return resolve.plan(settings)


def cached(job: Job) -> Iterator[Row]:
    """Train tail and head from activations, as `headstart finetune` does; first yield the seconds of the extraction."""
    from pipeline.models.finetuning import finetune
    from pipeline.models.finetuning.settings import FinetuneSettings, TuningSettings

    def run(epochs: int, told: Callable[[Row], None]) -> Any:
        tuning = TuningSettings(
            epochs=epochs,
            cut=job.cut,
            optimizer="sgd",
            learning_rate=job.learning_rate,
            batch_size=job.batch_size,
            patience=0,
            seed=SEED,
        )
        settings = FinetuneSettings(tuning=tuning, weights=job.weights, cache=job.folder / "cache")
        files = job.manifest, job.folder / "features.h5", job.folder / "head", job.folder / f"model-{epochs}"
        return finetune.finetune(job.images, *files, settings, finetune.Callbacks(told=told))

    yield {"extraction": run(1, lambda row: None).extraction_seconds}
    # The loop is the library's, so it runs in a thread that stops where this generator does.
    from queue import Queue
    from threading import Thread

    rows: Queue[Row | Exception] = Queue()
    turns: Queue[None] = Queue()

    def told(row: Row) -> None:
        rows.put(row)
        turns.get()

    def trained() -> None:
        try:
            run(job.epochs, told)
        except Exception as error:  # noqa: BLE001  (it is raised where the rows are taken)
            rows.put(error)

    Thread(target=trained, daemon=True).start()
    for _ in range(job.epochs):
        if isinstance(row := rows.get(), Exception):
            raise row
        yield row
        turns.put(None)


def ordinary(job: Job) -> Iterator[Row]:
    """Train the whole network with its lower layers frozen, from pixels."""
    import keras
    import tensorflow as tf

    from pipeline.backbones import weights
    from pipeline.backbones.table import resolve_cut
    from pipeline.heads import store
    from pipeline.models import assemble
    from pipeline.photos import decode, manifest

    plan = job.plan()
    base = weights.load(plan.backbone, size=job.size, alpha=1.0, weights=plan.weights)
    names = [layer.name for layer in base.layers]
    for layer in base.layers[: names.index(resolve_cut(plan.backbone, job.cut)) + 1]:
        layer.trainable = False
    head, record = store.load(job.folder / "head")

    class Inferring(keras.Model):
        """In Keras 3.15 the `training=True` of `fit` overrules the `training=False` of the base; here it does not."""

        def call(self, *given: Any, **named: Any) -> Any:
            return super().call(*given, **named | {"training": False})

    inputs = keras.Input((job.size, job.size, 3))
    x = base(plan.backbone.preprocess(inputs), training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = Inferring(inputs, assemble.head_network(head.stack())(x))
    if len(record["classes"]) == 2:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(job.learning_rate), loss, jit_compile=job.jit)
    table = manifest.read(job.manifest)

    def decoded(path: bytes) -> np.ndarray:
        return decode.fit((job.images / path.decode()).read_bytes(), size=job.size, geometry="squash")

    def load(path: Any, code: Any) -> Any:
        pixels = tf.ensure_shape(tf.numpy_function(decoded, [path], tf.uint8), (job.size, job.size, 3))
        return tf.cast(pixels, tf.float32), code

    def dataset(split: str, epoch: int | None) -> Any:
        part = table.distinct(split)
        order = np.arange(len(part)) if epoch is None else np.random.default_rng((SEED, epoch)).permutation(len(part))
        codes = np.array([record["classes"].index(part.labels[place]) for place in order], np.float32)
        paths = tf.data.Dataset.from_tensor_slices(([part.paths[place] for place in order], codes[:, None]))
        return paths.map(load, tf.data.AUTOTUNE).batch(job.batch_size).prefetch(tf.data.AUTOTUNE)

    yield {}
    for epoch in range(1, job.epochs + 1):
        found = model.fit(dataset("train", epoch), validation_data=dataset("val", None), verbose=0).history
        yield {name: values[0] for name, values in found.items()}


def alone(job: Job) -> Iterator[Row]:
    """Take as many steps on activations that are zero: what no way of feeding the same steps can undercut."""
    from pipeline.models.finetuning import devices

    devices.import_tensorflow()
    import keras
    import tensorflow as tf

    from pipeline.backbones import cutting, tails, weights
    from pipeline.heads import store
    from pipeline.models import assemble
    from pipeline.photos import manifest

    plan = job.plan()
    base = weights.load(plan.backbone, size=job.size, alpha=1.0, weights=plan.weights)
    trunk = cutting.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling="avg")
    tail = tails.tail(plan.backbone, trunk, cut=job.cut)
    stack = store.load(job.folder / "head")[0].stack()
    head = assemble.head_network(stack)
    learned = tail.trainable_variables + head.trainable_variables
    optimizer = keras.optimizers.SGD(job.learning_rate)
    optimizer.build(learned)
    two = len(stack.biases[-1]) == 1
    loss_of = (keras.losses.BinaryCrossentropy if two else keras.losses.SparseCategoricalCrossentropy)(from_logits=True)

    @tf.function(reduce_retracing=True)
    def judged(rows: Any) -> Any:
        return loss_of(tf.zeros((tf.shape(rows)[0], 1)), head(tail(rows, training=False)))

    @tf.function(reduce_retracing=True)
    def step(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = judged(rows)
        optimizer.apply(tape.gradient(loss, [variable.value for variable in learned]), learned)
        return loss

    table = manifest.read(job.manifest)
    row = tf.zeros(tail.input.shape[1:])
    batches = {}
    for split in ("train", "val"):
        sizes = np.diff([*range(0, count := len(table.distinct(split)), job.batch_size), count])
        batches[split] = [tf.repeat(row[None], size, axis=0) for size in sizes]
    yield {}
    for _ in range(job.epochs):
        for batch in batches["train"]:
            loss = step(batch)
        for batch in batches["val"]:
            judged(batch)
        yield {"loss": float(loss)}


WAYS = {"cached tail": cached, "partly frozen model": ordinary, "tail alone": alone}


class Taken(NamedTuple):
    """What a step of a way gave, and what it took: seconds by the clock, and of the processor."""

    row: Row
    seconds: float
    cpu: float


def work(name: str, job: Job, line: Connection) -> None:
    """Run one way, a step whenever told to, and send what it took."""
    steps = WAYS[name](job)
    with contextlib.suppress(EOFError):  # all is measured, or another way's process died
        while line.recv():
            clock, cpu = time.perf_counter(), time.process_time()
            row = next(steps)
            line.send(Taken(row, time.perf_counter() - clock, time.process_time() - cpu))


def measure(job: Job) -> None:
    """Let both ways take turns and print what they did."""
    context = get_context("spawn")
    prepared = context.Process(target=job.prepare)
    prepared.start()
    prepared.join()
    if prepared.exitcode:
        raise SystemExit("the process that prepares died")
    lines = {}
    for name in WAYS:
        mine, its = context.Pipe()
        context.Process(target=work, args=(name, job, its), daemon=True).start()
        its.close()  # so that the end of the process is the end of the line
        lines[name] = mine
    taken: dict[str, list[Taken]] = {name: [] for name in WAYS}
    for _ in range(job.epochs + 1):
        for name, line in lines.items():
            taken[name].append(answer(name, line, True))
    ours, usual, limit = taken.values()
    print(f"{job.backbone} at {job.size} px, cut at {job.cut}, {job.limit} photos")
    print(f"extraction of the activations, once: {ours[0].row['extraction']:.1f} s\n")
    print(f"{'epoch':>5}  " + "  ".join(f"{name:>52}" for name in WAYS))
    for epoch in range(1, job.epochs + 1):
        cells = [
            f"{took.seconds:8.2f} s  CPU {took.cpu:7.2f} s  "
            + "  ".join(f"{took.row.get(key, 0):.5f}" for key in LOSSES)
            for took in (taken[name][epoch] for name in WAYS)
        ]
        print(f"{epoch:5}  " + "  ".join(f"{cell:>52}" for cell in cells))
    for what in ("seconds", "cpu"):
        epochs = [[getattr(took, what) for took in way[2:]] for way in (ours, usual, limit)]
        medians = " and ".join(f"{statistics.median(way):.2f}" for way in epochs)
        faster, share = (_ratio(epochs[1], epochs[0]), _ratio(epochs[2], epochs[0]))
        print(f"an epoch, {what}: {medians}; {faster:.2f} times as fast as the usual way, {share:.2f} of the limit")
    gaps = [
        abs(one.row[key] - other.row[key]) / abs(other.row[key])
        for one, other in zip(ours[1:], usual[1:], strict=True)
        for key in LOSSES
        if key in one.row and key in other.row
    ]
    print(f"largest difference of a loss: {max(gaps):.1e} of it")


def _ratio(ones: list[float], others: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--cut", default="block-4")
    parser.add_argument(
        "--limit",
        type=int,
        default=400,
        help="images, training and validation together; with fewer than 50 to validate on, ours learns from them, too",
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--jit", action="store_true", help="compile the usual way by XLA")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Job(arguments, Path(folder)))


if __name__ == "__main__":
    main()
