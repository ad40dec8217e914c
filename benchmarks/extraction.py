"""How fast features are extracted, against what a user would run instead, on the same photos in one run.

    python benchmarks/extraction.py --images DIR [--backbone NAME --size PX --weights imagenet|none]
    python benchmarks/extraction.py --images DIR --backbone onnx:FILE --timm NAME --input-scale X --input-offset Y

DIR holds photos in class folders, or train and test folders with class folders inside. Each way runs in a process of
its own that has loaded everything and seen one batch before the clock starts; the processes take turns, so that a
change of the machine's speed meets all of them. Decoding counts.

Printed are the median of images a second over the rounds, the ratio to the first way (median over the rounds of the
ratio within a round, with the lowest and the highest), peak memory of the process, and the largest difference of a
feature from those of the first way that share its pixels, as a fraction of the largest feature.

"decoding alone" and "engine alone" (pixels in memory) give the limit 1 / (1/decoding + 1/engine) of shared cores.

"timm" runs the network of the same name with random weights in PyTorch, where `torch` and `timm` are installed: its own
transforms in a loader of as many workers as there are cores, channels last, and compiled with frozen weights.

A way that cannot start, as bfloat16 where the processor has none or int8 without NNCF, is left out, and a line says
why. If a process dies while it is measured, all end.
"""

import argparse
import atexit
import contextlib
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import HeadstartError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROUND = Callable[[], np.ndarray | None]


class Job:
    """What every way is given."""

    def __init__(self, arguments: argparse.Namespace, manifest: Path, files: list[Path]) -> None:
        self.root: Path = arguments.images
        self.backbone: str = arguments.backbone
        self.size: int = arguments.size
        self.weights: str = arguments.weights
        self.timm: str = arguments.timm or TIMM.get(arguments.backbone, "")
        self.scaling = (tuple(arguments.input_scale), tuple(arguments.input_offset))
        self.batch_size: int = arguments.batch_size
        self.manifest = manifest
        self.files = files

    def plan(self, precision: str, engine: str) -> Any:
        """Return the plan of an extraction with average pooling at the top."""
        from pipeline.features import resolve
        from pipeline.features.settings import FeatureSettings

        settings = FeatureSettings(
            engine=engine,  # type: ignore[arg-type]
            backbone=self.backbone,
            weights=self.weights,
            size=self.size,
            precision=precision,  # type: ignore[arg-type]
            dtype="float32",
            input_scale=self.scaling[0],
            input_offset=self.scaling[1],
        )
        return resolve.plan(settings)

    def settled(self, precision: str) -> tuple[Any, Path]:
        """Return the plan for our engine, and a cache that has no more than its graph in int8, if it is in int8."""
        from pipeline.features import int8
        from pipeline.photos import manifest

        cache = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, cache)
        table = manifest.read(self.manifest)
        table = replace(table, splits=["train"] * len(table))
        return int8.settled(self.plan(precision, "auto"), self.root, table, cache), cache

    def trunk(self) -> Any:
        """Return the same network that ours runs, with its own preprocessing inside, as a plain Keras model."""
        from pipeline.backbones import cutting, weights

        if ":" in self.backbone:
            raise HeadstartError("expected a base that Keras can build, received a graph")
        plan = self.plan("float32", "tensorflow")
        base = weights.load(plan.backbone, size=self.size, alpha=1.0, weights=plan.weights)
        return cutting.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling="avg")

    def dataset(self) -> Any:
        """Return the input pipeline of the tutorials: read, decode, resize bilinearly, batch, prefetch."""
        import tensorflow as tf

        def load(path: Any) -> Any:
            pixels = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
            return tf.cast(tf.image.resize(pixels, (self.size, self.size)), tf.uint8)

        paths = tf.data.Dataset.from_tensor_slices([str(path) for path in self.files])
        return paths.map(load, tf.data.AUTOTUNE).batch(self.batch_size).prefetch(tf.data.AUTOTUNE)


