"""Rows at a cut, made of rows that the cache has at a cut below it: what lies between the two runs, and no photo."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.backbones import cutting, tails, weights
from pipeline.backbones.engines.engine import Engine, open_engine
from pipeline.backbones.table import GRAPHS
from pipeline.errors import ArtefactError
from pipeline.features import spec
from pipeline.features.cache import inventory
from pipeline.features.cache.row_cache import RowCache
from pipeline.features.cache.shard_files import DamagedShardError
from pipeline.features.cache.shard_writer import ShardWriter
from pipeline.features.resolve import Plan
from pipeline.features.workers.retry import Completion


def fill(run: Completion) -> int:
    """Make what rows of a run can be made so, beginning at the topmost cut below, and return how many.

    Only activations in float32, as training takes them, are made, and only of such: rounded ones would give others.
    BusyError if another run computes rows of this part; StorageError if the disk is full or fails.
    """
    job, plan = run.job, run.job.plan
    if plan.backbone.name in GRAPHS:  # no layers to build the network between of
        return 0
    if job.open_engine or any(plan.spec[name] != value for name, value in _EXACT.items()) or not run.missing().any():
        return 0
    cuts = _cuts(job.cache, plan.spec)
    if not cuts:
        return 0
    base = weights.load(plan.backbone, size=plan.size, alpha=plan.spec["backbone"]["alpha"], weights=plan.weights)
    points = cutting.cut_points(base)
    below = points[: points.index(cutting.checked_cut(base, plan.spec["cut"]))]
    return sum(_continued(run, cut, base) for cut in reversed(below) if cut in cuts)


_EXACT = {"pooling": "none", "precision": "float32", "dtype": "float32"}


def _cuts(cache: Path, described: spec.Spec) -> set[str]:
    """Return the other cuts of which the cache has rows that are equal in all else."""
    try:
        found = [one.spec for one in inventory.contents(cache) if one.spec and one.rows]
    except ArtefactError:
        return set()
    return {one["cut"] for one in found if {field for field, *_ in spec.differences(one, described)} == {"cut"}}


def _continued(run: Completion, cut: str, base: Any) -> int:
    """Make the rows that are missing and of which there are rows at a cut."""
    job, engine, made = run.job, None, 0
    described = spec.canonical({**job.plan.spec, "cut": cut})
    missing = run.missing()
    for rows, lacking in zip(run.rows, missing.T, strict=True):
        source = RowCache(job.cache, spec=described, dtype=rows.dtype, view=rows.view)
        index, digests = source.index(), run.digests[lacking]
        digests = digests[~index.missing(digests)]
        if not len(digests):
            continue
        engine = engine or _engine(run, base, cut)
        done = 0
        with rows.writer(run.part.low, run.part.high, job.run), ShardWriter(rows) as writer:
            for given in engine.run(_batches(source.blocks(index, digests), job.batch_size)):
                writer.put(digests[done : done + len(given)], given)
                done += len(given)
                run.progress(done, len(digests))
        made += done
    return made


def _engine(run: Completion, base: Any, cut: str) -> Engine:
    plan, batch_size = run.job.plan, run.job.batch_size
    return open_engine(
        plan.engine, partial(_between, plan, base, cut), batch_size=batch_size, precision="float32", kept=None
    )


def _between(plan: Plan, base: Any, cut: str) -> Any:
    """Return the network from one cut to the other."""
    whole = cutting.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling="none")
    return tails.tail(plan.backbone, whole, cut=cut)


def _batches(blocks: Iterator[NDArray[Any]], size: int) -> Iterator[NDArray[Any]]:
    """Yield rows in batches; a shard that proves damaged ends them: the rest is computed from photos."""
    try:
        for block in blocks:
            yield from (block[start : start + size] for start in range(0, len(block), size))
    except DamagedShardError:
        return
