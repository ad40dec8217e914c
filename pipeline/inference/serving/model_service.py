"""What is asked of the network, and answered; nothing here knows of HTTP."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.backbones.engines.engine import Engine
from pipeline.errors import InputError
from pipeline.heads.calibration import thresholds
from pipeline.inference import class_activation
from pipeline.inference.load import load
from pipeline.inference.out_of_distribution import Familiarity, Neighbour, TrainingPhotos
from pipeline.inference.serving.settings import ServeSettings
from pipeline.models.classifier import Classifier
from pipeline.models.outputs import Depth
from pipeline.photos import decode
from pipeline.photos.batches import Photos
from pipeline.types import Pixels

THUMBNAIL_SIDE: Final = 320  # px of a training photo
JPEG_QUALITY: Final = 85


class Ask(NamedTuple):
    """One image, and what is wanted of it besides label and probabilities.

    Attributes
    ----------
    pixels : ndarray of shape (size, size, 3), uint8
        From `Service.fit`.
    explain : bool
        Where the evidence lies.
    about : int or None
        For which class; None is the one of its label.
    nearest : int
        So many of the most similar training photos.
    compare : bool
        How familiar it is.
    """

    pixels: Pixels
    explain: bool = False
    about: int | None = None
    nearest: int = 0
    compare: bool = False


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes
    ----------
    code : int
        Of the label in `Service.classes`.
    probabilities : list of float
        One a class, adding up to 1.
    heat : ndarray of shape (h, w), float32, or None
        As of `pipeline.inference.class_activation.heat`.
    nearest : tuple of Neighbour
    familiarity : Familiarity or None
    """

    code: int
    probabilities: list[float]
    heat: NDArray[np.float32] | None = None
    nearest: tuple[Neighbour, ...] = ()
    familiarity: Familiarity | None = None