def predict(job: Job) -> ROUND:
    """Run tf.data into model.predict."""
    trunk, dataset = job.trunk(), job.dataset()
    trunk.predict(dataset.take(1), verbose=0)
    return lambda: trunk.predict(dataset, verbose=0)


def flow(job: Job) -> ROUND:
    """Run the classic ImageDataGenerator.flow_from_directory into model.predict."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    trunk = job.trunk()
    aside = tempfile.mkdtemp()
    for file in job.files:
        link = Path(aside, *file.relative_to(job.root).parts)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file.resolve())
    atexit.register(shutil.rmtree, aside)
    generators = [
        ImageDataGenerator().flow_from_directory(
            folder,
            (job.size, job.size),
            batch_size=job.batch_size,
            shuffle=False,
            class_mode=None,
            interpolation="bilinear",
        )
        for folder in sorted({Path(aside, file.relative_to(job.root)).parents[1] for file in job.files})
    ]
    trunk.predict(generators[0][0].astype("uint8"), verbose=0)

    def run() -> None:
        for generator in generators:
            for batch in range(len(generator)):
                trunk.predict_on_batch(generator[batch].astype("uint8"))

    return run


def function(job: Job) -> ROUND:
    """Run tf.data into a compiled call, batch by batch."""
    import tensorflow as tf

    trunk, dataset = job.trunk(), job.dataset()
    call = tf.function(lambda batch: trunk(batch, training=False), reduce_retracing=True)
    for batch in (next(iter(dataset)), next(iter(dataset))[:1]):
        call(batch)
    return lambda: np.concatenate([call(batch).numpy() for batch in dataset])


class Opened:
    """The photos as PyTorch's loaders want them: opened by Pillow, then transformed."""

    def __init__(self, files: list[Path], transform: Any) -> None:
        self.files = files
        self.transform = transform

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.files)

    def __getitem__(self, row: int) -> Any:
        """Return photo number `row`, float32 (3, side, side)."""
        from PIL import Image

        with Image.open(self.files[row]) as image:
            return self.transform(image.convert("RGB"))


def timm(compiled: bool) -> Callable[[Job], ROUND]:
    """Run timm's network behind a DataLoader, average pooling at its top."""

    def prepare(job: Job) -> ROUND:
        import timm.data
        import torch

        if not job.timm:
            raise HeadstartError(f"expected one of {', '.join(TIMM)}, or --timm, received {job.backbone}")
        sized = {"img_size": job.size} if job.timm.startswith("vit") else {}
        network = timm.create_model(job.timm, **sized).eval().to(memory_format=torch.channels_last)
        transform = timm.data.create_transform((3, job.size, job.size), interpolation="bilinear", crop_mode="squash")

        def features(batch: Any) -> Any:
            leaving = network.forward_features(batch.to(memory_format=torch.channels_last))
            return leaving.mean((2, 3)) if leaving.ndim == 4 else leaving[:, 1:].mean(1)

        if compiled:
            import torch._inductor.config as inductor

            inductor.freezing = True
            features = torch.compile(features, dynamic=False)
        loader = torch.utils.data.DataLoader(
            Opened(job.files, transform),
            batch_size=job.batch_size,
            num_workers=os.cpu_count() or 1,
            multiprocessing_context="fork",
            persistent_workers=True,
        )

        def run() -> np.ndarray:
            with torch.inference_mode():
                return np.concatenate([features(batch).numpy() for batch in loader])

        with torch.inference_mode():
            for batch in (next(iter(loader)), next(iter(loader))[: len(job.files) % job.batch_size]):
                if len(batch):
                    features(batch)
        return run

    return prepare


