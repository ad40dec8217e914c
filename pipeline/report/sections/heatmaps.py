"""Heat maps of the mistakes, by the heads and models that made them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError, InputError
from pipeline.inference.class_activation import Explainer, overlay, placed
from pipeline.models.settings import Runtime
from pipeline.photos import decode
from pipeline.photos.remote import Root
from pipeline.report.artefacts import Evaluated
from pipeline.report.sections.models import ENLARGED_SIDE, PICTURE_SIDE
from pipeline.report.settings import ReportSettings
from pipeline.report.thumbnails import enlarged
from pipeline.types import Pixels

BATCH_SIZE: Final = 4  # a few pictures, once


class HeatMaps:
    """What `pipeline.report.report.report` takes as `explain`: a network is built when it is first asked.

    Parameters
    ----------
    weights : str or None
        Of the base, as in `pipeline.features.settings.FeatureSettings`; None for those of the training.
    cache : Path or None
        Where compiled networks are kept.

    Attributes
    ----------
    warnings : list of str
        Why there are no heat maps of some, one line each.
    """

    def __init__(self, *, weights: str | None, cache: Path | None) -> None:
        self._weights, self._cache = weights, cache
        self.warnings: list[str] = []

    @classmethod
    def of(cls, settings: ReportSettings) -> Self | None:
        """Return those that the settings want; None if they want none."""
        return cls(weights=settings.weights, cache=settings.cache) if settings.heat_maps else None

    def __call__(self, one: Evaluated, files: Sequence[Root], labels: Sequence[str]) -> list[Pixels | None]:
        """Return each picture with what speaks for its class laid over it; None where that cannot be told.

        The head or model of `one` is asked about each file and the class in `labels`.
        """
        if not files or one.trained is None:
            return [None] * len(files)
        try:
            runtime = Runtime(weights=self._weights, batch_size=BATCH_SIZE, cache=self._cache)
            explainer = Explainer(one.trained, runtime)
            return _drawn(explainer, files, labels)
        except InputError as error:
            self.warnings.append(f"no heat maps of {one.name}: {error}")
            return [None] * len(files)


def _drawn(explainer: Explainer, files: Sequence[Root], labels: Sequence[str]) -> list[Pixels | None]:
    found = [_read(explainer, file) for file in files]
    places = [place for place, one in enumerate(found) if one is not None]
    squares = np.stack([one[1] for one in found if one is not None]) if places else None
    if squares is None:
        return [None] * len(files)
    codes = np.array([explainer.classes.index(labels[place]) for place in places], np.int64)
    heats: dict[int, NDArray[np.float32]] = dict(zip(places, explainer.heat(squares, codes), strict=True))
    drawn: list[Pixels | None] = []
    for place, one in enumerate(found):
        if one is None:
            drawn.append(None)
            continue
        pixels = one[0]
        height, width = pixels.shape[:2]
        drawn.append(overlay(pixels, placed(heats[place], width=width, height=height, geometry=explainer.geometry)))
    return drawn


def _read(explainer: Explainer, file: Root) -> tuple[Pixels, Pixels] | None:
    """Return a picture as it is shown, and as the network sees it; None if it cannot be read."""
    try:
        data = decode.read_bytes(file)
        shown, _ = enlarged(decode.preview(data, side=PICTURE_SIDE), ENLARGED_SIDE)
        return shown, explainer.fit(data)
    except ImageError:
        return None
