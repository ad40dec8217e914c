"""What a graph says of itself beside its operations: how photos become what it takes, as text in its metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from pipeline.backbones.scaling import Scaling
from pipeline.errors import InputError, SettingError

Fit = Literal["squash", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
PREFIX: Final = "headstart."
LANCZOS: Final = {"lanczos3": "lanczos"}  # Pillow's has three lobes


@dataclass(frozen=True)
class Notes:
    """How photos become what a graph takes; None for what it does not say.

    Attributes
    ----------
    scaling : Scaling or None
    resize : {"squash", "crop", "pad"} or None
        How a rectangle becomes a square, as in `pipeline.photos.settings`.
    interpolation : {"bilinear", "bicubic", "lanczos"} or None
        Of the resize; it is always antialiased.
    """

    scaling: Scaling | None
    resize: Fit | None
    interpolation: Interpolation | None


def put(model: Any, notes: Notes, source: str) -> None:
    """Write notes, and what the graph was made from, into the metadata of an onnx.ModelProto."""
    from onnx import helper

    told = {"source": source, "resize": notes.resize, "interpolation": notes.interpolation}
    if notes.scaling:
        told |= {"scale": _text(notes.scaling.scale), "offset": _text(notes.scaling.offset)}
        told |= {"channels": notes.scaling.channels}
    helper.set_model_props(model, {PREFIX + name: text for name, text in told.items() if text})


def read(metadata: Mapping[str, str]) -> Notes:
    """Return what metadata says; what it says in other words than `put` it does not say."""
    told = {name.removeprefix(PREFIX): text for name, text in metadata.items() if name.startswith(PREFIX)}
    try:
        scaling = Scaling.of(_numbers(told["scale"]), _numbers(told["offset"]), channels=told.get("channels"))
    except (KeyError, ValueError, SettingError):
        scaling = None
    resize, interpolation = told.get("resize"), told.get("interpolation")
    return Notes(
        scaling,
        cast(Fit, resize) if resize in get_args(Fit) else None,
        cast(Interpolation, interpolation) if interpolation in get_args(Interpolation) else None,
    )


def of_converter(config: Mapping[str, Any]) -> tuple[Notes, int | None]:
    """Return notes and size of an image converter of keras-hub, given its ``get_config``.

    InputError if it resizes as nothing here does.
    """
    kind = LANCZOS.get(config["interpolation"], config["interpolation"])
    if kind not in get_args(Interpolation):
        known = " or ".join(get_args(Interpolation))
        raise InputError(f"expected a preset whose images are resized by {known}, received {kind}")
    sides = config["image_size"]
    if sides and sides[0] != sides[1]:
        raise InputError(f"expected a preset for square images, received one for {sides[0]} x {sides[1]} px")
    scale, offset = (config[name] for name in ("scale", "offset"))
    scaling = Scaling.of(1.0 if scale is None else scale, 0.0 if offset is None else offset)
    fits = {"crop_to_aspect_ratio": "crop", "pad_to_aspect_ratio": "pad"}
    fit = next((word for name, word in fits.items() if config.get(name)), "squash")
    return Notes(scaling, cast(Fit, fit), cast(Interpolation, kind)), int(sides[0]) if sides else None


def _text(numbers: tuple[float, ...]) -> str:
    return ",".join(repr(number) for number in numbers)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]
