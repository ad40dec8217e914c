"""What an audit found, as grids of pictures: to be looked at before anything is changed."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.findings import Findings
from pipeline.errors import ImageError
from pipeline.photos.batches import Photos, previews
from pipeline.photos.duplicates.near_duplicates import Pairs
from pipeline.photos.remote import Root
from pipeline.plots import image_grid

DRAWN: Final = 24
THUMBNAIL_SIDE: Final = 240  # px

Thumbnail = NDArray[np.uint8] | None
Rows = Iterable[int]


def draw(found: Findings, images_root: Root, out_dir: Path) -> None:
    """Publish ``duplicates.png``, ``leakage.png``, ``conflicts.png``, ``label_issues.png`` and ``outliers.png``."""
    same, cosines = found.duplicates.same, found.duplicates.cosines
    joined = _joined(same, found.duplicates.alike)
    _draw_pairs(found, joined, cosines, images_root, out_dir / "duplicates.png", "the same picture, or alike, as pairs")
    for name, which, what in (
        ("leakage.png", found.leaks(), "pairs of the same picture in the test split and in one that is learned from"),
        ("conflicts.png", found.contradictions(), "pairs of the same picture with different labels"),
    ):
        _draw_pairs(found, same.take(which), cosines[: len(same)][which], images_root, out_dir / name, what)
    _draw_issues(found, images_root, out_dir / "label_issues.png")
    _draw_outliers(found, images_root, out_dir / "outliers.png")


def _joined(one: Pairs, other: Pairs) -> Pairs:
    return Pairs(
        np.concatenate([one.first, other.first]),
        np.concatenate([one.second, other.second]),
        np.concatenate([one.distances, other.distances]),
        np.concatenate([one.likeness, other.likeness]),
        np.concatenate([one.mirrored, other.mirrored]),
    )


def _draw_pairs(found: Findings, pairs: Pairs, cosines: NDArray[np.float32], root: Root, path: Path, what: str) -> None:
    captions = []
    firsts, seconds = pairs.first[:DRAWN].tolist(), pairs.second[:DRAWN].tolist()
    pictures = list(zip(_thumbnails(found, root, firsts), _thumbnails(found, root, seconds), strict=True))
    for place, (a, b) in enumerate(zip(firsts, seconds, strict=True)):
        kind = "same" if place < len(found.duplicates.same) else "alike"
        turned = ", mirrored" if pairs.mirrored[place] else ""
        measured = f"{pairs.distances[place]} bits, likeness {pairs.likeness[place]:.3f}, cosine {cosines[place]:.3f}"
        captions.append("\n".join([_named(found, a), _named(found, b), f"{kind}{turned}", measured]))
    image_grid.pairs_grid(pictures, captions, path, _title(len(pictures), len(pairs), what))


def _draw_issues(found: Findings, root: Root, path: Path) -> None:
    classes, sure = found.images.classes, int(found.issues.confident.sum())
    drawn = found.issues.images[: min(DRAWN, sure)].tolist()
    captions = [
        f"labelled: {found.images.labels[image]}\nseems: {classes[suggested]}\nmargin {margin:.3f}, "
        f"{found.images.splits[image]}\n{found.images.paths[image]}"
        for image, suggested, margin in zip(drawn, found.issues.suggested, found.issues.margins, strict=False)
    ]
    title = _title(len(drawn), sure, "labels that are likely wrong")
    image_grid.mistakes_grid(_thumbnails(found, root, drawn), captions, path, title)


def _draw_outliers(found: Findings, root: Root, path: Path) -> None:
    distances = found.distances
    drawn = np.argsort(-distances.scores, kind="stable")[:DRAWN].tolist()
    captions = [
        f"{found.images.labels[image]}, {found.images.splits[image]}\ndistance {distances.overall[image]:.3f}\n"
        f"score {distances.scores[image]:.1f}\n{found.images.paths[image]}"
        for image in drawn
    ]
    title = (
        f"The {len(drawn)} images farthest from others; {int(distances.outlying.sum()):,} stand out (score above 3.5)"
    )
    image_grid.mistakes_grid(_thumbnails(found, root, drawn), captions, path, title)


def _named(found: Findings, image: int) -> str:
    return f"{found.images.splits[image]}, {found.images.labels[image]}: {found.images.paths[image]}"


def _title(drawn: int, total: int, what: str) -> str:
    if not total:
        return f"No {what}"
    return f"{what[0].upper()}{what[1:]}: {f'the first {drawn} of {total:,}' if drawn < total else f'{total:,}'}"


def _thumbnails(found: Findings, root: Root, images: Sequence[int]) -> list[Thumbnail]:
    """Read pictures; of a file that went away since it was read, a minute ago, there is none."""
    pictures = previews(Photos(root, found.images.paths), THUMBNAIL_SIDE, images)
    return [None if isinstance(picture, ImageError) else picture for picture in pictures]
