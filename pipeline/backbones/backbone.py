"""What is known of a base without building it, and how it is built."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.backbones.network import Network
from pipeline.backbones.scaling import Scaling

IMAGE = "input_layer"
"""The layer every base starts with, once `pipeline.backbones.builder` has named the automatic ones."""


@dataclass(frozen=True)
class Backbone:
    """One pretrained base.

    Attributes
    ----------
    name : str
        Keras' name of the function in snake case.
    builder : str
        ``module:function`` that builds the base.
    preprocessing : str or Scaling
        What turns RGB pixels in 0…255 into what the base takes: ``module:function``, or numbers.
    size : int
        Default height and width of the images, px.
    width : int
        Features at the cut ``top`` under average pooling (at width multiplier 1).
    parameters : int
        Parameters without the classifier (at width multiplier 1).
    weights_template : str
        Name of the file of ImageNet weights without the classifier; see `weights_file`.
    cuts : Mapping of str to str
        Portable words for cuts, and the layers they mean, from below: ``image``, …, ``block-2``, ``block-1``,
        ``top``.
    alphas : tuple of float
        Width multipliers that have ImageNet weights; empty if the builder has none.
    sizes : tuple of int
        Sizes with ImageNet weights of their own, if there are several; any other size shares those of `size`.
    layers : str
        ``module:function`` that lists the layers of the base, so that neither Keras nor TensorFlow is needed for its
        graph; empty if only Keras can build it.
    resize, interpolation : str
        How a photo becomes a square, and the filter, where a user does not say: as in `pipeline.photos.settings`.
    """

    name: str
    builder: str
    preprocessing: str | Scaling
    size: int
    width: int
    parameters: int
    weights_template: str
    cuts: Mapping[str, str]
    alphas: tuple[float, ...]
    sizes: tuple[int, ...]
    layers: str = ""
    resize: str = "squash"
    interpolation: str = "bilinear"

    def preprocess(self, pixels: Any) -> Any:
        """Apply the model's own preprocessing to RGB in 0…255, (B, H, W, 3) float32.

        Keras works in place on a NumPy array; a tensor is not modified.
        """
        if isinstance(self.preprocessing, str):
            return _function(self.preprocessing)(pixels)
        scaling = self.preprocessing
        pixels = pixels * np.array(scaling.scale, np.float32) + np.array(scaling.offset, np.float32)
        return pixels[..., ::-1] if scaling.channels == "bgr" else pixels

    def settled(
        self, path: Path | None, *, scale: Sequence[float], offset: Sequence[float], channels: str | None, **_: Any
    ) -> Self:
        """Return the row with the preprocessing that a user gave in numbers, if any; see `Scaling.chosen`.

        `path` is that of its weights; what was not given is empty or None.
        """
        if not (scale or offset or channels):
            return self
        why = f"numbers take the place of all preprocessing of {self.name}"
        return replace(self, preprocessing=Scaling.chosen(scale, offset, channels, None, why))

    def runs_on(self, engine: str) -> str:
        """Return the engine to ask for, given what a user asked for; InputError if that cannot run this base."""
        return engine

    def weights_file(self, *, size: int, alpha: float) -> str:
        """Name the file with the ImageNet weights for images of `size` px at width multiplier `alpha`."""
        percent = f"{100 * alpha:.0f}"  # MobileNet's files write 0.25 as 2_5 and 1.0 as 1_0
        return self.weights_template.format(
            alpha=float(alpha),
            digits=f"{percent[0]}_{percent[1:2]}",
            size=size if size in self.sizes else self.size,
        )

    def build(self, *, size: int, alpha: float, weights: str | None, top: bool = False) -> Any:
        """Call the builder: the base, with ImageNet's classifier of 1,000 classes and its pooling only if `top`.

        Parameters
        ----------
        size : int
            Height and width of the images, px.
        alpha : float
            Width multiplier; ignored by a builder that has none.
        weights : {'imagenet', None}
            ``imagenet`` lets Keras fetch its file; None gives random weights.
        top : bool

        Returns
        -------
        keras.Model
            From (B, size, size, 3), preprocessed, to (B, H, W, C), or (B, 1000) if `top`.
        """
        options = {"alpha": alpha} if self.alphas else {}
        return _function(self.builder)(include_top=top, weights=weights, input_shape=(size, size, 3), **options)

    def network(self, *, size: int, top: bool = False) -> Network:
        """List the layers of a base that names a function for it; parameters as for `build`."""
        listed: Network = _function(self.layers)(include_top=top, input_shape=(size, size, 3))
        return listed


def _function(name: str) -> Any:
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)
