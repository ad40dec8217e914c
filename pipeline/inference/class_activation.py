"""Where in a photo the evidence for a class lies: class activation maps, and what is shown of them.

Of a head without hidden layers on averaged activations a logit is a sum over places, so each place's share is exact:
the class activation map [1]_. The same holds for means over a grid and for activations taken as they are. Hidden layers
and maxima have no such shares; there, each channel is weighed by its mean gradient, and what speaks against the class
is left out: Grad-CAM [2]_.

References
----------
.. [1] B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba, "Learning deep features for discriminative
   localization", CVPR 2016.
.. [2] R. R. Selvaraju et al., "Grad-CAM: visual explanations from deep networks via gradient-based localization",
   ICCV 2017.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.backbones.engines.engine import Engine
from pipeline.errors import ImageError, InputError
from pipeline.inference.load import load
from pipeline.models.numpy_head import Readout
from pipeline.models.settings import Runtime
from pipeline.photos import decode
from pipeline.photos.settings import Geometry
from pipeline.storage.atomic import published
from pipeline.types import Pixels

Heat = NDArray[np.float32]

# From no evidence to the most there is in a picture: where a place stands, what colour, and how much of it covers the
# photo. Lightness rises throughout, so that it reads in grey, too.
STOPS: Final = (0.0, 0.35, 0.7, 1.0)
COLOURS: Final = ((70, 0, 90), (190, 30, 80), (250, 140, 20), (255, 240, 120))
COVER: Final = (0.0, 0.45, 0.6, 0.7)
SHOWN_SIDES: Final = (240, 640)  # px of a photo with its map: smaller ones are enlarged, larger ones reduced
COMPRESSION: Final = 1  # of its PNG: photos hardly shrink any further, and take several times as long


def heat(readout: Readout, maps: NDArray[np.float32], codes: NDArray[np.int64]) -> Heat:
    """Return how much each place speaks for a class.

    Parameters
    ----------
    readout : Readout
        Of the network that gave the activations.
    maps : ndarray of shape (n, h, w, C), float32
        Activations at the cut.
    codes : ndarray of shape (n,), int
        The class that each image is asked about.

    Returns
    -------
    ndarray of shape (n, h, w), float32
        In logits (of two classes, log odds), before a temperature divides them. If ``readout.linear``, the mean over an
        image and the logit of features that are all zero add up to the image's logit, and what speaks against the class
        is below zero; else no place is below zero.
    """
    gradient = readout.spread(readout.gradient(readout.features(maps), codes), maps)
    places = maps.shape[1] * maps.shape[2]
    if readout.linear:
        shares = np.einsum("nhwc,nhwc->nhw", maps, np.broadcast_to(gradient, maps.shape))
        return np.asarray(shares * np.float32(places))
    weights = np.broadcast_to(gradient, maps.shape).mean(axis=(1, 2)) * np.float32(places)
    return np.asarray(np.maximum(np.einsum("nhwc,nc->nhw", maps, weights), 0))


class Explainer:
    """A head with its trunk, or a model, asked where it sees a class.

    Parameters
    ----------
    trained_dir : Path
    runtime : Runtime

    Attributes
    ----------
    classes : list of str
        In the order of the codes.
    geometry : {"squash", "crop", "pad"}
        How a photo becomes a square.
    fit : callable
        Makes that square of a photo's bytes.
    exact : bool
        Whether maps are exact shares, below zero too; else they are Grad-CAM's.

    Raises
    ------
    InputError
        The head is no map of the features, as `knn` is none, or its features come from no map of places.
    """

    def __init__(self, trained_dir: Path, runtime: Runtime) -> None:
        self._trained = load(trained_dir, runtime)
        self._batch_size = runtime.batch_size
        self._engine: Engine | None = None
        self.exact = self._trained.readout.linear
        self.classes, self.geometry, self.fit = self._trained.classes, self._trained.geometry, self._trained.fit

    def heat(self, pixels: Pixels, codes: NDArray[np.int64]) -> Heat:
        """Return how much each place speaks for a class: `heat` of the activations for these pixels, (n, h, w) float32.

        `pixels` are (n, size, size, 3), RGB, `codes` (n,) the class that each image is asked about. The map has the
        activations' own height and width; see `overlay` and `placed`.
        """
        if self._engine is None:
            self._engine = self._trained.open("maps")
            require_places(self._engine.row_shape)
        starts = range(0, len(pixels), self._batch_size)
        found = self._engine.run(pixels[start : start + self._batch_size] for start in starts)
        parts = [
            heat(self._trained.readout, maps, codes[start : start + len(maps)])
            for start, maps in zip(starts, found, strict=True)
        ]
        return np.concatenate(parts) if parts else np.empty((0, *self._engine.row_shape[:2]), np.float32)


def require_places(row_shape: tuple[int, ...]) -> None:
    """Raise InputError unless activations have height and width."""
    if len(row_shape) != 3:
        raise InputError(f"expected activations (h, w, C) to find evidence in, received shape {row_shape} at the cut")


def placed(heat: Heat, *, width: int, height: int, geometry: Geometry) -> Heat:
    """Bring a map (h, w) of the network's square back onto the photo as it is shown: (height, width), float32.

    `geometry` is how the photo became the square. Of ``crop``, what the network did not see gets zero.
    """
    if geometry == "squash":
        return _resized(heat, width, height)
    if geometry == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        whole = np.zeros((height, width), np.float32)
        whole[top : top + side, left : left + side] = _resized(heat, side, side)
        return whole
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    return _resized(heat, side, side)[top : top + height, left : left + width]


def overlay(pixels: Pixels, heat: Heat) -> Pixels:
    """Draw a map over a photo, as colours from violet to yellow; what does not speak for the class stays as it is.

    The photo is (H, W, 3), as is the result; the map (h, w) is stretched over all of it. Colours go from zero to its
    largest value.
    """
    stretched = _resized(heat, pixels.shape[1], pixels.shape[0])
    most = float(stretched.max())
    level = np.clip(stretched / most, 0, 1) if most > 0 else np.zeros_like(stretched)
    cover = np.interp(level, STOPS, COVER)[..., None]
    colour = np.stack([np.interp(level, STOPS, channel) for channel in zip(*COLOURS, strict=True)], axis=-1)
    grey = pixels.mean(axis=-1, keepdims=True)  # the photo's own colours would mix with those of the map
    under = pixels + (grey - pixels) * np.minimum(1, 2 * cover)
    return np.asarray(np.rint(under + (colour - under) * cover), np.uint8)


def shown(pixels: Pixels, heat: Heat, *, geometry: Geometry) -> Pixels:
    """Return a photo with a map over it, of a size to look at.

    Parameters
    ----------
    pixels : ndarray of shape (H, W, 3), uint8
        The whole photo.
    heat : ndarray of shape (h, w), float32
        Of the square that the network took.
    geometry : {"squash", "crop", "pad"}
        How the photo became that square.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8
        The longer side has from `SHOWN_SIDES[0]` to `SHOWN_SIDES[1]` px.
    """
    least, most = SHOWN_SIDES
    small = decode.thumbnail(pixels, most)
    height, width = small.shape[:2]
    if max(height, width) < least:  # of a few pixels nobody would see which are covered
        height, width = (max(1, round(side * least / max(height, width))) for side in (height, width))
        small = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))
    return overlay(small, placed(heat, width=width, height=height, geometry=geometry))


def draw(photo: Path, digest: bytes, heat: Heat, path: Path, *, geometry: Geometry) -> None:
    """Write a photo with a map over it as PNG; see `shown`.

    Parameters
    ----------
    photo : Path
        An image file.
    digest : bytes
        Its sha256 when the heat was computed.
    heat : ndarray of shape (h, w), float32
    path : Path
        The name to publish under.
    geometry : {"squash", "crop", "pad"}

    Raises
    ------
    ImageError
        The file cannot be read any more, or is another.
    """
    data = decode.read_bytes(photo)
    if decode.digest(data) != digest:
        raise ImageError("the file changed meanwhile")
    picture = shown(decode.decode(data)[0], heat, geometry=geometry)
    with published(path) as temporary:
        Image.fromarray(picture).save(temporary, compress_level=COMPRESSION)


def _resized(heat: Heat, width: int, height: int) -> Heat:
    if heat.shape == (height, width):
        return heat
    return np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC))
