"""The pictures that show what was prepared: samples, the classes and the sizes."""

import warnings
from pathlib import Path
from typing import Final

from pipeline.errors import ImageError
from pipeline.photos.batches import of_manifest, previews
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.plots import dataset, image_grid

SAMPLES: Final = 40  # pictures in the grid
SAMPLE_SIDE: Final = 200  # px, a little more than a cell of the grid has


def draw(root: Root, manifest: Manifest, folder: Path) -> None:
    """Draw samples, the number of images of each class, and their sizes into a folder.

    Files that are what their digests say have been decoded before, and crash no decoder: none needs a process.
    """
    shown, title = _samples(manifest)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, without the file's name
        found = list(previews(of_manifest(root, shown), SAMPLE_SIDE, range(len(shown))))
    thumbnails = [None if isinstance(one, ImageError) else one for one in found]
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