class Answering(Protocol):
    """What an app serves: `Service`, or a stand-in for it.

    Attributes
    ----------
    classes : list of str
    explains, compares, shows : bool
        Whether there are heat maps, training photos to compare with, and their files to show.
    exact : bool
        Whether a heat map is exact, and not Grad-CAM's.
    """

    classes: list[str]
    explains: bool
    compares: bool
    shows: bool
    exact: bool

    def fit(self, data: bytes) -> Pixels:
        """Decode a file; ImageError with the reason if that cannot be done."""

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Answer a batch. Called from one thread at a time."""

    def drawn(self, data: bytes, heat: NDArray[np.float32]) -> bytes:
        """Return a photo with its heat map, as JPEG."""

    def thumbnail(self, path: str) -> bytes:
        """Return a training photo, small, as JPEG; KeyError if there is none of that path."""


class Service:
    """A head or a model, opened.

    Parameters
    ----------
    trained_dir : Path
    settings : ServeSettings
        How the network is run, and what photos are compared with: features and manifest of the training photos, both
        or neither. Images of more than `max_pixels` are refused before they take memory.

    Raises
    ------
    InputError
        One of these is given without the other, or as for `pipeline.inference.load.load`.
    SpecError
        As for `pipeline.inference.load.load`; or the features are not those the head was trained on.
    """

    def __init__(
        self,
        trained_dir: Path,
        settings: ServeSettings,
    ) -> None:
        self._used = load(trained_dir, settings.runtime)
        self._max_pixels, self._neighbours, self._root = settings.max_pixels, settings.neighbours, settings.images
        self.classes = self._used.classes
        self.warnings = list(self._used.warnings)
        self._training = _training_photos(self._used, settings)
        self.compares = self._training is not None
        self.shows = self._training is not None and settings.images is not None
        self._places: dict[str, int] = {}
        if self._training is not None:
            self.warnings += [line for line in self._training.warnings if line not in self.warnings]
            self._places = {path: place for place, path in enumerate(self._training.paths)}
        self.exact, self._depth, self._engine = self._opened()
        self.explains = self._depth == "maps"

    def _opened(self) -> tuple[bool, Depth, Engine]:
        """Open the network as deep as can be told from: activations, features, or probabilities alone."""
        try:
            exact = self._used.readout.linear
            engine = self._used.open("maps", prompt=True)
            class_activation.require_places(engine.row_shape)
        except InputError:  # a head that is no map of the features, or features of no places
            depth: Depth = "features" if self.compares else "probabilities"
            return False, depth, self._used.open(depth, prompt=True)
        return exact, "maps", engine

    def fit(self, data: bytes) -> Pixels:
        """Decode a file to pixels (size, size, 3); ImageError with the reason if that cannot be done."""
        return self._used.fit(data, max_pixels=self._max_pixels)

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Answer a batch. One thread at a time may call this."""
        (rows,) = self._engine.run([np.stack([ask.pixels for ask in asks])])
        found = self._used.outputs(rows, self._depth)
        codes = thresholds.decide(found.probabilities, self.classes, self._used.threshold)
        heat = self._heat(asks, found.maps, codes)
        likeness = self._likeness(asks, found.features)
        return [
            Answer(code, probabilities, heat.get(place), *likeness.get(place, ((), None)))
            for place, (code, probabilities) in enumerate(
                zip(codes.tolist(), found.probabilities.tolist(), strict=True)
            )
        ]

    def drawn(self, data: bytes, heat: NDArray[np.float32]) -> bytes:
        """Return a photo with its heat map, as JPEG."""
        pixels, _ = decode.decode(data, max_pixels=self._max_pixels)
        return jpeg(class_activation.shown(pixels, heat, geometry=self._used.geometry))

    def thumbnail(self, path: str) -> bytes:
        """Return a training photo as JPEG of at most `THUMBNAIL_SIDE` px; KeyError if there is none of that path.

        ImageError if it cannot be read, or is not what it was.
        """
        if self._root is None or self._training is None:
            raise KeyError(path)
        place = self._places[path]
        data = Photos(self._root, self._training.paths, self._training.digests).read(place)
        pixels, _ = decode.decode(data, max_pixels=self._max_pixels)
        return jpeg(decode.thumbnail(pixels, THUMBNAIL_SIDE))

    def _heat(
        self, asks: Sequence[Ask], maps: NDArray[np.float32] | None, codes: NDArray[np.int64]
    ) -> dict[int, NDArray[np.float32]]:
        """Return the heat of those that ask for it, by their place."""
        wanted = [place for place, ask in enumerate(asks) if ask.explain]
        if maps is None or not wanted:
            return {}
        about = [codes[place] if asks[place].about is None else asks[place].about for place in wanted]
        found = class_activation.heat(self._used.readout, maps[wanted], np.array(about, np.int64))
        return dict(zip(wanted, found, strict=True))

    def _likeness(
        self, asks: Sequence[Ask], features: NDArray[np.float32] | None
    ) -> dict[int, tuple[tuple[Neighbour, ...], Familiarity | None]]:
        """Return nearest training photos and familiarity of those that ask for either, by their place."""
        wanted = [place for place, ask in enumerate(asks) if ask.compare or ask.nearest]
        if self._training is None or features is None or not wanted:
            return {}
        k = self._training.rank(self._neighbours)
        most = max(k, *(asks[place].nearest for place in wanted))
        found = self._training.nearest(features[wanted], most)
        familiar = self._training.familiarity(found, k)
        named = self._training.named(found, most)
        return {
            place: (nearest[: asks[place].nearest], share if asks[place].compare else None)
            for place, nearest, share in zip(wanted, named, familiar, strict=True)
        }


def _training_photos(used: Classifier, settings: ServeSettings) -> TrainingPhotos | None:
    given: dict[str, Any] = {"features": settings.features, "manifest": settings.manifest}
    missing = [name for name, path in given.items() if path is None]
    if len(missing) == 2:
        return None
    if missing:
        raise InputError.of(missing[0], "a file, since the other of `features` and `manifest` is given", None)
    return TrainingPhotos(given["features"], given["manifest"], used.spec, head=used.path)


def jpeg(pixels: Pixels) -> bytes:
    """Return pixels (height, width, 3) as a JPEG file."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "JPEG", quality=JPEG_QUALITY)
    return target.getvalue()
