"""What next: the three things most likely to help, each with the command to type.

The rules stand in the order of their worth: what makes the numbers untrue, what raises the accuracy, what makes it
better known.
"""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.features import spec
from pipeline.heads.store import HEAD_FILE
from pipeline.report.artefacts import records
from pipeline.report.collect import Inputs, Read
from pipeline.report.sections.models import mistaken
from pipeline.report.sections.overview import estimate, minded
from pipeline.wording import counted, interval, number

MOST: Final = 3
WIDE: Final = 0.05  # an interval of the accuracy that leaves more than this open
WORTH: Final = 0.5  # points of accuracy, of twice the photos
UNTRUSTED: Final = 0.02  # a calibration error that is shown to be more than this

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the rules look at.

    Attributes
    ----------
    tested, mistakes : int
        Test images of the best model, and those that it gets wrong.
    accuracy : (value, low, high)
    calibration_error : (value, low, high) or None
    calibrated : bool or None
        None where it is not known how the best was made.
    random_base : bool
    tuned : bool
        Whether any model is fine-tuned.
    findings : dict of str to int, or None
        Counts of the audit; None without one.
    probed : bool
        Whether the layers were compared.
    other_cut : str or None
        What the probe chose, where the features are of another cut.
    gain : float or None
        Points that twice the photos would bring; None without a learning curve.
    """

    tested: int
    mistakes: int
    accuracy: Triple
    calibration_error: Triple | None = None
    calibrated: bool | None = None
    random_base: bool = False
    tuned: bool = False
    findings: dict[str, int] | None = None
    probed: bool = True
    other_cut: str | None = None
    gain: float | None = None


PREPARE: Final = "headstart prepare {images} {manifest}"
EXTRACT: Final = "headstart extract {images} {manifest} {features} --backbone {backbone}"


def steps(facts: Facts, **places: str) -> list[tuple[str, str]]:
    """Return the first three things that help and the command for each.

    `places` stand in the commands: ``images``, ``manifest``, ``features``, ``folder``, ``cut``, ``head``, ``trained``
    and ``backbone``, quoted for a shell.
    """
    errs, gain, off = facts.mistakes > 0, facts.gain or 0.0, facts.calibration_error or (0.0, 0.0, 0.0)
    copies, labels = (minded(facts.findings or {}, kinds) for kinds in (["leakage"], ["label_issues", "conflicts"]))
    rules = (
        (
            facts.random_base,
            "Take pretrained weights: the base has random ones, and its features show little of a photo.",
            EXTRACT + " --weights imagenet",
        ),
        (
            bool(copies),
            f"Keep copies in one split: {copies}, so the accuracy looks better than it is.",
            PREPARE + " --group-near-duplicates",
        ),
        (bool(labels), f"Put labels right: {labels}, as shown above. Then prepare again.", PREPARE),
        (
            errs and facts.findings is None,
            "Look for wrong labels and copies among your photos.",
            "headstart audit {images} {manifest} {features} {folder}/audit",
        ),
        (
            facts.other_cut is not None,
            f"Take the layer that the probe chose, {facts.other_cut}: these features are of another.",
            EXTRACT + " --cut-file {cut}",
        ),
        (
            errs and not facts.probed,
            "Try every layer of the base: one below the top may tell your photos apart better.",
            "headstart probe {images} {manifest} {folder}/cut.json --backbone {backbone}",
        ),
        (
            gain >= WORTH,
            f"Add training photos: twice as many would bring about {number(gain, 1, sign=True)} points of accuracy.",
            PREPARE,
        ),
        (
            errs and not facts.tuned,
            "Train the last block of the base as well: that helps where your photos are unlike ImageNet's.",
            "headstart finetune {images} {manifest} {features} {head} {folder}/tuned --epochs 5 --cut block-1",
        ),
        (
            facts.accuracy[2] - facts.accuracy[1] > WIDE,
            f"Add test photos: {counted(facts.tested, 'photo leaves', 'photos leave')} the accuracy open, "
            f"{interval(*facts.accuracy)}; four times as many would halve the interval.",
            PREPARE,
        ),
        (
            facts.calibrated is False and off[1] > UNTRUSTED,
            f"Calibrate the confidence: it is off by {interval(*off)}.",
            "headstart train {manifest} {features} {folder}/calibrated --calibrate temperature",
        ),
        (
            errs and facts.gain is None,
            "Ask the learning curve whether more training photos would help.",
            "headstart growth {manifest} {features} {folder}/growth",
        ),
        (True, "Label new photos with it.", "headstart predict {trained} NEW_PHOTOS"),
    )
    helping = [(words, command.format(**places)) for helps, words, command in rules if helps]
    return helping[:MOST]


def facts(read: Read, described: Mapping[str, Any]) -> Facts:
    """Return what the rules look at: of the best model, its data, and the spec of its features."""
    best, record = read.models[0], read.models[0].record
    cut = None if read.probed is None else (read.probed.cut["cut"], read.probed.cut["pooling"])
    return Facts(
        tested=len(best.predictions),
        mistakes=len(mistaken(best)),
        accuracy=estimate(best.metrics, "accuracy") or (math.nan, math.nan, math.nan),
        calibration_error=estimate(best.metrics, "ece"),
        calibrated=None if record is None else record.get("calibration") is not None,
        random_base=bool(spec.random_base(described)),
        tuned=any((one.record or {}).get("made", {}).get("finetuning") for one in read.models),
        findings=None if read.audited is None else read.audited.counts,
        probed=read.probed is not None and bool(read.probed.layers),
        other_cut=None if cut in (None, (described["cut"], described.get("pooling"))) else " with ".join(cut),
        gain=None if read.growth is None else 100 * read.growth["gain"],
    )


def places(inputs: Inputs, read: Read, described: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in the commands: the inputs as they were given, quoted for a shell."""
    best = read.models[0].trained
    heads = [path.parent for path in records(inputs.trained) if path.name == HEAD_FILE]
    heads.sort(key=lambda head: head != best)  # fine-tuning begins with the best head, if the best is one
    found = {
        "images": inputs.images,
        "manifest": inputs.manifest,
        "features": inputs.features,
        "folder": inputs.features.parent,
        "cut": inputs.probe or "",
        "head": heads[0] if heads else "HEAD_DIR",
        "trained": best or "HEAD_DIR",
        "backbone": described["backbone"]["name"],
    }
    return {name: shlex.quote(str(value)) for name, value in found.items()}
