"""What an audit found, as grids of pictures: to be looked at before anything is changed.

A kind of which nothing was found has no picture.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import outliers
from pipeline.audit.findings import Findings
from pipeline.errors import ImageError
from pipeline.photos.batches import of_manifest, previews
from pipeline.photos.duplicates.near_duplicates import Pairs
from pipeline.photos.remote import Root
from pipeline.plots import image_grid

DRAWN: Final = 24
FOLDER: Final = "plots"
THUMBNAIL_SIDE: Final = 240  # px

Thumbnail = NDArray[np.uint8] | None


def draw(found: Findings, images_root: Root, out_dir: Path) -> None:
    """Publish ``duplicates.png``, ``leakage.png``, ``conflicts.png``, ``label_issues.png`` and ``outliers.png``."""
    folder = out_dir / FOLDER
    same, cosines = found.duplicates.same, found.duplicates.cosines
    joined = _joined(same, found.duplicates.alike)
    _draw_pairs(found, joined, cosines, images_root, folder / "duplicates.png", "pairs of same or alike pictures")
    for name, which, what in (
        ("leakage.png", found.leaks(), "pairs of the same picture in the test split and in one that is learned from"),
        ("conflicts.png", found.contradictions(), "pairs of the same picture with different labels"),
    ):
        _draw_pairs(found, same.take(which), cosines[: len(same)][which], images_root, folder / name, what)
    _draw_issues(found, images_root, folder / "label_issues.png")
    _draw_outliers(found, images_root, folder / "outliers.png")


def _joined(one: Pairs, other: Pairs) -> Pairs:
    return Pairs(
        np.concatenate([one.first, other.first]),
        np.concatenate([one.second, other.second]),
        np.concatenate([one.distances, other.distances]),
        np.concatenate([one.likeness, other.likeness]),
        np.concatenate([one.orientations, other.orientations]),
    )


def _draw_pairs(found: Findings, pairs: Pairs, cosines: NDArray[np.float32], root: Root, path: Path, what: str) -> None:
    captions = []
    firsts, seconds = pairs.first[:DRAWN].tolist(), pairs.second[:DRAWN].tolist()
    pictures = list(zip(_thumbnails(found, root, firsts), _thumbnails(found, root, seconds), strict=True))
    for place, (a, b) in enumerate(zip(firsts, seconds, strict=True)):
        kind = "same" if place < len(found.duplicates.same) else "alike"
        turned = ", turned or mirrored" if pairs.orientations[place] else ""
        measured = f"{pairs.distances[place]} bits, likeness {pairs.likeness[place]:.3f}, cosine {cosines[place]:.3f}"
        captions.append("\n".join([_named(found, a), _named(found, b), f"{kind}{turned}", measured]))
    image_grid.pairs_grid(pictures, captions, path, _title(len(pictures), len(pairs), what))


def _draw_issues(found: Findings, root: Root, path: Path) -> None:
    issues, classes = found.issues, found.images.classes
    drawn = issues.images[:DRAWN].tolist()
    captions = [
        f"labelled: {found.images.labels[image]}\n{'seems' if sure else 'perhaps'}: {classes[suggested]}\n"
        f"margin {margin:.3f}, {found.images.splits[image]}\n{found.images.paths[image]}"
        for image, suggested, sure, margin in zip(
            drawn, issues.suggested, issues.confident, issues.margins, strict=False
        )
    ]
    sure = int(issues.confident.sum())
    what = f"labels to look at ({sure:,} likely wrong, {len(issues.images) - sure:,} doubtful)"
    title = _title(len(drawn), len(issues.images), what)
    image_grid.mistakes_grid(_thumbnails(found, root, drawn), captions, path, title)


def _draw_outliers(found: Findings, root: Root, path: Path) -> None:
    distances, total = found.distances, int(found.distances.outlying.sum())
    drawn = np.argsort(-distances.scores, kind="stable")[: min(DRAWN, total)].tolist()
    captions = [
        f"{found.images.labels[image]}, {found.images.splits[image]}\ndistance {distances.overall[image]:.3f}\n"
        f"score {distances.scores[image]:.1f}\n{found.images.paths[image]}"
        for image in drawn
    ]
    title = _title(len(drawn), total, f"images far from all others (score above {outliers.STANDS_OUT})")
    image_grid.mistakes_grid(_thumbnails(found, root, drawn), captions, path, title)


def _named(found: Findings, image: int) -> str:
    return f"{found.images.splits[image]}, {found.images.labels[image]}: {found.images.paths[image]}"


def _title(drawn: int, total: int, what: str) -> str:
    return f"{what[0].upper()}{what[1:]}: {f'the first {drawn} of {total:,}' if drawn < total else f'{total:,}'}"


def _thumbnails(found: Findings, root: Root, images: Sequence[int]) -> list[Thumbnail]:
    """Read pictures; of a file that changed or went away since the manifest was made there is none."""
    pictures = previews(of_manifest(root, found.images), THUMBNAIL_SIDE, images)
    return [None if isinstance(picture, ImageError) else picture for picture in pictures]
