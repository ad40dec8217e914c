"""What the report is made from: read, brought together, and refused where it is not of one run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

from pipeline.errors import ArtefactError
from pipeline.photos import manifest
from pipeline.photos.manifest import QUARANTINE, Manifest
from pipeline.photos.remote import Root
from pipeline.photos.splits import SPLITS
from pipeline.report import artefacts
from pipeline.report.artefacts import Audited, Document, Evaluated, Probed, Row
from pipeline.report.settings import ReportSettings
from pipeline.storage import json_files
from pipeline.storage.json_files import TEXT, number, whole

EXTRACTION: Final = json_files.Document(
    "a report of an extraction",
    "`hs.extract` with a report",
    {
        **dict.fromkeys(("images", "distinct", "views", "computed", "reused", "quarantined"), whole()),
        "images_per_second": number(0),
        "engine": TEXT,
    },
    sealed=True,
)
GROWTH: Final = json_files.Document("a learning curve", "`hs.growth`", {"gain": number(-1)}, sealed=True)


@dataclass(frozen=True)
class Inputs:
    """What is read.

    Attributes
    ----------
    images : Path or Address
        Image root.
    manifest, features : Path
        ``quarantine.csv`` lies beside the manifest.
    evaluations : sequence of Path
        Written by `evaluate`, or folders of such folders.
    probe : Path or None
        ``cut.json``.
    extraction : Path or None
        The report of `extract`.
    audit : Path or None
        Folder written by `audit`.
    trained : sequence of Path
        Heads and models, or folders of such; which evaluation is of which follows from their digests.
    comparison : Path or None
        Folder written by `compare`, of these evaluations.
    reports : Path or None
        Folder of ``NAME.json``: what each training took.
    growth : Path or None
        Folder written by `growth`.
    """

    images: Root
    manifest: Path
    features: Path
    evaluations: Sequence[Path]
    probe: Path | None = None
    extraction: Path | None = None
    audit: Path | None = None
    trained: Sequence[Path] = ()
    comparison: Path | None = None
    reports: Path | None = None
    growth: Path | None = None

    @classmethod
    def of(
        cls, images: Root, manifest: Path, features: Path, evaluations: Sequence[Path], settings: ReportSettings
    ) -> Self:
        """Return these, and what the settings name besides."""
        named = {field.name for field in fields(cls)} & {field.name for field in fields(settings)}
        return cls(images, manifest, features, evaluations, **{name: getattr(settings, name) for name in named})


@dataclass(frozen=True)
class Read:
    """The artefacts as they were read.

    Attributes
    ----------
    everything : Manifest
    distinct : Manifest
        A row for each digest, in their order.
    digests : dict of path to digest
    quarantine : list of Row or None
        None if there is no such file.
    models : list of Evaluated
        From the best to the worst.
    probed : Probed or None
    audited : Audited or None
    compared : dict or None
        ``comparison.json``.
    extraction : dict or None
        The report of `extract`.
    growth : dict or None
        ``growth.json``.
    """

    everything: Manifest
    distinct: Manifest
    digests: dict[str, bytes]
    quarantine: list[Row] | None
    models: list[Evaluated]
    probed: Probed | None
    audited: Audited | None
    compared: Document | None
    extraction: Document | None
    growth: Document | None


def read(inputs: Inputs) -> Read:
    """Read all inputs but the images and their features.

    ArtefactError if one is missing, damaged, or of another run than the others; InputError if two evaluations have the
    same name.
    """
    everything = manifest.read(inputs.manifest)
    models = artefacts.evaluated(inputs.evaluations, inputs.trained, inputs.reports)
    digests = {path: digest.tobytes() for path, digest in zip(everything.paths, everything.digests, strict=True)}
    _require_of(everything, models, inputs.manifest, set(digests.values()))
    compared = artefacts.compared(inputs.comparison, models) if inputs.comparison and len(models) > 1 else None
    names = [place["name"] for place in compared["ranking"]] if compared else []
    models.sort(key=lambda one: names.index(one.name) if names else -one.metrics["accuracy"])
    quarantine = inputs.manifest.parent / QUARANTINE
    return Read(
        everything=everything,
        distinct=everything.distinct(*SPLITS),
        digests=digests,
        quarantine=artefacts.rows(quarantine, ("path", "reason"), "prepare") if quarantine.exists() else None,
        models=models,
        probed=artefacts.probed(inputs.probe) if inputs.probe else None,
        audited=artefacts.audited(inputs.audit) if inputs.audit else None,
        compared=compared,
        extraction=EXTRACTION.read(inputs.extraction) if inputs.extraction else None,
        growth=GROWTH.read(inputs.growth / "growth.json") if inputs.growth else None,
    )


def _require_of(everything: Manifest, models: Sequence[Evaluated], path: Path, digests: set[bytes]) -> None:
    """Refuse evaluations of other images or classes than the manifest's."""
    for one in models:
        unknown = [name for name, digest in _tested(one) if digest not in digests]
        if unknown or set(one.predictions.classes) != set(everything.classes):
            what = f"{unknown[0]!r} and perhaps more" if unknown else f"classes {', '.join(one.predictions.classes)}"
            raise ArtefactError(
                f"{one.name}: expected an evaluation on images and classes of {path}, received one of {what}; "
                "evaluate again"
            )


def _tested(one: Evaluated) -> Iterable[tuple[str, bytes]]:
    return zip(one.predictions.paths, map(bytes.fromhex, one.predictions.digests), strict=True)
