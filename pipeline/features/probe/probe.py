"""Where to cut: a quick head at every cut and pooling of a base, judged on a sample of train and val.

One forward pass gives the features of all of them. The test split is never looked at. The quick head is a ridge, and
every image is judged by one that was fitted to all the others: with a sample of 2,000 that leaves an interval three
times shorter than the validation split alone would, a tenth of the same images.
"""

import re
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.cutting import OF_TOKENS
from pipeline.backbones.engines import engine
from pipeline.backbones.engines.engine import Engine
from pipeline.backbones.engines.int8 import require_quantiser
from pipeline.backbones.settings import Pooling, Precision
from pipeline.backbones.table import GRAPHS, find, resolve_cut
from pipeline.errors import InputError, SettingError
from pipeline.features import int8, resolve
from pipeline.features.probe import cut_file
from pipeline.features.probe.bench import Bench, bench, judge
from pipeline.features.probe.comparison import chance, compare
from pipeline.features.probe.kept_rows import keep
from pipeline.features.probe.recommendation import recommend
from pipeline.features.probe.results import LAYERS, Contender, Finding, plot, write, write_contenders
from pipeline.features.probe.sample import Sample, draw
from pipeline.features.resolve import Plan
from pipeline.features.settings import AUTO, BaseSettings, FeatureSettings, ProbeSettings, Proof
from pipeline.photos import manifest
from pipeline.photos.remote import Root
from pipeline.plots import style
from pipeline.setting import require_effect
from pipeline.storage.atomic import publish_csv
from pipeline.types import Progress

POOLINGS: Final = ("avg", "max", "grid2", "grid3", *OF_TOKENS)
MOST_NAMED: Final = 10
IMAGES_TIMED: Final = 512
COMPARED: Final = re.compile(rf"([^@=]+?)(?:@([1-9][0-9]*))?(?:=(.+?))?(?:\+({'|'.join(get_args(Precision))}))?")


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
    require_effect(settings)
    backbone, cut = settings.base.backbone, settings.cut
    pooling = "avg" if settings.pooling == AUTO else settings.pooling
    layer = resolve_cut(find(backbone), cut)
    why = f"given: {cut} with {pooling}; nothing was probed"
    publish_csv(cut_path.with_name("layers.csv"), LAYERS, [])
    style.undrawn(plot(cut_path, "layers"))
    write_contenders(cut_path, [])
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

    Written are `cut_path` and, beside it, ``layers.csv`` and ``plots/layers.png``, every candidate of the first base,
    and ``backbones.csv`` and ``plots/backbones.png``, every base at the cut recommended for it; of one base, a table
    without a row and no plot. The same images give the same bytes, except for the speeds in the last two.

    Parameters
    ----------
    root : Path or Address
        The image root to which the manifest's paths are relative.
    manifest_path, cut_path : Path
        In and out.
    settings : ProbeSettings
        Its first base is the one that `cut_path` is for. Cuts are compared in float32, since below it a network with
        many outputs computes other values than one with a single output. A base that is compared in another precision
        is judged at the cut that float32 chose, by the features that `extract` would compute. The networks that were
        timed are kept in the cache, for `extract` to start with; so is a graph in int8. Of a first base in float32 so
        are the features of the sample at the cut that is recommended, which `extract` does not compute again.
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
    for base in bases:
        _require(base)
    found: dict[FeatureSettings, Finding] = {}
    passes = len({*bases} | {replace(base, precision="float32") for base in bases})

    def find(base: FeatureSettings, plan: Plan, bench: Bench) -> Finding:
        before = len(found) * len(drawn)

        def forwarded(done: int) -> None:
            progress(before + done, passes * len(drawn))

        found[base], rows = _find(plan, bench, Sample(root, drawn, plan, batch_size), proof, forwarded)
        if base == bases[0] and base.precision == "float32":
            chosen = found[base].recommendation.chosen.candidate
            kept = _plan(base, cut=chosen.layer, pooling=chosen.pooling, precision="float32")
            keep(kept, settings.cache, drawn.digests, rows)
        return found[base]

    rates: list[float] = []
    for base in bases:
        full, plan = replace(base, precision="float32"), _plan(base, cut="top", pooling="avg", precision="float32")
        finding = found.get(full) or find(full, plan, open_bench(plan))
        if len(bases) > 1:
            chosen = finding.recommendation.chosen.candidate
            plan = _plan(base, cut=chosen.layer, pooling=chosen.pooling, precision=base.precision)
            plan = int8.settled(plan, root, table, settings.cache)
            running = open_engine(plan)
            if base not in found:
                find(base, plan, Bench([chosen], running))
            rates.append(_images_per_second(running, Sample(root, drawn, plan, batch_size)))
    findings = [found[base] for base in bases]
    comparisons = sum(len(one.judged) for one in found.values()) - len(findings[0].judged)
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
    write(cut_path, findings[0])
    write_contenders(cut_path, contenders, proof)
    return findings[0], contenders


