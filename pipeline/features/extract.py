"""A manifest and a trunk to features: every image forwarded once, and never again under the same spec."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from pipeline.backbones.engines.engine import Engine
from pipeline.errors import InputError, StorageError, storing
from pipeline.features import features_file, lower_cut, resolve, spec, throughput
from pipeline.features.cache.shard_files import DamagedShardError
from pipeline.features.constant_features import constant_rows
from pipeline.features.file_layout import Views
from pipeline.features.resolve import Plan
from pipeline.features.settings import ExtractSettings
from pipeline.features.workers.executors.executor import Executor, open_executor
from pipeline.features.workers.partition import EVERYTHING, Worker, part_of
from pipeline.features.workers.retry import Completion
from pipeline.features.workers.worker import job_of
from pipeline.photos import manifest
from pipeline.photos.augmentation import check_views
from pipeline.photos.remote import Root
from pipeline.setting import check
from pipeline.storage.json_files import publish
from pipeline.types import Progress

MOST_NAMED: Final = 10
ATTEMPTS: Final = 3


@dataclass(frozen=True)
class ExtractResult:
    """What a run did.

    Attributes
    ----------
    images : int
        Rows of the manifest, or of the part of it that was asked for.
    distinct : int
        Distinct images among them.
    views : int
        Rows of an image to learn from; or, for test-time augmentation, of any.
    computed, reused : int
        Of the rows, one a view that a distinct image gets: forwarded now, and found in the cache.
    quarantined : int
        Images that `prepare` accepted and this run could not read.
    images_per_second : float
        Rows computed a second, from the first decoded image to the last stored row; start-up is not in it.
    engine, precision, spec : str
        The engine with its version (empty when nothing was computed), the precision, and the sha256 of the spec.
    workers : list of Worker
        Who computed them, the busiest first; one, this process, unless an executor has others.
    lost : int
        How often a worker was lost, killed or hung, with what it was at.
    warnings : list of str
        What the user should know, one line each.
    """

    images: int
    distinct: int
    views: int
    computed: int
    reused: int
    quarantined: int
    images_per_second: float
    engine: str
    precision: str
    spec: str
    workers: list[Worker]
    lost: int
    warnings: list[str]


class By(NamedTuple):
    """Who computes.

    Attributes
    ----------
    executor : Executor or None
        One that is open already and stays open; None opens the one of the settings.
    open_engine : callable or None
        Makes the engine, once in each process that computes, and only if a row is missing; None is `open_engine`.
    """

    executor: Executor | None = None
    open_engine: Callable[[Plan], Engine] | None = None


AS_SET: Final = By()


def extract(
    root: Root,
    manifest_path: Path,
    features_path: Path,
    settings: ExtractSettings,
    *,
    progress: Progress,
    report_path: Path | None = None,
    by: By = AS_SET,
) -> ExtractResult:
    """Compute the rows that the cache lacks, keep them, and assemble `features_path` from the cache.

    Parameters
    ----------
    root : Path or Address
        The image root to which the manifest's paths are relative.
    manifest_path, features_path : Path
        In and out. The output is published once it is complete.
    settings : ExtractSettings
        Workers on other machines see the cache, the images, and files of weights under the same paths. With a shard,
        only the rows of that part of the images are computed, and nothing is assembled: the others are for other runs.
    progress : callable
        Called with (rows computed so far, rows to compute).
    report_path : Path, optional
        Where the report goes as JSON, after a failure too.
    by : By, optional
        Who computes, and by which engine, if not as `settings` say.

    Returns
    -------
    ExtractResult

    Raises
    ------
    InputError
        Some images could not be read, or killed every worker that tried. All others are stored; nothing is published;
        the message names them.
    BusyError
        Another run computes rows of this spec.
    WorkersError
        The workers are lost, or their scheduler is. What was stored stays stored.
    StorageError
        The disk is full, fails or cannot be written. What was stored stays stored.
    """
    check(settings)
    check_views(settings.views, settings.policy)
    part = part_of(settings.shard)
    with contextlib.nullcontext(by.executor) if by.executor else open_executor(settings.executing) as executor:
        run = Completion(
            job_of(root, settings, open_engine=by.open_engine),
            manifest.read(manifest_path),
            part=part,
            executor=executor,
            progress=progress,
        )
        resolve.remember(run.job.plan, run.job.cache)
        finish(run, (lambda: None) if part != EVERYTHING else partial(_assemble, run, features_path))
    warnings = spec.random_base(run.job.plan.spec)
    if part == EVERYTHING and not run.failures:
        warnings += constant_rows(features_path)
    report = _report(run, warnings)
    if report_path:
        publish(report_path, asdict(report))
    if run.lost == 0:
        throughput.keep(run.rows[0].folder.parent, run.workers())
    if run.failures and isinstance(root, Path) and not any((root / path).exists() for path in run.paths):
        found = "none of them is there" if root.is_dir() else "found none"
        raise InputError(f"{root}: expected the folder of images to which {manifest_path} refers, {found}")
    if run.failures:
        raise InputError(_failed([f"{run.paths[place]} ({reason})" for place, reason in sorted(run.failures.items())]))
    return report


def finish(run: Completion, use: Callable[[], None]) -> None:
    """Complete the cache and, if no image failed, use the rows; a shard that then proves damaged is computed again.

    What the cache has at a cut below is gone on from. StorageError if shards prove damaged again and again; other
    errors are those of `Completion.complete`, and what `use` raises.
    """
    lower_cut.fill(run)
    for _ in range(ATTEMPTS):
        run.complete()
        if run.failures:
            return
        try:
            use()
        except DamagedShardError:
            for rows in run.rows:
                rows.verify()
        else:
            return
    folder = run.rows[0].folder.parent
    raise StorageError(f"{folder}: rows came back damaged {ATTEMPTS} times; the disk cannot be trusted")


def _assemble(run: Completion, path: Path) -> None:
    """Write the features, unless they are there already; StorageError if that cannot be."""
    first, *others = run.rows
    views = None
    with storing(f"{path}: cannot be written"):
        if others:
            described = spec.canonical({"count": len(run.rows), "policy": asdict(run.job.policy)})
            digests = run.digests[run.varied]
            parts = [rows.blocks(rows.index(), digests) for rows in others]
            views = Views(described, digests, (np.stack(same, axis=1) for same in zip(*parts, strict=True)))
        if features_file.holds(path, spec=first.spec, digests=run.digests, views=views):
            return
        index = first.index()
        features_file.write(
            path,
            spec=first.spec,
            digests=run.digests,
            row_shape=index.row_shape or (),
            dtype=first.dtype,
            blocks=first.blocks(index, run.digests),
            views=views,
        )


def _report(run: Completion, warnings: list[str]) -> ExtractResult:
    """Sum a run up."""
    return ExtractResult(
        images=run.images,
        distinct=len(run.digests),
        views=len(run.rows),
        computed=run.computed,
        reused=int(np.count_nonzero(np.delete(run.wanted, list(run.failures), axis=0))) - run.computed,
        quarantined=len(run.failures),
        images_per_second=round(run.computed / run.seconds, 1) if run.seconds else 0.0,
        engine=run.done[0].engine if run.done else "",
        precision=run.job.plan.spec["precision"],
        spec=run.rows[0].identity,
        workers=run.workers(),
        lost=run.lost,
        warnings=warnings,
    )


def _failed(named: list[str]) -> str:
    more = f"; and {len(named) - MOST_NAMED:,} more" if len(named) > MOST_NAMED else ""
    return (
        f"{len(named):,} images could not be read: {'; '.join(named[:MOST_NAMED])}{more}. All others are stored; mend "
        "these, or list their paths in a file for `hs.prepare(exclude=...)`"
    )
