"""Where to cut: a quick head at every cut and pooling of a base, judged on a sample of train and val.

One forward pass gives the features of all of them. The test split is never looked at. The quick head is a ridge, and
every image is judged by one that was fitted to all the others: with a sample of 2,000 that leaves an interval three
times shorter than the validation split alone would, a tenth of the same images.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import cutting, layer_table, weights
from pipeline.backbones.engines.engine import Engine, open_engine
from pipeline.backbones.table import find, resolve_cut
from pipeline.errors import InputError, SettingError
from pipeline.features import resolve
from pipeline.features.probe import cut_file
from pipeline.features.probe.recommendation import (
    Candidate,
    Difference,
    Judged,
    Recommendation,
    chance,
    compare,
    recommend,
)
from pipeline.features.resolve import Plan
from pipeline.features.settings import AUTO, BaseSettings, FeatureSettings, Pooling, ProbeSettings, Proof
from pipeline.photos import batches as reading
from pipeline.photos import manifest
from pipeline.photos.batches import of_manifest
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.plots import image_grid, layer_scores
from pipeline.stats import loo_ridge
from pipeline.storage.atomic import publish_csv

POOLINGS: Final = ("avg", "max", "grid2", "grid3")
MOST_CUTS: Final = 18
MOST_NAMED: Final = 10
IMAGES_TIMED: Final = 512

ACCURACY: Final = ("accuracy", "accuracy_low", "accuracy_high")
DIFFERENCE: Final = ("difference", "difference_low", "standard_errors", "shown")
COSTS: Final = ("features", "bytes", "multiply_adds")
LAYERS: Final = ("cut", "layer", "depth", "pooling", *ACCURACY, "squared_error", *DIFFERENCE, *COSTS)
SPEED: Final = ("images_per_second", "images", "seconds")
CONTENDERS: Final = ("backbone", "size", "cut", "layer", "pooling", *ACCURACY, *DIFFERENCE, *SPEED)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Bench:
    """A base cut in many places at once.

    Attributes
    ----------
    candidates : list of Candidate
        From below; those of one cut side by side.
    engine : Engine
        Its rows are the features of all candidates, one after the other.
    """

    candidates: list[Candidate]
    engine: Engine


@dataclass(frozen=True, eq=False)
class Finding:
    """What the probe of one base found: every candidate, from below, and which of them to take."""

    plan: Plan
    judged: list[Judged]
    recommendation: Recommendation


@dataclass(frozen=True, eq=False)
class Contender:
    """A base among several, cut as recommended.

    Attributes
    ----------
    finding : Finding
    images_per_second : float
        On this machine, decoding included, start-up not.
    images : int
        Distinct images of the whole manifest.
    difference : Difference
        To the first base, counting every candidate of every other base.
    """

    finding: Finding
    images_per_second: float
    images: int
    difference: Difference

    @property
    def seconds(self) -> float:
        """For all images of the manifest, at that rate."""
        return self.images / self.images_per_second

    @property
    def name(self) -> str:
        """The base with its size, as ``mobilenet_v2 at 160 px``."""
        return f"{self.finding.plan.backbone.name} at {self.finding.plan.size} px"


OpenBench = Callable[[Plan], Bench]
OpenEngine = Callable[[Plan], Engine]


def echo(cut_path: Path, settings: ProbeSettings) -> tuple[str, str]:
    """Write the cut that the user gave, with a table and pictures which say that nothing was probed.

    No image is read and no network is built: whether the base can be cut there, `extract` will see.

    Parameters
    ----------
    cut_path : Path
        ``cut.json``; see `probe` for what lies beside it.
    settings : ProbeSettings
        The cut is a word of the backbone's table or a layer's name; the pooling ``auto`` stands for ``avg``.

    Returns
    -------
    layer, pooling : str
        As written.

    Raises
    ------
    InputError
        There is no such backbone, or (CutError) no such word in its table; or bases are to be compared.
    """
    if settings.compare:
        raise SettingError("--compare wants --cut auto, since a cut belongs to one backbone")
    backbone, cut = settings.base.backbone, settings.cut
    pooling = "avg" if settings.pooling == AUTO else settings.pooling
    layer = resolve_cut(find(backbone), cut)
    why = f"given: {cut} with {pooling}; nothing was probed"
    publish_csv(cut_path.with_name("layers.csv"), LAYERS, [])
    image_grid.sentence(f"The cut is {why}", cut_path.with_name("layers.png"))
    _write_contenders(cut_path, [])
    cut_file.write(cut_path, backbone=backbone, cut=layer, pooling=pooling, why=why, figures=None)
    return layer, pooling


def probe(
    root: Root,
    manifest_path: Path,
    cut_path: Path,
    settings: ProbeSettings,
    *,
    progress: Progress,
    open_bench: OpenBench | None = None,
    open_engine: OpenEngine | None = None,
) -> tuple[Finding, list[Contender]]:
    """Probe a base and recommend a cut; given several bases, compare them.

    Written are `cut_path` and, beside it, ``layers.csv`` and ``layers.png``, every candidate of the first base, and
    ``backbones.csv`` and ``backbones.png``, every base at the cut recommended for it, without a row if there is but
    one. The same images give the same bytes, except for the speeds in the last two.

    Parameters
    ----------
    root : Path or Address
        The image root to which the manifest's paths are relative.
    manifest_path, cut_path : Path
        In and out.
    settings : ProbeSettings
        Its first base is the one that `cut_path` is for. The precision is float32, since below it a network with many
        outputs computes other values than one with a single output. The networks that were timed are kept in the
        cache, for `extract` to start with.
    progress : callable
        Called with (images forwarded, images to forward), of all bases.
    open_bench, open_engine : callable, optional
        Make the network with many outputs, and the one to be timed; by default `open_bench` of this module and
        `pipeline.features.resolve.open_engine`.

    Returns
    -------
    finding : Finding
        Of the first base.
    contenders : list of Contender
        One a base, if there are several.

    Raises
    ------
    InputError
        Images cannot be read, or there are fewer than two classes among those of train and val.
    """
    bases, poolings = bases_of(settings), poolings_of(settings)
    batch_size, proof = settings.batch_size, settings.proof
    table = manifest.read(manifest_path)
    drawn = draw(table, settings.sample)
    if len(drawn.classes) < 2:
        raise InputError(
            f"{manifest_path}: expected images of two classes or more in train and val, received {drawn.classes}"
        )
    open_bench = open_bench or (lambda plan: bench(plan, poolings=poolings, batch_size=batch_size))
    open_engine = open_engine or (lambda plan: resolve.open_engine(plan, batch_size=batch_size, cache=settings.cache))
    distinct = len({digest.tobytes() for digest in table.digests})
    findings: list[Finding] = []
    rates: list[float] = []
    for base in bases:

        def forwarded(done: int, before: int = len(findings) * len(drawn)) -> None:
            progress(before + done, len(bases) * len(drawn))

        plan = _plan(base, cut="top", pooling="avg")
        finding = _find(plan, open_bench(plan), Sample(root, drawn, plan, batch_size), proof, forwarded)
        findings.append(finding)
        if len(bases) > 1:
            chosen = finding.recommendation.chosen.candidate
            plan = _plan(base, cut=chosen.layer, pooling=chosen.pooling)
            rates.append(_images_per_second(open_engine(plan), Sample(root, drawn, plan, batch_size)))
    comparisons = sum(len(finding.judged) for finding in findings[1:])
    chosen_first, by_chance = findings[0].recommendation.chosen, chance(drawn.labels)
    contenders = [
        Contender(
            finding,
            rate,
            distinct,
            compare(finding.recommendation.chosen, chosen_first, by_chance, proof, comparisons),
        )
        for finding, rate in zip(findings, rates, strict=bool(rates))
    ]
    _write(cut_path, findings[0])
    _write_contenders(cut_path, contenders, proof)
    return findings[0], contenders


def preferred(contenders: Sequence[Contender], proof: Proof) -> tuple[Contender, str]:
    """Return the base to take, and why: the first, unless another is shown to be better, or faster and not worse.

    Parameters
    ----------
    contenders : sequence of Contender
        At least one, the first being the one that is kept in doubt.
    proof : Proof
        With which they were compared.
    """
    first, *others = contenders
    better = [one for one in others if one.difference.shown == "better"]
    faster = [
        one for one in others if one.difference.shown == "not worse" and one.images_per_second > first.images_per_second
    ]
    level = f"with {100 * proof.confidence:g} % confidence"
    if better:
        taken = min(better, key=lambda one: one.finding.recommendation.chosen.squared_error)
        return taken, f"{taken.name} is shown to be better than {first.name} {level}"
    if faster:
        taken = max(faster, key=lambda one: one.images_per_second)
        return taken, f"{taken.name} is faster and shown to be at most {proof.margin:g} less accurate {level}"
    return first, (
        f"{first.name} is kept: no other base is shown to be better, or faster and at most {proof.margin:g} less "
        f"accurate, {level}"
    )


def bases_of(settings: ProbeSettings) -> list[BaseSettings]:
    """Return the base to probe, and after it those that are compared with it, else under the same settings."""
    found = [settings.base]
    for text in settings.compare:
        parts = re.fullmatch(r"([^@=]+)(?:@([1-9][0-9]*))?(?:=(.+))?", text)
        if not parts:
            raise SettingError(f"--compare: expected NAME, NAME@SIZE, NAME=WEIGHTS or both, received {text!r}")
        name, size, weights = parts.groups()
        standard = BaseSettings(backbone=name)
        found.append(
            replace(
                settings.base,
                backbone=name,
                size=int(size) if size else None,
                weights=weights or standard.weights,
                alpha=standard.alpha,
            )
        )
    return found


def poolings_of(settings: ProbeSettings) -> tuple[str, ...]:
    """Return the poolings to compare: those that leave few numbers an image."""
    if settings.pooling == AUTO:
        return POOLINGS
    if settings.pooling not in POOLINGS:
        raise SettingError(
            f"--pooling: expected auto, {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]} with --cut auto, received "
            f"{settings.pooling}"
        )
    return (settings.pooling,)


def draw(table: Manifest, sample: int) -> Manifest:
    """Take a sample of the distinct images of train and val, each class by its share, in the order of their digests.

    A digest is as good as a random number, so the first images of a class are a random draw from it, and the same one
    each time. Image r (from 0) of the c images of a class stands at (r + 1/2) / c; those that stand lowest are taken.

    Parameters
    ----------
    table : Manifest
    sample : int
        At most so many.
    """
    first: dict[bytes, int] = {}
    for place in sorted(range(len(table)), key=table.paths.__getitem__):
        if table.splits[place] != "test":
            first.setdefault(table.digests[place].tobytes(), place)
    of_class: dict[str, list[bytes]] = {}
    for digest in sorted(first):
        of_class.setdefault(table.labels[first[digest]], []).append(digest)
    stands = [((rank + 0.5) / len(its), digest) for its in of_class.values() for rank, digest in enumerate(its)]
    return table.take([first[digest] for digest in sorted(digest for _, digest in sorted(stands)[:sample])])


def bench(plan: Plan, *, poolings: Sequence[str], batch_size: int) -> Bench:
    """Build a base, cut it at every rung with every pooling, and open it with the engine of the plan, at float32.

    Parameters
    ----------
    plan : Plan
        Its cut and pooling do not matter.
    poolings : sequence of str
    batch_size : int
        Images a batch.
    """
    backbone = plan.backbone
    base = weights.load(backbone, size=plan.size, alpha=plan.spec["backbone"]["alpha"], weights=plan.weights)
    rows = layer_table.rungs(layer_table.layer_table(base), blocks=backbone.cuts.values(), most=MOST_CUTS)
    cuts = [(row, pooling) for row in rows for pooling in poolings]
    model, widths = cutting.trunks(backbone, base, cuts=[(row.name, pooling) for row, pooling in cuts])
    words = {layer: word for word, layer in backbone.cuts.items()}
    candidates = [
        Candidate(
            cut=words.get(row.name, row.name),
            layer=row.name,
            depth=1 + place // len(poolings),
            pooling=pooling,
            features=width,
            multiply_adds=row.multiply_adds_below,
        )
        for place, ((row, pooling), width) in enumerate(zip(cuts, widths, strict=True))
    ]
    engine = open_engine(plan.engine, lambda: model, batch_size=batch_size, precision="float32", kept=None)
    return Bench(candidates, engine)


def judge(
    candidates: Sequence[Candidate], features: Sequence[NDArray[np.float16]], labels: Sequence[str]
) -> list[Judged]:
    """Judge each candidate by a ridge that leaves the image out.

    Parameters
    ----------
    candidates : sequence of Candidate
    features : sequence of ndarray of shape (n, features), float16
        One a candidate. A candidate whose features do not fit float16 is left out, as `extract` would refuse it.
    labels : sequence of str, n
    """
    codes = np.unique(np.array(labels), return_inverse=True)[1]
    judged = []
    for candidate, columns in zip(candidates, features, strict=True):
        if np.isfinite(columns).all():
            given, errors = loo_ridge.left_out(columns, codes)
            judged.append(Judged(candidate, given == codes, errors))
    return judged


class Sample:
    """The images of a sample as batches of pixels, read ahead by threads, as one plan wants them."""

    def __init__(self, root: Root, drawn: Manifest, plan: Plan, batch_size: int) -> None:
        self.root, self.drawn, self.plan, self.batch_size = root, drawn, plan, batch_size
        self.failures: list[str] = []

    def __len__(self) -> int:
        return len(self.drawn)

    def batches(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the first `count` images, of shape (b, size, size, 3). Those that cannot be read go to `failures`."""
        found = reading.batches(
            of_manifest(self.root, self.drawn),
            self.plan.fit,
            batch_size=self.batch_size,
            failed=lambda place, error: self.failures.append(f"{self.drawn.paths[place]} ({error})"),
            order=range(count),
        )
        return (batch.pixels for batch in found)


