"""What a user can ask of `prepare`, and what may happen to an image in a view; the defaults stand here."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.setting import Need, setting

Geometry = Literal["squash", "crop", "pad"]
Decoder = Literal["pillow", "turbo"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]
Flip = Literal["none", "horizontal", "vertical", "both"]


def hash_distance_setting(**more: Any) -> Any:
    """Return the setting that says what is a copy, of all stages that look for copies."""
    return setting(
        60,
        "Take images for the same picture if their perceptual hashes differ in at most so many of 256 bits.",
        least=0,
        most=256,
        **more,
    )


def decoders_setting() -> Any:
    """Return the setting of the number of processes that decode."""
    return setting(None, "Processes that decode images.", least=1, unset="one per core, fewer for few images")


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """How a folder of photos becomes a manifest."""

    labels: Path | None = setting(
        None, "CSV with the columns path, label and, if you like, split; paths are relative to the image folder."
    )
    label_pattern: str | None = setting(
        None, r"Regular expression whose group is the label: '^([a-z]+)\.' for cat.0.jpg."
    )
    val_fraction: float = setting(0.1, "Share of the images to validate on.", least=0.0, below=1.0)
    test_fraction: float = setting(
        0.2, "Share of the images to test on, unless the images have a test split.", least=0.0, below=1.0
    )
    stratify: bool = setting(
        False, "Keep these shares within every class; images added later may then move others to another split."
    )
    group_near_duplicates: bool = setting(
        False,
        "Keep copies of a picture in one split, also those that are re-encoded, resized, cropped a little or turned.",
    )
    hash_distance: int = hash_distance_setting(needs=(Need("group_near_duplicates"),))
    max_quarantined: float = setting(
        0.1, "Stop if more than this fraction of the files cannot be used.", least=0.0, most=1.0
    )
    exclude: Path | None = setting(None, "Text file of paths to leave out, one per line.")
    workers: int | None = decoders_setting()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What may happen to an image; by itself, nothing.

    The factors are those of the Keras layers ``RandomFlip``, ``RandomRotation`` and so on: `zoom` of 0.1 shows between
    0.9 and 1.1 of the side, and `contrast` changes each pixel's distance from its channel's mean.
    """

    flip: Flip = setting("none", "Mirror the copies, each way with probability one half.")
    rotation: float = setting(0.0, "Turn the copies by at most this fraction of a full turn.", least=0.0, below=1.0)
    zoom: float = setting(0.0, "Enlarge or shrink the copies by at most this fraction.", least=0.0, below=1.0)
    shift: float = setting(0.0, "Move the copies by at most this fraction of their side.", least=0.0, below=1.0)
    brightness: float = setting(
        0.0, "Brighten or darken the copies by at most this fraction of white.", least=0.0, below=1.0
    )
    contrast: float = setting(0.0, "Change the contrast of the copies by at most this fraction.", least=0.0, below=1.0)

    @property
    def identity(self) -> str:
        """The sha256, in hex, of the policy's canonical JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_empty(self) -> bool:
        """Whether nothing may happen, so that every view is the image itself."""
        return self.flip == "none" and not any(value for name, value in asdict(self).items() if name != "flip")
