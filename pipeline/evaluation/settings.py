"""What a user can ask of `evaluate`; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.backbones.settings import EngineName, batch_size_setting, engine_setting
from pipeline.features.settings import cache_setting
from pipeline.models.settings import Runtime
from pipeline.setting import setting


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How a head or a model is judged; `engine`, `batch_size` and `cache` are how a model is run."""

    tta: bool = setting(False, "Average the predictions over the views in the features (test-time augmentation).")
    seed: int = setting(0, "Seed of the bootstrap.", least=0)
    resamples: int = setting(2000, "Resamples of the bootstrap that gives the intervals.", least=100)
    engine: EngineName = engine_setting()
    batch_size: int = batch_size_setting()
    cache: Path = cache_setting()

    @property
    def runtime(self) -> Runtime:
        """How a model is run; a head, judged by its features, is not."""
        return Runtime(engine=self.engine, batch_size=self.batch_size, cache=self.cache)
