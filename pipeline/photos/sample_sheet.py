"""The pictures that show what was prepared: samples, the classes and the sizes."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError
from pipeline.photos import decode, decode_pool
from pipeline.photos.inspection import _decode, full
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root, located
from pipeline.plots import dataset, image_grid

SAMPLES: Final = 40  # pictures in the grid


SAMPLE_SIDE: Final = 200  # px, a little more than a cell of the grid has


def thumbnail(photo: tuple[str, bytes]) -> NDArray[np.uint8] | None:
    """Return a small picture of a file, of shape (height, width, 3); None if it is no longer what its digest says."""
    path, digest = photo
    try:
        data = decode.read_bytes(located(path))
        return decode.thumbnail(_decode(data)[0], SAMPLE_SIDE) if decode.digest(data) == digest else None
    except ImageError:
        return None


def draw(root: Root, manifest: Manifest, folder: Path, workers: int | None) -> None:
    """Draw samples, the number of images of each class, and their sizes into a folder."""
    shown, title = _samples(manifest)
    photos = list(zip(full(root, shown.paths), map(bytes, shown.digests), strict=True))
    thumbnails = decode_pool.each(thumbnail, photos, workers=workers, progress=lambda *_: None)
    captions = [f"{label}\n{path.rpartition('/')[2]}" for label, path in zip(shown.labels, shown.paths, strict=True)]
    image_grid.sample_grid(thumbnails, captions, folder / "samples.png", title)
    dataset.class_counts(manifest.counts(), folder / "class_counts.png")
    dataset.image_sizes(manifest.widths, manifest.heights, folder / "image_sizes.png")


def _samples(manifest: Manifest) -> tuple[Manifest, str]:
    """Choose training images to show, equally many of each class; nobody looks at the test split."""
    train = manifest.distinct("train")
    classes = manifest.classes
    if len(classes) > SAMPLES:
        classes = [classes[place * len(classes) // SAMPLES] for place in range(SAMPLES)]
    each = SAMPLES // len(classes)
    members: dict[str, list[int]] = {label: [] for label in classes}
    for index, label in enumerate(train.labels):
        if label in members and len(members[label]) < each:
            members[label].append(index)
    shown = train.take([index for label in classes for index in members[label]])
    return shown, f"{len(shown)} of {len(train):,} training images, {len(classes)} of {len(manifest.classes):,} classes"