def ours(precision: str) -> Callable[[Job], ROUND]:
    """Run `headstart extract` from an empty cache: read, hash, decode, forward, store, verify, assemble."""

    def prepare(job: Job) -> ROUND:
        from pipeline.features import extract, features_file, resolve
        from pipeline.features.settings import ExtractSettings

        plan, kept = job.settled(precision)
        engine = resolve.open_engine(plan, batch_size=job.batch_size, cache=None)
        list(engine.run([np.zeros((job.batch_size, job.size, job.size, 3), np.uint8)] * 2))

        def run() -> np.ndarray:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "features.h5"
                shutil.copytree(kept, Path(folder) / "cache")
                extract.extract(
                    job.root,
                    job.manifest,
                    out,
                    ExtractSettings(**vars(plan.settings), cache=Path(folder) / "cache", batch_size=job.batch_size),
                    progress=lambda done, total: None,
                    by=extract.By(open_engine=lambda _: engine),
                )
                with features_file.Features(out) as read:
                    return read.gather(_digests(job))

        return run

    return prepare


def decoding(job: Job) -> ROUND:
    """Read, hash, decode and resize only, in as many threads as extraction uses."""
    from pipeline.photos.batches import Photos, batches
    from pipeline.photos.decode import fit

    photos = Photos(Path(), [str(file) for file in job.files])

    def run() -> None:
        for _ in batches(
            photos, partial(fit, size=job.size, geometry="squash"), batch_size=job.batch_size, failed=photos.refuse
        ):
            pass

    return run


def engine(precision: str) -> Callable[[Job], ROUND]:
    """Run the engine only, on pixels that are in memory."""

    def prepare(job: Job) -> ROUND:
        from pipeline.features import resolve
        from pipeline.photos.decode import fit

        running = resolve.open_engine(job.settled(precision)[0], batch_size=job.batch_size, cache=None)
        pixels = np.stack([fit(file.read_bytes(), size=job.size, geometry="squash") for file in job.files])
        batches = [pixels[start : start + job.batch_size] for start in range(0, len(pixels), job.batch_size)]
        list(running.run(batches[:2]))
        return lambda: np.concatenate(list(running.run(batches)))

    return prepare


TIMM = {
    "convnext_tiny": "convnext_tiny",
    "efficientnet_lite0": "efficientnet_lite0",
    "mobilenet_v2": "mobilenetv2_100",
    "resnet50": "resnet50",
    "vgg16": "vgg16",
}

WAYS: dict[str, Callable[[Job], ROUND]] = {
    "tf.data + predict": predict,
    "flow_from_directory + predict": flow,
    "tf.data + tf.function": function,
    "timm": timm(compiled=False),
    "timm, compiled": timm(compiled=True),
    "headstart float32": ours("float32"),
    "headstart bfloat16": ours("bfloat16"),
    "headstart int8": ours("int8"),
    "decoding alone": decoding,
    "engine alone, float32": engine("float32"),
    "engine alone, bfloat16": engine("bfloat16"),
    "engine alone, int8": engine("int8"),
}
LIMITS = {
    "headstart float32": "engine alone, float32",
    "headstart bfloat16": "engine alone, bfloat16",
    "headstart int8": "engine alone, int8",
}
SAME_PIXELS = {
    "tf.data + tf.function": "tf.data + predict",
    "headstart bfloat16": "headstart float32",
    "headstart int8": "headstart float32",
    "engine alone, float32": "headstart float32",
    "engine alone, bfloat16": "headstart float32",
    "engine alone, int8": "headstart float32",
}


def _digests(job: Job) -> np.ndarray:
    from pipeline.photos import manifest

    table = manifest.read(job.manifest)
    place = {path: number for number, path in enumerate(table.paths)}
    return table.digests[[place[file.relative_to(job.root).as_posix()] for file in job.files]]


def work(name: str, job: Job, pipe: Connection) -> None:
    """Say "" once a way is ready, or why it cannot be; serve rounds until told to stop; last say peak memory, bytes."""
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- for the rest of the process
    try:
        run = WAYS[name](job)
    except Exception as error:  # noqa: BLE001  (whatever a way raises, the others can be measured)
        pipe.send(str(error).strip().partition("\n")[0] or type(error).__name__)
        return
    pipe.send("")
    try:
        while pipe.recv():
            started = time.perf_counter()
            found = run()
            pipe.send((time.perf_counter() - started, found))
    except EOFError:  # another way's process died
        return
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--timm", help="timm's name of the network, where the base is onnx:FILE")
    parser.add_argument("--input-scale", type=float, nargs="*", default=(), help="of a graph that does not say it")
    parser.add_argument("--input-offset", type=float, nargs="*", default=())
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="use this many of the photos only")
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = _job(arguments, Path(folder) / "manifest.csv")
        _report(arguments, len(job.files), *_measure(arguments, job))


