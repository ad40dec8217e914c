"""What a user can ask of whatever runs a head or a model; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.backbones.settings import Arithmetic, EngineName, batch_size_setting, engine_setting
from pipeline.features.settings import cache_setting
from pipeline.setting import setting


def weights_setting() -> Any:
    """Return the setting of the base's weights under a trained head."""
    return setting(
        None, "Weights of the base, as in extract; their digest is checked.", unset="those the head was trained on"
    )


def precision_setting() -> Any:
    """Return the setting of the arithmetic of what was trained."""
    return setting(None, "Precision of the arithmetic.", unset="as the head was trained; for a model float32")


@dataclass(frozen=True)
class Runtime:
    """How a head, with its base, or a model is run.

    The weights are those of the base, as in `FeatureSettings`; their sha256 is checked against the one the head keeps.
    The engine ``auto`` is the one that the head's spec names, if it names one. The batch size, of the most images that
    run at once, changes speed and memory only. In the cache an engine finds what it kept to start faster.
    """

    weights: str | None = weights_setting()
    engine: EngineName = engine_setting()
    precision: Arithmetic | None = precision_setting()
    batch_size: int = batch_size_setting()
    cache: Path | None = cache_setting()