def _plan(base: BaseSettings, *, cut: str, pooling: str) -> Plan:
    chosen = {field.name: getattr(base, field.name) for field in fields(BaseSettings)}
    return resolve.plan(
        FeatureSettings(**chosen, cut=cut, pooling=cast(Pooling, pooling), precision="float32", dtype="float16")
    )


def _find(plan: Plan, bench: Bench, sample: Sample, proof: Proof, progress: Callable[[int], None]) -> Finding:
    """Run every image through the bench once, and judge the candidates."""
    ends = np.cumsum([candidate.features for candidate in bench.candidates])
    features = [np.empty((len(sample), one.features), np.float16) for one in bench.candidates]
    done = 0
    for rows in bench.engine.run(sample.batches(len(sample))):
        with np.errstate(over="ignore"):
            parts = np.split(rows.astype(np.float16), ends[:-1], axis=1)
        for columns, part in zip(features, parts, strict=True):
            columns[done : done + len(part)] = part
        done += len(rows)
        progress(done)
    if sample.failures:
        named = "; ".join(sample.failures[:MOST_NAMED])
        more = f"; and {len(sample.failures) - MOST_NAMED:,} more" if len(sample.failures) > MOST_NAMED else ""
        raise InputError(
            f"{len(sample.failures):,} images could not be read: {named}{more}. Mend these, or list their paths in a "
            "file for `headstart prepare --exclude`"
        )
    judged = judge(bench.candidates, features, sample.drawn.labels)
    if not judged:
        raise InputError(f"{plan.backbone.name}: expected features that fit float16, received none; check --weights")
    top = next(one for one in judged if one.candidate.depth == judged[-1].candidate.depth)
    return Finding(plan, judged, recommend(judged, sample.drawn.labels, top=top, proof=proof))


