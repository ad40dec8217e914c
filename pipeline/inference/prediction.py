"""What a prediction says."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.inference.out_of_distribution import Familiarity, Neighbour


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
