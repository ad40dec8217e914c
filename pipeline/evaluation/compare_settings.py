"""What a user can ask of `compare`; apart from `evaluate`, whose settings know of networks: no network runs here."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.setting import setting


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """What training cost."""

    reports: Path | None = setting(
        None, "Folder with NAME.json, the report of a training: what each head or model cost."
    )
