"""An image root to a manifest: find the images, decode each once, split them, and draw what is there.

Files that are not accepted are in the quarantine beside the manifest, ``quarantine.csv`` (path, reason).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import InputError, SettingError
from pipeline.photos import coverage, layouts, source, splits
from pipeline.photos.duplicates import near_duplicates, perceptual_hash
from pipeline.photos.duplicates.perceptual_hash import Signature
from pipeline.photos.inspection import Inspected, inspected
from pipeline.photos.manifest import QUARANTINE, Manifest, Row, from_rows, write
from pipeline.photos.remote import Root
from pipeline.photos.sample_sheet import draw
from pipeline.photos.settings import PrepareSettings
from pipeline.photos.source import Candidate, Rejected, Source, some
from pipeline.setting import check
from pipeline.storage.atomic import publish_csv
from pipeline.storage.json_files import publish_digests
from pipeline.types import Progress
from pipeline.wording import counted

QUARANTINE_COLUMNS: Final = ("path", "reason")


@dataclass(frozen=True)
class PrepareResult:
    """What `prepare` made of an image root.

    Attributes
    ----------
    counts : dict of label to dict of split to int
        Images of each class in each split.
    quarantined : int
        Files that were not accepted, the excluded ones among them.
    skipped : int
        Hidden files, system files, and files beside the class folders that are no images by name.
    warnings : list of str
        What the user should know, one sentence each.
    """

    counts: dict[str, dict[str, int]]
    quarantined: int
    skipped: int
    warnings: list[str]

    def images(self, split: str | None = None) -> int:
        """Return the number of images in a split, or in all."""
        return sum(sum(row.values()) if split is None else row[split] for row in self.counts.values())


def prepare(root: Root, manifest_path: Path, settings: PrepareSettings, *, progress: Progress) -> PrepareResult:
    """Find, decode and split the images below a folder; write manifest, quarantine and pictures of the data.

    Beside the manifest appear ``quarantine.csv``, ``samples.png`` (training images with their labels),
    ``class_counts.png`` and ``image_sizes.png``. The manifest is written last. What is written depends on the files
    and options alone: the same input gives the same bytes.

    Parameters
    ----------
    root : Path or Address
        The image root; `layouts.discover` says how it may be laid out.
    manifest_path : Path
        The CSV to write. Not below `root`, where the next run would take the pictures beside it for data.
    settings : PrepareSettings
        `layouts.discover` says of labels where they are, and `splits.assign` how to split what the source leaves open.
        Near duplicates are images whose perceptual hashes differ in at most `hash_distance` bits of 256 and that
        `near_duplicates` takes for the same picture; unless they are grouped, only identical files stay together.
        `exclude` is a text file of paths relative to `root`, one a line, that go to the quarantine undecoded; ``#``
        starts a comment. They do not count towards `max_quarantined`. `workers` has no effect on the result.
    progress : callable
        Called with (files decoded, files in all).

    Returns
    -------
    PrepareResult

    Raises
    ------
    InputError
        The source cannot be understood, too much of it is unusable, identical files contradict each other, or a
        class has no training image. The message says what to do.
    StorageError
        The disk fails.
    """
    check(settings)
    val, test = settings.val_fraction, settings.test_fraction
    if val + test >= 1:
        raise SettingError(f"`val_fraction` and `test_fraction`: expected a sum below 1, received {val} and {test}")
    if isinstance(root, Path) and manifest_path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"expected a manifest outside the image root {root}, received {manifest_path}")
    source = layouts.discover(root, labels_csv=settings.labels, label_pattern=settings.label_pattern)
    candidates, failed, excluded, notes = _without_excluded(source, settings.exclude)
    accepted, signatures, broken = inspected(root, candidates, settings, progress)
    failed = sorted(failed + broken)
    quarantine = sorted(failed + excluded)
    publish_csv(manifest_path.parent / QUARANTINE, QUARANTINE_COLUMNS, quarantine)
    publish_digests(manifest_path.parent, [QUARANTINE])
    _check_quarantine(failed, len(accepted), settings.max_quarantined, manifest_path.parent / QUARANTINE)

    _check_conflicts(accepted)
    standing_in = _standing_in(accepted, signatures, settings)
    manifest, moved = _split(accepted, standing_in, settings)
    given = {candidate.split for candidate in candidates if candidate.split}
    wanted = {
        "train": "drawn" if "val" not in given else "given",
        "val": "given" if "val" in given else "drawn" if settings.val_fraction > 0 else None,
        "test": "given" if "test" in given else "drawn" if settings.test_fraction > 0 else None,
    }
    notes = [*source.warnings, *notes, *_vanished(candidates, manifest), *_torn(manifest, standing_in), *moved]
    idle = [("val", settings.val_fraction), ("test", settings.test_fraction)]
    notes += [
        f"`{split}_fraction={fraction:g}` has no effect: {root} has its own {split} split"
        for split, fraction in idle
        if split in given and fraction not in (0, getattr(PrepareSettings, f"{split}_fraction"))
    ]
    notes += coverage.check(manifest, standing_in, wanted, stratify=settings.stratify)

    draw(root, manifest, manifest_path.parent)
    write(manifest, manifest_path)
    return PrepareResult(manifest.counts(), len(quarantine), source.skipped, notes)


def _without_excluded(
    source: Source, exclude: Path | None
) -> tuple[list[Candidate], list[Rejected], list[Rejected], list[str]]:
    """Return candidates and rejected files without those that are excluded, the latter, and warnings."""
    listed = set() if exclude is None else _listed(exclude)
    candidates = [candidate for candidate in source.candidates if candidate.path not in listed]
    rejected = [file for file in source.rejected if file.path not in listed]
    paths = [file.path for file in source.candidates] + [file.path for file in source.rejected]
    present = [path for path in paths if path in listed]
    excluded = [Rejected(path, f"excluded by {exclude}") for path in present]
    absent = sorted(set(listed) - set(present))
    notes = [f"{exclude}: {some(absent)}: no such image, so nothing to exclude"] if absent else []
    return candidates, rejected, excluded, notes


def _listed(exclude: Path) -> set[str]:
    try:
        lines = exclude.read_text(encoding="utf-8-sig").split("\n")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError.of("exclude", "a file of paths", f"{str(exclude)!r}, which is none") from None
    except UnicodeDecodeError as error:
        raise InputError.of("exclude", f"UTF-8 in {exclude}", f"byte {error.object[error.start]:#x}") from error
    paths = (line.strip() for line in lines)
    return {source.canonical(path) for path in paths if path and not path.startswith("#")}


def _check_quarantine(failed: Sequence[Rejected], accepted: int, limit: float, path: Path) -> None:
    total = accepted + len(failed)
    if failed and (len(failed) > limit * total or not accepted):
        first = some([f"{file.path} ({file.reason})" for file in failed], 3)
        raise InputError(
            f"`max_quarantined`: expected at most a fraction of {limit:g} to be unusable, received {len(failed):,} of "
            f"{total:,} files ({len(failed) / total:.3g}): {first}. All are in {path}: mend them, exclude them or "
            "raise the limit"
        )
    if not accepted:
        raise InputError.of("exclude", "some images to remain", "a file that excludes them all")


def _check_conflicts(accepted: Sequence[tuple[Candidate, Inspected]]) -> None:
    digests = [image.digest for _, image in accepted]
    files = [file for file, _ in accepted]
    kinds: dict[str, Sequence[str | None]] = {
        "labels": [file.label for file in files],
        "splits": [file.split for file in files],
    }
    for kind, values in kinds.items():
        groups = splits.conflicts(digests, values)
        if groups:
            named = [
                some([f"{files[i].path} ({values[i]})" for i in _each_first(group, values)], 5, " = ")
                for group in groups
            ]
            raise InputError(
                f"identical files with different {kind}: expected none, received {len(groups):,}: {some(named)}. "
                "List the wrong ones, a path a line, in a file and give it as `exclude`"
            )


def _each_first(group: Sequence[int], values: Sequence[str | None]) -> list[int]:
    """Put the first index of each value first, so that a message shows how they differ."""
    first = {values[index]: index for index in reversed(group)}
    return sorted(group, key=lambda index: (first[values[index]] != index, index))


def _standing_in(
    accepted: Sequence[tuple[Candidate, Inspected]], signatures: Sequence[Signature], settings: PrepareSettings
) -> list[bytes]:
    """Return the digest by which each image is split: its own, or that of one of its near duplicates."""
    digests = [image.digest for _, image in accepted]
    if not settings.group_near_duplicates:
        return digests
    same, _ = near_duplicates.same_pictures(
        perceptual_hash.as_columns(signatures),
        [file.label for file, _ in accepted],
        hash_distance=settings.hash_distance,
        progress=lambda *_: None,
    )
    return near_duplicates.representatives(digests, near_duplicates.groups(len(digests), same))


def _torn(manifest: Manifest, standing_in: Sequence[bytes]) -> list[str]:
    """Return a warning if near duplicates lie in different splits, as they may where the source gives these."""
    torn = splits.conflicts(standing_in, manifest.splits)
    if not torn:
        return []
    given = manifest.splits
    named = [some([f"{manifest.paths[i]} ({given[i]})" for i in _each_first(group, given)], 5, " = ") for group in torn]
    return [f"near duplicates in different splits, as the source gives them, {len(torn):,} times: {some(named, 3)}"]


def _split(
    accepted: Sequence[tuple[Candidate, Inspected]],
    standing_in: Sequence[bytes],
    settings: PrepareSettings,
) -> tuple[Manifest, list[str]]:
    """Return the manifest, and a warning if images were moved so that each class trains and something tests."""
    labels, given = [file.label for file, _ in accepted], [file.split for file, _ in accepted]
    drawn = splits.assign(
        standing_in,
        labels,
        given,
        val_fraction=settings.val_fraction,
        test_fraction=settings.test_fraction,
        stratify=settings.stratify,
    )
    chosen = splits.filled(standing_in, labels, given, drawn, test_fraction=settings.test_fraction)
    moved = [
        f"{file.path} ({before} to {after})"
        for (file, _), before, after in zip(accepted, drawn, chosen, strict=True)
        if before != after
    ]
    notes = [f"too few images to fill each split by their digests, so some were moved: {some(moved)}"] if moved else []
    return from_rows(
        [
            Row(file.path, image.digest, file.label, split, image.width, image.height, image.format)
            for (file, image), split in zip(accepted, chosen, strict=True)
        ]
    ), notes


def _vanished(candidates: Iterable[Candidate], manifest: Manifest) -> list[str]:
    lost = sorted({candidate.label for candidate in candidates} - set(manifest.labels))
    return [f"{counted(len(lost), 'class', 'classes')} lost every file to the quarantine: {some(lost)}"] if lost else []
