"""How fast photos are labelled, against how fast their features are extracted, on the same photos in one run.

    python benchmarks/prediction.py --images DIR [--precision float32] [--rounds 3]

DIR holds photos in class folders, or train and test folders with class folders inside. Extraction starts from an empty
row cache each time, and keeps what it computes; prediction goes over the same files with the head that was trained on
these features. Both have loaded their engine and seen photos before the clock starts; they take turns, so that a change
of the machine's speed meets both. Decoding counts.

Printed are images a second (median over the rounds) and the ratio to extraction (median over the rounds of the ratio
within a round, with the lowest and the highest), then the memory of the process after each round: it does not grow.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pipeline.features import extract, resolve
from pipeline.features.settings import ExtractSettings
from pipeline.heads import train
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.resolve import Training
from pipeline.inference import predict
from pipeline.inference.settings import PredictSettings
from pipeline.models.settings import Runtime
from pipeline.photos import manifest, prepare
from pipeline.photos.settings import PrepareSettings


def silent(*_: object) -> None:
    """Report no progress."""


class Job:
    """Photos with their manifest, features, head and model, made once."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.root, self.folder = arguments.images, folder
        self.precision, self.batch_size = arguments.precision, arguments.batch_size
        self.manifest, self.features = folder / "manifest.csv", folder / "features.h5"
        self.head, self.model = folder / "head", folder / "model"
        self.settings = ExtractSettings(
            backbone=arguments.backbone,
            size=arguments.size,
            precision=self.precision,
            batch_size=self.batch_size,
        )
        self.plan = resolve.plan(self.settings)
        prepare.prepare(
            self.root,
            self.manifest,
            PrepareSettings(max_quarantined=0.5),
            progress=silent,
        )
        self.files = [self.root / path for path in manifest.read(self.manifest).paths]
        self.extract(folder / "cache")
        head = LogisticHead(C=0.01, l1_ratio=0.0, class_weight=None, max_iter=1000, seed=0)
        train.fit(self.manifest, self.features, self.head, Training(head=head))
        joined = [str(path) for path in (self.root, self.manifest, self.features, self.head, self.model)]
        subprocess.run([sys.executable, "-m", "stages", "finetune", *joined], check=True, capture_output=True)

    def extract(self, cache: Path) -> float:
        """Compute all features into a cache; return images a second."""
        graphs = self.folder / "cache" / "graphs"  # what the engine keeps to start faster is no row
        if graphs.is_dir() and not (cache / "graphs").exists():
            cache.mkdir(parents=True)
            (cache / "graphs").symlink_to(graphs)
        report = extract.extract(
            self.root,
            self.manifest,
            self.features,
            replace(self.settings, cache=cache),
            progress=silent,
        )
        return report.images_per_second

    def again(self) -> float:
        """Extract from an empty row cache."""
        with tempfile.TemporaryDirectory(dir=self.folder) as empty:
            return self.extract(Path(empty) / "cache")

    def predictor(self, trained: Path, **asked: object) -> Callable[[], float]:
        """Return a call that labels all photos and returns images a second."""
        found = predict.Predictor(
            trained,
            Runtime(precision=self.precision, batch_size=self.batch_size, cache=self.folder / "cache"),
            PredictSettings(**asked),  # type: ignore[arg-type]
        )
        list(found.predict(self.files[: self.batch_size], progress=silent))

        def run() -> float:
            started = time.perf_counter()
            count = sum(1 for one in found.predict(self.files, progress=silent) if one.error is None)
            return count / (time.perf_counter() - started)

        return run


def ways(job: Job) -> Iterator[tuple[str, Callable[[], float]]]:
    """Yield what takes turns; extraction first."""
    compared = {"nearest": 5, "familiarity": True, "features": job.features, "manifest": job.manifest}
    yield "extract", job.again
    yield "predict, a head", job.predictor(job.head)
    yield "  with --nearest 5 --familiarity", job.predictor(job.head, **compared)
    yield "  with --explain", job.predictor(job.head, explain=job.folder / "maps")
    yield "predict, a model", job.predictor(job.model)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(arguments, Path(folder))
        named = list(ways(job))
        rounds, memory = [], []
        for _ in range(arguments.rounds):
            rounds.append([run() for _, run in named])
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"{len(job.files):,} photos, {arguments.backbone} at {arguments.size} px, {os.cpu_count()} cores")
    print(f"{'':34}{'images/s':>9}{'ratio':>7}  lowest to highest")
    for place, (name, _) in enumerate(named):
        rate = statistics.median(one[place] for one in rounds)
        ratios = [one[place] / one[0] for one in rounds]
        print(f"{name:34}{rate:9.1f}{statistics.median(ratios):7.2f}  {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"memory at most, after each round: {', '.join(f'{value:,.0f} MB' for value in memory)}")


if __name__ == "__main__":
    main()
