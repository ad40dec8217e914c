"""Whether each class has images in each split, and what would help where one has none."""

import difflib
from collections.abc import Mapping, Sequence

from pipeline.errors import InputError
from pipeline.photos.manifest import Manifest
from pipeline.photos.source import some
from pipeline.wording import counted


def check(
    manifest: Manifest, standing_in: Sequence[bytes], origins: Mapping[str, str | None], *, stratify: bool
) -> list[str]:
    """Raise if a class has nothing to train on; return a warning for each other split that a class misses.

    `origins` says of each split whether the source gave it or it was drawn, or None where there is to be none. A
    validation split that is too small to choose by may miss any.
    """
    counts = manifest.counts()
    if len(counts) < 2:
        raise InputError(
            f"expected usable images of at least two classes, received {len(counts)}: {some(list(counts))}"
        )
    apart: dict[str, set[bytes]] = {label: set() for label in counts}  # what can be put into a split by itself
    for label, split, digest in zip(manifest.labels, manifest.splits, standing_in, strict=True):
        if origins[split] == "drawn":
            apart[label].add(digest)
    notes = []
    for split, origin in origins.items():
        missing = [label for label, row in counts.items() if not row[split]]
        if not missing or origin is None or (split == "val" and not len(manifest.learned()[1])):
            continue
        given = origin == "given" or not any(apart[label] for label in missing)
        remedy = f"add images to the source's {split} split" if given else "add images"
        fewest = {"train": 1, "test": 2, "val": 3 if origins["test"] == "drawn" else 2}[split]
        if origin == "drawn" and not stratify and any(len(apart[label]) >= fewest for label in missing):
            remedy += ", or give `stratify=True`, which fills every split it draws but may move other images"
        present = [label for label in counts if label not in missing]
        named = [f"{label}{_like(label, present) if split == 'train' else ''}" for label in missing]
        message = f"{counted(len(missing), 'class', 'classes')} without an image in {split}: {some(named)}; {remedy}"
        if (
            split == "train"
            and origins["test"] == "given"
            and not any(row["test"] for row in (counts[label] for label in present))
        ):
            message += ". Photos without a label test nothing: move them away, and label them with a trained head"
        if split == "train":
            raise InputError(f"expected every class in train, received {message}")
        notes.append(message)
    return notes


def _like(label: str, present: Sequence[str]) -> str:
    near = difflib.get_close_matches(label, present, n=1)
    return f" (there is {near[0]})" if near else ""
