"""Is the data sound? Copies, leaks, contradictions, wrong labels, outliers and classes that look alike.

Everything comes from the image files and their features; no network is run. What `audit` leaves in its folder::

    audit.json             counts
    duplicates.csv         pairs of images, the surest first
    label_issues.csv       labels that are likely wrong, the likeliest first
    outliers.csv           images far from all others, the farthest first
    confusable.csv         pairs of classes, those least told apart first
    plots/                 duplicates.png  leakage.png  conflicts.png  label_issues.png  outliers.png: of what was found

**The same picture** is told by `near_duplicates`. If it is in the test split and in one that is learned from, that is
*leakage*; if it has two labels, a *conflict*. Pairs that are merely alike, by the cosine of their features, are listed
behind those and counted apart: crops, and pictures of one scene.

**Wrong labels** and classes are judged out of fold, by heads that never saw the image nor its near duplicates, and
that are fitted on training and validation images only. The test split takes no part in any fit. Yet correcting labels
of test images where a model disagrees, and only there, favours models like it: look at each before.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import confusable, contact_sheets, label_issues, out_of_fold, outliers, tables
from pipeline.audit.findings import Duplicates, Findings
from pipeline.audit.settings import AuditSettings
from pipeline.errors import ArtefactError, InputError
from pipeline.features import spec
from pipeline.features.features_file import Features
from pipeline.heads import standardise
from pipeline.heads.head import Head
from pipeline.heads.resolve import unfitted
from pipeline.heads.selection.cross_validation import assign_groups
from pipeline.heads.settings import TrainSettings
from pipeline.photos import decode_pool, inspection, manifest
from pipeline.photos.duplicates import near_duplicates, perceptual_hash
from pipeline.photos.duplicates.perceptual_hash import Signature, Signatures
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.photos.splits import SPLITS
from pipeline.setting import check
from pipeline.stats.nearest_neighbours import Vectors, close_pairs, directions, unit
from pipeline.storage.atomic import published
from pipeline.storage.json_files import publish_digests, require_own
from pipeline.types import Progress

COUNTS: Final = "audit.json"
ROWS_AT_ONCE: Final = 4096


def audit(
    images_root: Root,
    manifest_path: Path,
    features_path: Path,
    out_dir: Path,
    settings: AuditSettings,
    *,
    progress: Progress,
    head: Head | None = None,
) -> dict[str, int]:
    """Look for faults in the data, and write what was found.

    Parameters
    ----------
    images_root : Path or Address
        Every image of the manifest is read once.
    manifest_path, features_path : Path
        Labels and splits, and a row for each image; of several views the image itself is used.
    out_dir : Path
        Made if it is missing. Files of the names above are replaced, others left.
    settings : AuditSettings
        The workers, processes that decode, have no effect on the result.
    progress : callable
        Called with (files decoded, files in all).
    head : Head, optional
        What judges the labels, fitted once a fold; by default the logistic one of the settings.

    Returns
    -------
    dict of str to int
        What is in ``audit.json``; ``leakage`` counts test images whose picture is also in train or val,
        ``val_leakage`` validation images whose picture is also in train, and ``conflicts`` pictures of several
        labels; ``labels_not_judged`` images beside which there are too few others to learn from.

    Raises
    ------
    InputError
        A setting is out of its range, or there are too few images for so many folds.
    ArtefactError
        An image is gone or not what the manifest says, the features lack images, or a file is damaged.
    """
    check(settings)
    require_own(out_dir, COUNTS)
    head = head or unfitted(TrainSettings(C=settings.C, seed=settings.seed))
    everything = manifest.read(manifest_path)
    distinct, copies = _distinct(everything)
    if len(distinct.classes) < 2:
        raise InputError(f"{manifest_path}: expected two classes or more, received {len(distinct.classes)}")
    with Features(features_path) as features:
        rows = _rows(features, distinct)
    signatures = _signatures(images_root, distinct, settings.workers, progress)
    vectors = directions(rows)
    duplicates = _duplicates(distinct, signatures, vectors, settings)
    codes = distinct.codes(distinct.classes)
    probabilities, judged = out_of_fold.predict(
        head,
        rows,
        codes,
        assign_groups(codes, duplicates.groups, folds=settings.folds, seed=settings.seed),
        np.array([split != "test" for split in distinct.splits]),
        n_classes=len(distinct.classes),
        progress=lambda *_: None,
    )
    issues = label_issues.find(codes[judged], probabilities[judged])
    found = Findings(
        images=distinct,
        copies=copies,
        duplicates=duplicates,
        issues=replace(issues, images=np.flatnonzero(judged)[issues.images]),
        probabilities=probabilities,
        judged=judged,
        distances=outliers.measure(unit(rows), codes, neighbours=settings.neighbours),
        confusable=confusable.find(codes[judged], probabilities[judged]),
    )
    tables.write(found, out_dir)
    contact_sheets.draw(found, images_root, out_dir)
    counts = found.counts()
    with published(out_dir / COUNTS) as temporary:
        temporary.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    publish_digests(out_dir, (COUNTS, tables.DUPLICATES, tables.ISSUES, tables.OUTLIERS, tables.CONFUSABLE))
    return counts


def warnings_of(features_path: Path) -> list[str]:
    """Return what keeps the features from saying much of the data, one line each."""
    with Features(features_path) as features:
        return spec.random_base(features.spec)


def _distinct(everything: Manifest) -> tuple[Manifest, list[tuple[str, int]]]:
    """Return one row for each digest, sorted by digest, and the other paths with the row that has their bytes."""
    distinct = everything.distinct(*SPLITS)
    kept, place = set(distinct.paths), {digest.tobytes(): row for row, digest in enumerate(distinct.digests)}
    files = zip(everything.paths, everything.digests, strict=True)
    return distinct, sorted((path, place[digest.tobytes()]) for path, digest in files if path not in kept)


def _signatures(root: Root, distinct: Manifest, workers: int | None, progress: Progress) -> Signatures:
    top = root.absolute()
    jobs = [(str(top / path), one.tobytes()) for path, one in zip(distinct.paths, distinct.digests, strict=True)]
    signed: list[Signature] = []
    failed: list[str] = []
    found = decode_pool.each(inspection.sign, jobs, workers=workers, progress=progress)
    for path, result in zip(distinct.paths, found, strict=True):
        if isinstance(result, Signature):
            signed.append(result)
        else:
            failed.append(f"{path}: {result or 'the decoder crashed on it'}")
    if failed:
        raise ArtefactError(
            f"{root}: expected the images of the manifest, received {len(failed):,} that cannot be used, the first "
            f"{failed[0]}; run `hs.prepare` again"
        )
    return perceptual_hash.as_columns(signed)


def _rows(features: Features, distinct: Manifest) -> Vectors:
    """Return the features (N, d) float32 of each image itself; maps become their means over all places."""
    parts = []
    for start in range(0, len(distinct), ROWS_AT_ONCE):
        rows = features.gather(distinct.digests[start : start + ROWS_AT_ONCE])
        parts.append(rows.mean(axis=tuple(range(1, rows.ndim - 1))) if rows.ndim > 2 else rows)
    X = np.concatenate(parts)
    row = standardise.first_not_finite(X)
    if row is not None:
        raise ArtefactError(
            f"{features.path}: expected finite features, received NaN or infinity for {distinct.paths[row]}: "
            "run `hs.extract` again"
        )
    return X


def _duplicates(distinct: Manifest, signatures: Signatures, vectors: Vectors, settings: AuditSettings) -> Duplicates:
    same, limit = near_duplicates.same_pictures(
        signatures, distinct.labels, hash_distance=settings.hash_distance, progress=lambda *_: None
    )
    i, j, cosines = close_pairs(vectors, vectors, least=settings.min_cosine, progress=lambda *_: None)
    n = len(distinct)
    merely = ~np.isin(i * n + j, same.first * n + same.second)
    order = np.flatnonzero(merely)[np.argsort(-cosines[merely], kind="stable")]
    alike, pixels = near_duplicates.compare(signatures, i[order], j[order]), signatures.pixels
    return Duplicates(
        same=same,
        identical=np.array([pixels[a] == pixels[b] for a, b in zip(same.first, same.second, strict=True)], np.bool_),
        alike=alike,
        cosines=np.concatenate([_cosines(vectors, same.first, same.second), cosines[order]]),
        groups=near_duplicates.groups(n, same),
        limit=limit,
    )


def _cosines(vectors: Vectors, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.float32]:
    parts = [
        np.einsum(
            "nd,nd->n", vectors[first[start : start + ROWS_AT_ONCE]], vectors[second[start : start + ROWS_AT_ONCE]]
        )
        for start in range(0, len(first), ROWS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
