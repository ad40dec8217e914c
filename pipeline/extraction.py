"""A manifest and a trunk to features: every image forwarded once, and never again under the same spec."""

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline import backbones, engines, features, images, manifest, row_cache, spec
from pipeline.digests import as_keys
from pipeline.errors import ArtefactError, ImageError, InputError, StorageError
from pipeline.files import published
from pipeline.row_cache import DamagedShardError, RowCache
from pipeline.views import Policy, apply, check_views, view_key

EXTRACTOR_VERSION: Final = 1
SECONDS_A_SHARD: Final = 30.0
BATCHES_AHEAD: Final = 3
MOST_NAMED: Final = 10
ATTEMPTS: Final = 3

Progress = Callable[[int, int], None]
Read = TypeVar("Read")


@dataclass(frozen=True)
class Settings:
    """What the user chooses, all of which can change a feature's value.

    Attributes
    ----------
    backbone : str
        A name of `pipeline.backbones.BACKBONES`.
    alpha : float
        Width multiplier; 1.0 where the backbone has none.
    weights : str
        ``imagenet``, ``none`` (random) or a file.
    seed : int
        Of random weights; without effect otherwise.
    size : int or None
        Side of the input square, px; None is the backbone's own.
    resize : {"squash", "crop", "pad"}
        How a rectangle becomes the square.
    cut : str
        ``top``, another word of the backbone's table, or a layer's name.
    pooling : str
        One of `pipeline.backbones.POOLINGS`.
    precision : {"float32", "bfloat16", "float16"}
        Of the arithmetic.
    dtype : {"auto", "float16", "float32"}
        As stored; ``auto`` is float16 for pooled features and float32 for whole maps.
    """

    backbone: str
    alpha: float
    weights: str
    seed: int
    size: int | None
    resize: images.Geometry
    cut: str
    pooling: str
    precision: engines.Precision
    dtype: str


