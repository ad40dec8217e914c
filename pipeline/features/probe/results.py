"""What a probe found, and the tables and pictures of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.features.probe import cut_file
from pipeline.features.probe.comparison import Difference, Judged
from pipeline.features.probe.recommendation import Recommendation
from pipeline.features.resolve import Plan
from pipeline.features.settings import Proof
from pipeline.plots import layer_scores, style
from pipeline.storage.atomic import publish_csv
from pipeline.storage.json_files import publish_digests

ACCURACY: Final = ("accuracy", "accuracy_low", "accuracy_high")
DIFFERENCE: Final = ("difference", "difference_low", "standard_errors", "shown")
COSTS: Final = ("features", "bytes", "multiply_adds")
LAYERS: Final = ("cut", "layer", "depth", "pooling", *ACCURACY, "squared_error", *DIFFERENCE, *COSTS)
SPEED: Final = ("images_per_second", "images", "seconds")
CONTENDERS: Final = ("backbone", "size", "cut", "layer", "pooling", *ACCURACY, *DIFFERENCE, *SPEED)


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
        """The base with its size, as ``mobilenet_v2 at 160 px``, and its precision below float32: ``… in int8``."""
        precision = self.finding.plan.spec["precision"]
        told = "" if precision == "float32" else f" in {precision}"
        return f"{self.finding.plan.backbone.name} at {self.finding.plan.size} px{told}"

    @property
    def base(self) -> str:
        """The base as `compare` names it, without size and weights."""
        name, precision = self.finding.plan.backbone.name, self.finding.plan.spec["precision"]
        return name if precision == "float32" else f"{name}+{precision}"


def preferred(contenders: Sequence[Contender], proof: Proof) -> tuple[Contender, str]:
    """Return the base to take, and why: the first, unless another is shown to be better, or faster and not worse.

    Of the contenders, at least one, the first is kept in doubt; `proof` is what they were compared with.
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


def plot(cut_path: Path, name: str) -> Path:
    """Return where a plot of this name goes: not every run draws each, so that DVC tracks their folder."""
    return cut_path.parent / "plots" / f"{name}.png"


def write(cut_path: Path, finding: Finding) -> None:
    """Write ``layers.csv``, ``plots/layers.png`` and the cut itself."""
    found, spec = finding.recommendation, finding.plan.spec
    publish_csv(cut_path.with_name("layers.csv"), LAYERS, map(_row, finding.judged, found.differences))
    rungs = [
        layer_scores.Rung(one.depth, one.cut, one.pooling, judged.accuracy, *judged.interval, one.multiply_adds)
        for judged in finding.judged
        for one in [judged.candidate]
    ]
    chosen = found.chosen.candidate
    scored = layer_scores.scored_layers(rungs, (chosen.cut, chosen.pooling))
    base = f"{finding.plan.backbone.name} at {finding.plan.size} px"
    layer_scores.layers(scored, plot(cut_path, "layers"), base, found.why)
    measured_at = {"size": spec["size"], "resize": spec["resize"], "weights": spec["weights"]}
    cut_file.write(
        cut_path,
        backbone=finding.plan.backbone.name,
        cut=chosen.layer,
        pooling=chosen.pooling,
        why=found.why,
        figures={**measured_at, **found.figures},
    )


def write_contenders(cut_path: Path, contenders: Sequence[Contender], proof: Proof | None = None) -> None:
    """Write ``backbones.csv`` and, of several bases, ``plots/backbones.png``; and the digests of both tables."""
    rows, dots = [], []
    for one in contenders:
        plan, chosen = one.finding.plan, one.finding.recommendation.chosen
        cut = chosen.candidate
        speed = (f"{one.images_per_second:.1f}", one.images, f"{one.seconds:.1f}")
        where = (one.base, plan.size, cut.cut, cut.layer, cut.pooling)
        rows.append((*where, *_accuracy(chosen), *_difference(one.difference), *speed))
        name = f"{one.name}, {cut.cut} with {cut.pooling}"
        dots.append(layer_scores.Contender(name, chosen.accuracy, *chosen.interval, one.images_per_second, one.seconds))
    publish_csv(cut_path.with_name("backbones.csv"), CONTENDERS, rows)
    publish_digests(cut_path.parent, ("layers.csv", "backbones.csv"))
    if contenders and proof:
        layer_scores.backbones(dots, plot(cut_path, "backbones"), preferred(contenders, proof)[1])
    else:
        style.undrawn(plot(cut_path, "backbones"))
