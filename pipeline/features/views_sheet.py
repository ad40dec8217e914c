"""A picture of the views of some training images, as the base saw them."""

from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np

from pipeline.errors import ImageError
from pipeline.features.features_file import Features
from pipeline.photos import augmentation, decode, manifest
from pipeline.photos.inspection import full
from pipeline.photos.remote import Root, located
from pipeline.photos.settings import Policy
from pipeline.plots import image_grid

IMAGES: Final = 4  # each is a row
VIEWS: Final = 6  # so many of each at most, the image itself first


def draw(root: Root, manifest_path: Path, features_path: Path, path: Path) -> None:
    """Draw views of a few training images, of different classes as far as there are; without views there is no file."""
    with Features(features_path) as features:
        fitted, count = decode.of_spec(features.spec), min(features.count, VIEWS)
        policy = Policy(**features.views["policy"]) if features.views else Policy()
    train = manifest.read(manifest_path).distinct("train")
    met: Counter[str] = Counter()  # of each class so far: the first of every class come before the second of any
    turns = [met.update([label]) or met[label] for label in train.labels]
    shown = train.take(sorted(range(len(train)), key=turns.__getitem__)[:IMAGES])
    rows, captions = [], []
    for file, row, name in zip(full(root, shown.paths), shown.digests, shown.paths, strict=True):
        digest = row.tobytes()
        try:
            data = decode.read_bytes(located(file))
            pixels = fitted(data) if count > 1 and decode.digest(data) == digest else None
        except ImageError:
            pixels = None
        if pixels is not None:
            views = [augmentation.apply(pixels, digest=digest, view=view, policy=policy) for view in range(count)]
            rows.append(np.concatenate(views, axis=1))
            captions.append(name)
    image_grid.strips_grid(rows, captions, path, f"{len(rows)} training images, and {count - 1} of the views of each")