@dataclass(frozen=True)
class Plan:
    """Settings, resolved: the spec, what a trunk is built from, and the engine. Made without TensorFlow."""

    backbone: backbones.Backbone
    weights: backbones.Weights
    engine: str
    spec: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the input square, px."""
        return int(self.spec["size"])


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes
    ----------
    images : int
        Rows of the manifest.
    distinct : int
        Distinct images among them.
    views : int
        Rows an image.
    computed, reused : int
        Of the rows, one a view of a distinct image: forwarded now, and found in the cache.
    quarantined : int
        Images that `prepare` accepted and this run could not read.
    images_per_second : float
        Rows computed a second, from the first decoded image to the last stored row; start-up is not in it.
    engine, precision, spec : str
        The engine with its version (empty when nothing was computed), the precision, and the sha256 of the spec.
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


def settings_of(described: spec.Spec, source: Path, *, weights: str | None) -> Settings:
    """Return the settings under which features of a spec are made again.

    Parameters
    ----------
    described : mapping
        A spec that an artefact keeps.
    source : Path
        That artefact, for the message.
    weights : str or None
        As in `Settings`. None: ``none`` if the spec names the seed of random weights, else ``imagenet``.

    Raises
    ------
    ArtefactError
        The spec lacks a field.
    """
    try:
        seed = described["weights"].get("seed")
        return Settings(
            backbone=described["backbone"]["name"],
            alpha=described["backbone"]["alpha"],
            weights=weights or ("imagenet" if seed is None else "none"),
            seed=seed or 0,
            size=described["size"],
            resize=described["resize"],
            cut=described["cut"],
            pooling=described["pooling"],
            precision=described["precision"],
            dtype=described["dtype"],
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise ArtefactError(f"{source}: its spec does not say how the features were made: {error!r}") from error


def plan(settings: Settings, *, engine: str) -> Plan:
    """Resolve settings to a spec, without TensorFlow.

    Parameters
    ----------
    settings : Settings
    engine : {"auto", "tensorflow", "openvino"}
        At float32 it changes speed only. Below, it is part of the spec.

    Raises
    ------
    InputError
        A name or a value is not one of those expected; the message names the option.
    """
    backbone = backbones.find(settings.backbone)
    size = settings.size or backbone.size
    weights = backbones.find_weights(backbone, settings.weights, size=size, alpha=settings.alpha, seed=settings.seed)
    engine = engines.choose(engine)
    pooled = settings.pooling not in ("flatten", "none")
    described = {
        "extractor": EXTRACTOR_VERSION,
        **images.policy(size=size, geometry=settings.resize),
        "backbone": {"name": backbone.name, "alpha": settings.alpha},
        "preprocessing": backbone.preprocessing,
        "weights": weights.identity,
        "cut": backbones.resolve_cut(backbone, settings.cut),
        "pooling": settings.pooling,
        "precision": settings.precision,
        "dtype": ("float16" if pooled else "float32") if settings.dtype == "auto" else settings.dtype,
    }
    if settings.precision != "float32":
        described["engine"] = {"name": engine, "version": engines.version_of(engine)}
    return Plan(backbone, weights, engine, described)


def open_engine(plan: Plan, *, batch_size: int, cache: Path | None, prompt: bool = False) -> engines.Engine:
    """Build the trunk of a plan and the engine that runs it; see `pipeline.engines.open_engine`.

    This loads TensorFlow, unless the cache holds what the engine kept when it was opened before.
    """

    def build() -> Any:
        alpha = plan.spec["backbone"]["alpha"]
        base = backbones.load(plan.backbone, size=plan.size, alpha=alpha, weights=plan.weights)
        return backbones.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling=plan.spec["pooling"])

    kept = cache and cache / "graphs" / spec.identity(plan.spec)
    return engines.open_engine(
        plan.engine, build, batch_size=batch_size, precision=plan.spec["precision"], kept=kept, prompt=prompt
    )


def extract(
    root: Path,
    manifest_path: Path,
    features_path: Path,
    plan: Plan,
    *,
    views: int,
    policy: Policy,
    cache: Path,
    batch_size: int,
    progress: Progress,
    report_path: Path | None = None,
    engine: Callable[[Plan], engines.Engine] | None = None,
) -> Report:
    """Compute the rows that the cache lacks, keep them, and assemble `features_path` from the cache.

    Parameters
    ----------
    root : Path
        The image root to which the manifest's paths are relative.
    manifest_path, features_path : Path
        In and out. The output is published once it is complete.
    plan : Plan
        From `plan`.
    views : int
        How many views of each image, 1 or more; the first is the image itself.
    policy : Policy
        What may happen to an image in the other views.
    cache : Path
        The cache folder.
    batch_size : int
        Images a batch; it changes speed and memory only.
    progress : callable
        Called with (rows computed so far, rows to compute).
    report_path : Path, optional
        Where the report goes as JSON, after a failure too.
    engine : callable, optional
        Makes the engine, once, and only if a row is missing; by default `open_engine`.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        Some images could not be read. All others are stored; nothing is published; the message names them.
    BusyError
        Another process computes rows of this spec.
    StorageError
        The disk is full, fails or cannot be written. What was stored stays stored.
    """
    check_views(views, policy)
    keys = [view_key(policy, view) for view in range(views)]
    rows = [RowCache(cache, spec=spec.canonical(plan.spec), dtype=plan.spec["dtype"], view=key) for key in keys]
    job = _Job(root, manifest.read(manifest_path), rows, policy)
    job.run(
        features_path, plan, engine or partial(open_engine, batch_size=batch_size, cache=cache), batch_size, progress
    )
    report = job.report(plan)
    if report_path:
        with published(report_path) as temporary:
            temporary.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    if job.failures:
        named = "; ".join(job.failures[:MOST_NAMED])
        more = f"; and {len(job.failures) - MOST_NAMED:,} more" if len(job.failures) > MOST_NAMED else ""
        raise InputError(
            f"{len(job.failures):,} images could not be read: {named}{more}. All others are stored; mend these, or "
            "list their paths in a file for `headstart prepare --exclude`"
        )
    return report


class _Job:
    """One run: what is wanted, what was computed, what failed."""

    def __init__(self, root: Path, table: manifest.Manifest, rows: Sequence[RowCache], policy: Policy) -> None:
        self.root = root
        self.rows = rows  # one a view
        self.policy = policy
        self.images = len(table)
        _, first = np.unique(as_keys(table.digests), return_index=True)
        self.digests = table.digests[first]
        self.paths = [table.paths[place] for place in first]
        self.failures: list[str] = []
        self.computed = 0
        self.seconds = 0.0
        self.engine = ""

    def run(
        self,
        features_path: Path,
        plan: Plan,
        open_engine: Callable[[Plan], engines.Engine],
        batch_size: int,
        progress: Progress,
    ) -> None:
        """Complete the cache, then assemble; a shard that proves damaged is computed again."""
        for _ in range(ATTEMPTS):
            self._complete(plan, open_engine, batch_size, progress)
            if self.failures:
                return
            try:
                self._assemble(features_path)
            except DamagedShardError:
                for rows in self.rows:
                    rows.verify()
                continue
            except OSError as error:
                raise StorageError(f"{features_path}: cannot be written: {error.strerror or error}") from error
            return
        folder = self.rows[0].folder.parent
        raise StorageError(f"{folder}: rows came back damaged {ATTEMPTS} times; the disk cannot be trusted")

    def report(self, plan: Plan) -> Report:
        """Sum the run up."""
        return Report(
            images=self.images,
            distinct=len(self.digests),
            views=len(self.rows),
            computed=self.computed,
            reused=(len(self.digests) - len(self.failures)) * len(self.rows) - self.computed,
            quarantined=len(self.failures),
            images_per_second=round(self.computed / self.seconds, 1) if self.computed else 0.0,
            engine=self.engine,
            precision=plan.spec["precision"],
            spec=self.rows[0].identity,
        )

    def _assemble(self, path: Path) -> None:
        """Write the features, unless they are there already."""
        views = None
        if len(self.rows) > 1:
            views = spec.canonical({"count": len(self.rows), "policy": asdict(self.policy)})
        if features.holds(path, spec=self.rows[0].spec, digests=self.digests, views=views):
            return
        indices = [rows.index() for rows in self.rows]
        parts = [rows.blocks(index, self.digests) for rows, index in zip(self.rows, indices, strict=True)]
        row_shape = indices[0].row_shape or ()
        if len(parts) == 1:
            shape, blocks = row_shape, parts[0]
        else:
            shape = (len(parts), *row_shape)
            blocks = (np.stack(same, axis=1) for same in zip(*parts, strict=True))
        features.write(
            path,
            spec=self.rows[0].spec,
            digests=self.digests,
            row_shape=shape,
            dtype=self.rows[0].dtype,
            blocks=blocks,
            views=views,
        )

    def _missing(self) -> NDArray[np.bool_]:
        """Return which rows are not in the cache, of shape (images, views)."""
        return np.stack([rows.index().missing(self.digests) for rows in self.rows], axis=1)

    def _complete(
        self, plan: Plan, open_engine: Callable[[Plan], engines.Engine], batch_size: int, progress: Progress
    ) -> None:
        needed: NDArray[np.bool_] = np.any(self._missing(), axis=0)
        if not needed.any():
            return
        with contextlib.ExitStack() as locks:
            for rows, wanted in zip(self.rows, needed, strict=True):
                if wanted:
                    locks.enter_context(rows.writer(0.0, 1.0))
            missing = self._missing() & needed
            if missing.any():
                engine = open_engine(plan)
                self.engine = f"{plan.engine} {engines.version_of(plan.engine)}"
                self._compute(missing, plan, engine, batch_size, progress)

    def _compute(
        self, missing: NDArray[np.bool_], plan: Plan, engine: engines.Engine, batch_size: int, progress: Progress
    ) -> None:
        in_flight: deque[tuple[NDArray[np.intp], NDArray[np.intp]]] = deque()  # (images, views) of a batch
        wanted = np.flatnonzero(missing.any(axis=1))
        total = int(np.count_nonzero(missing))

        def load(place: int) -> list[NDArray[np.uint8]]:
            return self._load(wanted[place], np.flatnonzero(missing[wanted[place]]), plan)

        def pictures() -> Iterator[tuple[np.intp, np.intp, NDArray[np.uint8]]]:
            for place, found in decoded(len(wanted), load, ahead=BATCHES_AHEAD * batch_size):
                if isinstance(found, ImageError):
                    self.failures.append(f"{self.paths[wanted[place]]} ({found})")
                    continue
                for view, pixels in zip(np.flatnonzero(missing[wanted[place]]), found, strict=True):
                    yield wanted[place], view, pixels

        def batches() -> Iterator[NDArray[np.uint8]]:
            stream = pictures()
            while batch := list(islice(stream, batch_size)):
                in_flight.append((np.array([one[0] for one in batch]), np.array([one[1] for one in batch])))
                yield np.stack([pixels for *_, pixels in batch])

        started = time.monotonic()
        done = 0
        with contextlib.ExitStack() as open_shelves:
            shelves = [open_shelves.enter_context(_Shelf(rows)) for rows in self.rows]
            for computed in engine.run(batches()):
                places, views = in_flight.popleft()
                for view in np.unique(views):
                    shelves[view].put(self.digests[places[views == view]], computed[views == view])
                done += len(places)
                progress(done, total)
        self.computed += done
        self.seconds += time.monotonic() - started

    def _load(self, place: np.intp, views: NDArray[np.intp], plan: Plan) -> list[NDArray[np.uint8]]:
        """Return the wanted views of an image, each of shape (size, size, 3)."""
        data = images.read_bytes(self.root / self.paths[place])
        digest = self.digests[place].tobytes()
        if images.digest(data) != digest:
            raise ImageError("it changed since `headstart prepare`; run that again")
        pixels = images.fit(data, size=plan.size, geometry=plan.spec["resize"])
        return [apply(pixels, digest=digest, view=int(view), policy=self.policy) for view in views]


def decoded(count: int, load: Callable[[int], Read], *, ahead: int) -> Iterator[tuple[int, Read | ImageError]]:
    """Read images in threads, ahead of whoever takes them.

    Parameters
    ----------
    count : int
        How many images there are.
    load : callable
        Takes a place in [0, count) and returns what was read there, or raises ImageError.
    ahead : int
        At most this many images are in memory.

    Yields
    ------
    (place, what was read or the ImageError)
        In order. Any other error of `load` is raised here.
    """
    window: deque[Future[Read]] = deque()
    pool = ThreadPoolExecutor(joblib.cpu_count())
    try:
        submitted = 0
        for place in range(count):
            while submitted < min(count, place + ahead):
                window.append(pool.submit(load, submitted))
                submitted += 1
            try:
                yield place, window.popleft().result()
            except ImageError as error:
                yield place, error
    finally:
        pool.shutdown(cancel_futures=True)


class _Shelf:
    """Rows on their way to the cache: one shard is written behind, in a thread, while the next one fills."""

    def __init__(self, rows: RowCache) -> None:
        self.rows = rows
        self._pending: list[tuple[NDArray[np.uint8], NDArray[Any]]] = []
        self._since = time.monotonic()
        self._pool = ThreadPoolExecutor(1)
        self._written: Future[Path] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._close_shard()
                self._wait()
        finally:
            self._pool.shutdown()

    def put(self, digests: NDArray[np.uint8], computed: NDArray[np.float32]) -> None:
        """Take rows of shape (n, …); they are safe once their shard is closed and written."""
        self._pending.append((digests, _as_stored(computed, self.rows.dtype)))
        count = sum(len(rows) for _, rows in self._pending)
        size = sum(rows.nbytes for _, rows in self._pending)
        full = count >= row_cache.SHARD_ROWS or size >= row_cache.SHARD_BYTES
        if full or time.monotonic() - self._since > SECONDS_A_SHARD:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._pending:
            self._wait()
            digests, rows = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
            self._written = self._pool.submit(self.rows.add, digests, rows)
        self._pending = []
        self._since = time.monotonic()

    def _wait(self) -> None:
        if self._written:
            self._written.result()


def _as_stored(computed: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    if not np.isfinite(computed).all():
        raise InputError(
            "the network gave a value that is no number (NaN or infinite); check --weights and --precision"
        )
    with np.errstate(over="ignore"):
        stored: NDArray[Any] = computed.astype(dtype)
    if not np.isfinite(stored).all():
        raise InputError(
            f"--dtype: a feature of {float(np.abs(computed).max()):.4g} does not fit {dtype} "
            f"(at most {float(np.finfo(dtype).max):.4g}); use --dtype float32"
        )
    return stored
