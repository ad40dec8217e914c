"""What a user can ask of `audit`; the defaults stand here and nowhere else."""

from dataclasses import dataclass

from pipeline.heads.settings import TrainSettings
from pipeline.photos.settings import decoders_setting, hash_distance_setting
from pipeline.setting import setting


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """What counts as a copy, as alike, as an outlier and as a wrong label."""

    hash_distance: int = hash_distance_setting()
    min_cosine: float = setting(
        0.9, "List two pictures as alike if the cosine of their centred features is at least this.", above=0.0, most=1.0
    )
    neighbours: int = setting(
        10, "Measure outliers by the distance to their neighbour of this rank; 1 is the nearest.", least=1
    )
    folds: int = setting(5, "Folds of the cross-validation that judges labels.", least=2)
    C: float = setting(TrainSettings.C, "Inverse strength of the penalty of the heads that judge labels.", above=0.0)
    seed: int = setting(0, "Seed of the folds.", least=0)
    workers: int | None = decoders_setting()
