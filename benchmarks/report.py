"""How large the page of `headstart report` becomes, and how long it takes, of many images.

Pictures are written that compress about as badly as photographs, or noise, which nothing compresses; their features are
random around a centre of each class. One head is trained and judged, so that all is there that fills the page.

    python benchmarks/report.py --images 10000 --kind photo
"""

import argparse
import hashlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.evaluation import evaluate
from pipeline.evaluation.settings import EvaluateSettings
from pipeline.features import features_file
from pipeline.features.spec import canonical
from pipeline.heads import train
from pipeline.heads.logistic import LogisticHead
from pipeline.heads.resolve import Training
from pipeline.photos import manifest
from pipeline.report import report
from pipeline.report.collect import Inputs
from pipeline.report.report import LARGEST
from pipeline.report.settings import ReportSettings

CLASSES, WIDTH = 20, 64
SIDE = 128  # px
SPEC = {  # of a base that is not opened
    "size": SIDE,
    "decoder": {"name": "pillow"},
    "resize": "squash",
    "backbone": {"name": "mobilenet_v2", "alpha": 1.0},
    "preprocessing": "keras.applications.mobilenet_v2:preprocess_input",
    "cut": "top",
    "pooling": "avg",
    "weights": {"seed": 0},
    "precision": "float32",
    "dtype": "float32",
}
LONG = "a/rather/long/path/as/collections/of/photographs/have/them"


def picture(draw: np.random.Generator, kind: str) -> bytes:
    """Return a JPEG with detail at every scale, as photographs have, or one of noise."""
    if kind == "noise":
        pixels = draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    else:
        layers = np.zeros((SIDE, SIDE, 3))
        for cells in (4, 8, 16, 32, 64, 128):
            coarse = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            layers += np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), float) / cells
        pixels = np.clip(255 * (layers - layers.min()) / np.ptp(layers), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def write(root: Path, count: int, kind: str) -> None:
    """Write images, manifest and features."""
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(CLASSES, WIDTH))
    rows, vectors = [], {}
    for number in range(count):
        data, label = picture(draw, kind), number % CLASSES
        digest = hashlib.sha256(data).digest()
        split = ("train", "train", "train", "val", "test")[number // CLASSES % 5]
        path = root / "images" / LONG / f"class-{label:02}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        name = path.relative_to(root / "images").as_posix()
        rows.append(manifest.Row(name, digest, f"class-{label:02}", split, SIDE, SIDE, "JPEG"))
        vectors[digest] = centres[label] + draw.normal(scale=1.5, size=WIDTH)
    manifest.write(manifest.from_rows(rows), root / "manifest.csv")
    digests = sorted(vectors)
    block = np.stack([vectors[digest] for digest in digests]).astype(np.float32)
    kept = {"spec": canonical(SPEC), "row_shape": (WIDTH,), "dtype": "float32", "blocks": [block]}
    features_file.write(
        root / "features.h5", digests=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32), **kept
    )


def main() -> None:
    """Write the images, make the page, print its size and the time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--kind", choices=["photo", "noise"], default="photo")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, chosen.images, chosen.kind)
        paths = (root / "manifest.csv", root / "features.h5", root / "heads/logistic")
        head = LogisticHead(C=0.01, l1_ratio=0.0, class_weight=None, max_iter=200, seed=0)
        train.fit(*paths, Training(head=head))
        evaluate.evaluate(root / "images", *paths, root / "out/logistic", EvaluateSettings(resamples=100))
        inputs = Inputs(root / "images", *paths[:2], [root / "out"], trained=[root / "heads"])
        settings = ReportSettings(title="many")
        started = time.perf_counter()
        silent = {"commit": None, "looks": None, "explain": None, "progress": lambda done, total: None}
        made = report.report(inputs, root / "report.html", settings, **silent)
        took = time.perf_counter() - started
        assert made.bytes <= LARGEST
        print(f"{chosen.images:,} images of {chosen.kind}: {made.pictures:,} pictures, {made.mapped:,} on the map,")
        print(f"{made.bytes / 1e6:.2f} MB, {took:.1f} s; {'; '.join(made.warnings) or 'no warnings'}")


if __name__ == "__main__":
    main()
