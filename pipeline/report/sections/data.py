"""The data: how many images of what, their sizes, samples, what was refused, and what an audit found."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from pipeline.photos.manifest import Manifest
from pipeline.photos.splits import SPLITS
from pipeline.plots.dataset import largest_and_smallest, sizes
from pipeline.report import charts
from pipeline.report.artefacts import Audited, Row, numeric
from pipeline.report.sections.gallery import Gallery
from pipeline.wording import counted

SAMPLED: Final = 12  # classes that show samples
SAMPLES: Final = 6  # of each
LISTED: Final = 12  # findings of a kind that are shown
QUARANTINED: Final = 50  # files that are named

_COUNTED: Final = (
    ("leakage", "Test images whose picture is also in train or val"),
    ("conflicts", "Pictures with different labels"),
    ("same_bytes", "Files with the bytes of another"),
    ("same_pixels", "Pairs with identical pixels"),
    ("near_duplicates", "Pairs of one picture, re-encoded, resized or turned"),
    ("alike", "Pairs that merely look alike"),
    ("label_issues", "Labels that are likely wrong"),
    ("doubtful_labels", "Labels that are doubtful"),
    ("outliers", "Images far from all others"),
    ("inseparable_classes", "Pairs of classes that are not told apart"),
)
_CONFIDENT: Final = {"label_issues": "1", "doubtful_labels": "0"}


def samples(images: Manifest) -> dict[str, list[bytes]]:
    """Return digests of some images of each class, the same ones every time."""
    found: dict[str, list[bytes]] = {label: [] for label in images.classes[:SAMPLED]}
    for label, split, digest in zip(images.labels, images.splits, images.digests, strict=True):
        if split == "train" and label in found and len(found[label]) < SAMPLES:
            found[label].append(digest.tobytes())
    return found


def data(
    everything: Manifest,
    quarantine: Sequence[Row] | None,
    audited: Audited | None,
    gallery: Gallery,
    digests: Mapping[str, bytes],
) -> dict[str, Any]:
    """Return what the page says of the data.

    `quarantine` has ``path`` and ``reason``; it is None if the file is not there.
    """
    counts = everything.counts()
    splits = [split for split in SPLITS if split in set(everything.splits)]
    totals = {label: sum(row.values()) for label, row in counts.items()}
    labels = largest_and_smallest(totals)
    return {
        "images": len(everything),
        "classes": len(counts),
        "splits": {split: everything.splits.count(split) for split in splits},
        "formats": {name: everything.formats.count(name) for name in sorted(set(everything.formats))},
        "counts": [
            {
                "label": label,
                "total": totals[label],
                "splits": [counts[label][split] for split in splits],
                "bars": charts.bars([counts[label][split] for split in splits], max(totals.values())),
            }
            for label in labels
        ],
        "left_out": len(counts) - len(labels),
        "sizes": charts.sizes(sizes(everything.widths, everything.heights)),
        "size": _size(everything),
        "samples": {label: numbers(found, gallery) for label, found in samples(gallery.images).items()},
        "unsampled": max(0, len(counts) - SAMPLED),
        "quarantine": None if quarantine is None else list(quarantine[:QUARANTINED]),
        "quarantined": len(quarantine or ()),
        "audit": None if audited is None else _audit(audited, gallery, digests),
    }


def numbers(digests: Sequence[bytes], gallery: Gallery) -> list[int]:
    """Return the numbers of those images that have a picture."""
    return [number for digest in digests if (number := gallery.number(digest)) is not None]


def _size(everything: Manifest) -> str:
    pairs, times = np.unique(np.stack([everything.widths, everything.heights], axis=1), axis=0, return_counts=True)
    width, height = np.median(everything.widths), np.median(everything.heights)
    if len(pairs) == 1:
        return f"All images are {width:.0f} by {height:.0f} px."
    common = pairs[np.argmax(times)]
    return (
        f"{len(pairs):,} different sizes; the median is {width:.0f} by {height:.0f} px, and the commonest, of "
        f"{counted(int(times.max()), 'image')}, is {common[0]} by {common[1]} px."
    )


def wanted(audited: Audited | None, digests: Mapping[str, bytes]) -> list[bytes]:
    """Return the digests of images that the audit's findings show."""
    if audited is None:
        return []
    pairs = [row for alike in (False, True) for row in _pairs(audited, alike=alike)[:LISTED]]
    paths = [row[key] for row in pairs for key in ("path_a", "path_b")]
    paths += [row["path"] for row in (*_issues(audited), *_issues(audited, "0"), *_outliers(audited))]
    return [digests[path] for path in paths if path in digests]


def _pairs(audited: Audited, *, alike: bool) -> list[Row]:
    """Return pairs that are merely alike, or those that matter more: leaks, contradictions, then other copies."""
    found = [row for row in audited.duplicates if (row["kind"] == "alike") == alike]
    return sorted(found, key=lambda row: (row["leakage"] != "1", row["conflict"] != "1"))


def _issues(audited: Audited, confident: str = "1") -> list[Row]:
    return [row for row in audited.label_issues if row["confident"] == confident][:LISTED]


def _outliers(audited: Audited) -> list[Row]:
    return [row for row in audited.outliers if row["outlier"] == "1"][:LISTED]


def _audit(audited: Audited, gallery: Gallery, digests: Mapping[str, bytes]) -> dict[str, Any]:
    def picture(path: str) -> int | None:
        return gallery.number(digests[path]) if path in digests else None

    return {
        "counts": [(audited.counts[key], words) for key, words in _COUNTED if audited.counts.get(key)],
        "pairs": [
            (title, len(found), [_pair(row, picture) for row in found[:LISTED]])
            for title, alike in (("Copies", False), ("Pairs that merely look alike", True))
            for found in [_pairs(audited, alike=alike)]
        ],
        "issues": [
            (
                words,
                audited.counts.get(kind, 0),
                [
                    dict(row, picture=picture(row["path"]), sure=numeric(row, "p_suggested"))
                    for row in _issues(audited, confident)
                ],
            )
            for kind, words in _COUNTED
            if (confident := _CONFIDENT.get(kind))
        ],
        "outliers": [dict(row, picture=picture(row["path"]), far=numeric(row, "score")) for row in _outliers(audited)],
    }


def _pair(row: Row, picture: Callable[[str], int | None]) -> dict[str, Any]:
    return {
        "sides": [{"path": row[f"path_{side}"], "picture": picture(row[f"path_{side}"])} for side in "ab"],
        "labels": [row.get(f"label_{side}", "") for side in "ab"],
        "splits": [row.get(f"split_{side}", "") for side in "ab"],
        "leakage": row["leakage"] == "1",
        "conflict": row["conflict"] == "1",
    }
