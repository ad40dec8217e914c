"""What a user can ask of `predict`; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipeline.backbones.settings import Arithmetic, EngineName, batch_size_setting, engine_setting
from pipeline.features.settings import cache_setting
from pipeline.models.settings import Runtime, precision_setting, weights_setting
from pipeline.setting import Need, setting

COMPARED: Final = (Need("nearest"), Need("familiarity"))


def features_setting(help: str, **more: Any) -> Any:  # noqa: A002 -- as in `setting`
    """Return the setting of the training photos' features."""
    return setting(None, help, metavar="FEATURES.h5", **more)


def manifest_setting(**more: Any) -> Any:
    """Return the setting of the training photos' manifest."""
    return setting(None, "Manifest that says which of them were trained on.", metavar="MANIFEST.csv", **more)


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """How a head or a model is run, and what is told of a photo besides its label and probabilities."""

    weights: str | None = weights_setting()
    engine: EngineName = engine_setting()
    precision: Arithmetic | None = precision_setting()
    batch_size: int = batch_size_setting()
    min_confidence: float | None = setting(
        None,
        "Abstain, with an empty label, where the label's probability is below this.",
        least=0.0,
        most=1.0,
        unset="never",
    )
    nearest: int = setting(
        0, "Name so many of the most similar training photos; needs `features` and `manifest`.", least=0
    )
    familiarity: bool = setting(
        False,
        "Tell which fraction of the training photos lies at least as far from the others, and whether that shows a "
        "photo to be of another kind. Needs `features` and `manifest`.",
    )
    neighbours: int | None = setting(
        None,
        "`familiarity` measures the distance to the training photo of this rank; 1 is the nearest.",
        least=1,
        unset="a thirtieth of the training photos, from 1 to 10",
        needs=(Need("familiarity"),),
    )
    features: Path | None = features_setting("Features that the head was trained on.", needs=COMPARED)
    manifest: Path | None = manifest_setting(needs=COMPARED)
    explain: Path | None = setting(
        None,
        "Write a PNG a photo to DIR that shows where the evidence for its label lies.",
        metavar="DIR",
        only="folder",
    )
    cache: Path = cache_setting()

    @property
    def runtime(self) -> Runtime:
        """How the head or the model is run."""
        return Runtime(self.weights, self.engine, self.precision, self.batch_size, self.cache)