def _images_per_second(engine: Engine, sample: Sample) -> float:
    """Time the run over the sample, decoding included, the first batch left out: it may still set things up."""
    count = min(len(sample), IMAGES_TIMED)
    started, first, done = time.perf_counter(), 0, 0
    for rows in engine.run(sample.batches(count)):
        done += len(rows)
        if not first and done < count:
            started, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - started)


def _row(judged: Judged, difference: Difference) -> tuple[Any, ...]:
    """Return the values of `LAYERS`."""
    one = judged.candidate
    place = (one.cut, one.layer, one.depth, one.pooling)
    errors, costs = f"{judged.squared_error:.6f}", (one.features, one.bytes, one.multiply_adds)
    return (*place, *_accuracy(judged), errors, *_difference(difference), *costs)


def _difference(found: Difference) -> list[str]:
    """Return the values of `DIFFERENCE`."""
    return [f"{found.accuracy:.6f}", f"{found.accuracy_low:.6f}", f"{found.standard_errors:.3f}", found.shown]


def _accuracy(judged: Judged) -> list[str]:
    """Return the values of `ACCURACY`."""
    return [f"{value:.6f}" for value in (judged.accuracy, *judged.interval)]


def _write(cut_path: Path, finding: Finding) -> None:
    found, spec = finding.recommendation, finding.plan.spec
    publish_csv(cut_path.with_name("layers.csv"), LAYERS, map(_row, finding.judged, found.differences))
    rungs = [
        layer_scores.Rung(
            one.depth, one.cut, one.pooling, judged.accuracy, *judged.interval, one.multiply_adds, one.bytes
        )
        for judged in finding.judged
        for one in [judged.candidate]
    ]
    chosen = found.chosen.candidate
    title = f"{finding.plan.backbone.name} at {finding.plan.size} px: {found.why}"
    layer_scores.layers(
        layer_scores.scored_layers(rungs, (chosen.cut, chosen.pooling)), cut_path.with_name("layers.png"), title
    )
    measured_at = {"size": spec["size"], "resize": spec["resize"], "weights": spec["weights"]}
    cut_file.write(
        cut_path,
        backbone=finding.plan.backbone.name,
        cut=chosen.layer,
        pooling=chosen.pooling,
        why=found.why,
        figures={**measured_at, **found.figures},
    )


def _write_contenders(cut_path: Path, contenders: Sequence[Contender], proof: Proof | None = None) -> None:
    rows, dots = [], []
    for one in contenders:
        plan, chosen = one.finding.plan, one.finding.recommendation.chosen
        cut = chosen.candidate
        speed = (f"{one.images_per_second:.1f}", one.images, f"{one.seconds:.1f}")
        where = (plan.backbone.name, plan.size, cut.cut, cut.layer, cut.pooling)
        rows.append((*where, *_accuracy(chosen), *_difference(one.difference), *speed))
        name = f"{one.name}, {cut.cut} with {cut.pooling}"
        dots.append(layer_scores.Contender(name, chosen.accuracy, *chosen.interval, one.images_per_second, one.seconds))
    publish_csv(cut_path.with_name("backbones.csv"), CONTENDERS, rows)
    picture = cut_path.with_name("backbones.png")
    if contenders and proof:
        layer_scores.backbones(dots, picture, preferred(contenders, proof)[1])
    else:
        image_grid.sentence("Backbones are compared where several are given: --compare", picture)
