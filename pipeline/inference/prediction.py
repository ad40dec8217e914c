"""What is asked of a prediction, and what it says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.inference.out_of_distribution import Familiarity, Neighbour
from pipeline.inference.settings import PredictSettings
from pipeline.models.outputs import Depth


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is told of a photo besides its label and probabilities. By itself, nothing.

    Attributes
    ----------
    min_confidence : float or None
        Below this probability of the label that it would be given, a photo gets none.
    nearest : int
        So many of the training photos most like it.
    familiarity : bool
        How familiar it is.
    neighbours : int or None
        k: which of its nearest training photos tells; None is that of `TrainingPhotos.rank`.
    features, manifest : Path or None
        Where the training photos' features and names are, if one of these two is asked for.
    explain : Path or None
        A folder for heat maps over the photos.
    top : int
        So many of the most probable classes are shown on a terminal.
    """

    min_confidence: float | None = None
    nearest: int = 0
    familiarity: bool = False
    neighbours: int | None = None
    features: Path | None = None
    manifest: Path | None = None
    explain: Path | None = None
    top: int = 1

    @property
    def compared(self) -> bool:
        """Whether photos are compared with training photos."""
        return bool(self.nearest or self.familiarity)

    @property
    def depth(self) -> Depth:
        """How much is needed of the network."""
        return "maps" if self.explain else "features" if self.compared else "probabilities"


LABELS_ONLY: Final = Asked()


def asked_of(settings: PredictSettings, *, top: int = 1) -> Asked:
    """Return what settings ask for besides labels and probabilities."""
    return Asked(
        min_confidence=settings.min_confidence,
        nearest=settings.nearest,
        familiarity=settings.familiarity,
        neighbours=settings.neighbours,
        features=settings.features,
        manifest=settings.manifest,
        explain=settings.explain,
        top=top,
    )


@dataclass(frozen=True)
class Prediction:
    """What became of one file.

    Attributes
    ----------
    path : Path
        As it was given, or as it was found in a folder that was given.
    label : str or None
        The most probable class, or the one that the head's threshold gives; None if the file could not be used, or if
        its probability is below what was asked for.
    probabilities : dict of str to float
        One a class, calibrated, adding up to 1; empty if the file could not be used.
    error : str or None
        Why it could not be used, or not be drawn.
    abstained : bool
        Whether there is no label because none was probable enough.
    nearest : tuple of Neighbour
        The most similar training photos, as many as were asked for, the nearest first.
    familiarity : Familiarity or None
        How many training photos lie at least as far from the others.
    heat_map : Path or None
        Where the evidence for its most probable label is drawn.
    """

    path: Path
    label: str | None
    probabilities: dict[str, float]
    error: str | None
    abstained: bool = False
    nearest: tuple[Neighbour, ...] = ()
    familiarity: Familiarity | None = None
    heat_map: Path | None = None
