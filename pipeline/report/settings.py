"""What a user can ask of the report's map and pictures; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from typing import Literal

from pipeline.setting import setting

Method = Literal["auto", "tsne", "pca"]


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """How the page looks."""

    title: str | None = setting(None, "Of the page.", unset="the name of the folder IMAGES")
    map: Method = setting(
        "auto",
        "How features are laid out in the plane; auto is t-SNE up to 5,000 images, principal components beyond.",
    )
    map_images: int = setting(5000, "Images on the map at most.", least=2)
    pictures: int = setting(10_000, "Images with a thumbnail at most; the page stays below 10 MB.", least=2)
    neighbours: int = setting(8, "Of each picture.", least=1)
    seed: int = setting(0, "Of the map.", least=0)