def _job(arguments: argparse.Namespace, path: Path) -> Job:
    from pipeline.photos import manifest, prepare
    from pipeline.photos.settings import PrepareSettings

    prepare.prepare(
        arguments.images,
        path,
        PrepareSettings(max_quarantined=1.0),
        progress=lambda done, total: None,
    )
    table = manifest.read(path)
    if arguments.limit:
        table = table.take(range(arguments.limit))
        manifest.write(table, path)
    return Job(arguments, path, [arguments.images / name for name in table.paths])


def _measure(arguments: argparse.Namespace, job: Job) -> tuple[dict[str, list[float]], dict[str, int], dict[str, Any]]:
    spawn = get_context("spawn")
    pipes: dict[str, Connection] = {}
    with contextlib.ExitStack() as ends:  # a process ends when its pipe does
        for name in arguments.ways:
            ours, theirs = spawn.Pipe()
            ends.enter_context(ours)
            spawn.Process(target=work, args=(name, job, theirs)).start()
            theirs.close()  # so that the end of the process is the end of the pipe
            try:
                why_not = answer(name, ours)
            except SystemExit as died:
                why_not = str(died).partition(": ")[2]
            if why_not:
                print(f"left out, {name}: {why_not}", flush=True)
            else:
                pipes[name] = ours
        if not pipes:
            raise SystemExit("expected a way that this machine can go, found none")
        print(f"measured, in turns: {'; '.join(pipes)}", flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in pipes}
        found: dict[str, Any] = {}
        for _ in range(arguments.rounds):
            for name, pipe in pipes.items():
                took, found[name] = answer(name, pipe, True)
                seconds[name].append(took)
        memory = {name: answer(name, pipe, False) for name, pipe in pipes.items()}
    return seconds, memory, found


def answer(name: str, pipe: Connection, *told: bool) -> Any:
    """Tell a process something, and return its answer; SystemExit if it is dead."""
    try:
        for word in told:
            pipe.send(word)
        return pipe.recv()
    except (EOFError, OSError):
        raise SystemExit(f"{name}: its process died") from None


def _report(
    arguments: argparse.Namespace,
    count: int,
    seconds: dict[str, list[float]],
    memory: dict[str, int],
    found: dict[str, Any],
) -> None:
    print(
        f"{count:,} photos, {arguments.backbone} at {arguments.size} px, weights {arguments.weights}, batches of "
        f"{arguments.batch_size}, {arguments.rounds} rounds, {os.cpu_count()} cores"
    )
    print(f"{'':32}{'images/s':>9}{'ratio':>8}{'(of rounds)':>14}{'of limit':>10}{'peak MB':>9}{'difference':>12}")
    first = next(iter(seconds.values()))
    for name in seconds:
        rate = count / statistics.median(seconds[name])
        ratios = [one / other for one, other in zip(first, seconds[name], strict=True)]
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        limit = _of_limit(name, seconds)
        twin = SAME_PIXELS.get(name)
        apart = (
            "" if found.get(twin) is None or found[name] is None else f"{_difference(found[name], found[twin]):12.1e}"
        )
        print(
            f"{name:32}{rate:9.1f}{statistics.median(ratios):8.2f}{spread:>14}{limit:>10}"
            f"{memory[name] / 2**20:9,.0f}{apart:>12}"
        )


def _of_limit(name: str, seconds: dict[str, list[float]]) -> str:
    alone = LIMITS.get(name)
    if alone not in seconds or "decoding alone" not in seconds:
        return ""
    rounds = zip(seconds["decoding alone"], seconds[alone], seconds[name], strict=True)
    return f"{statistics.median((decode + forward) / took for decode, forward, took in rounds):.3f}"


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


if __name__ == "__main__":
    main()