def bases_of(settings: ProbeSettings) -> list[FeatureSettings]:
    """Return the base to probe, and after it those that are compared with it, else under the same settings.

    How pixels enter, in numbers, is for the graphs among them; if there are none, for the first.
    """
    first = FeatureSettings(**{field.name: getattr(settings.base, field.name) for field in fields(BaseSettings)})
    found = [first]
    own: dict[str, Any] = {"input_scale": (), "input_offset": (), "channels": None}
    for text in settings.compare:
        parts = COMPARED.fullmatch(text)
        if not parts:
            expected = f"NAME, NAME@SIZE, NAME=WEIGHTS or both, and +{', +'.join(get_args(Precision))}"
            raise SettingError.of("compare", expected, repr(text))
        name, size, weights, precision = parts.groups()
        standard = BaseSettings(backbone=name)
        found.append(
            replace(
                first,
                backbone=standard.backbone,
                size=int(size) if size else None,
                weights=weights or standard.weights,
                alpha=standard.alpha,
                precision=cast(Precision, precision or "float32"),
            )
        )
    graphs = [base.backbone in GRAPHS for base in found]
    keep = graphs if any(graphs) else [place == 0 for place in range(len(found))]
    return [base if kept else replace(base, **own) for base, kept in zip(found, keep, strict=True)]


def _require(base: FeatureSettings) -> None:
    """Raise InputError if the precision of a base cannot be had here: before anything was forwarded."""
    engine.require_precision(_plan(base, cut="top", pooling="avg", precision=base.precision).engine, base.precision)
    if base.precision == "int8":
        require_quantiser()


def poolings_of(settings: ProbeSettings) -> tuple[str, ...]:
    """Return the poolings to compare: those that leave few numbers an image."""
    if settings.pooling == AUTO:
        return POOLINGS
    if settings.pooling not in POOLINGS:
        expected = f"auto, {', '.join(POOLINGS[:-1])} or {POOLINGS[-1]} with `cut='auto'`"
        raise SettingError.of("pooling", expected, settings.pooling)
    return (settings.pooling,)


def _plan(base: FeatureSettings, *, cut: str, pooling: str, precision: Precision) -> Plan:
    pooled = cast(Pooling, pooling)
    return resolve.plan(replace(base, cut=cut, pooling=pooled, precision=precision, dtype="float16"))


def _find(
    plan: Plan, bench: Bench, sample: Sample, proof: Proof, progress: Callable[[int], None]
) -> tuple[Finding, NDArray[np.float16]]:
    """Run every image through the bench once, and judge the candidates; return the features of the chosen one, too."""
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
            "file for `hs.prepare(exclude=...)`"
        )
    judged = judge(bench.candidates, features, sample.drawn.labels)
    if not judged:
        raise InputError(f"{plan.backbone.name}: expected features that fit float16, received none; check `weights`")
    top = next(one for one in judged if one.candidate.depth == judged[-1].candidate.depth)
    recommendation = recommend(judged, sample.drawn.labels, top=top, proof=proof)
    chosen = features[bench.candidates.index(recommendation.chosen.candidate)]
    return Finding(plan, judged, recommendation), chosen


def _images_per_second(engine: Engine, sample: Sample) -> float:
    """Time the run over the sample, decoding included, the first batch left out: it may still set things up."""
    count = min(len(sample), IMAGES_TIMED)
    started, first, done = time.perf_counter(), 0, 0
    for rows in engine.run(sample.batches(count)):
        done += len(rows)
        if not first and done < count:
            started, first = time.perf_counter(), done
    return (done - first) / (time.perf_counter() - started)
