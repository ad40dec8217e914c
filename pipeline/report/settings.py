"""What a user can ask of the report; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.features.settings import cache_setting
from pipeline.setting import Need, setting

Method = Literal["auto", "tsne", "pca"]


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What the page shows besides data, features and evaluations, and how it looks."""

    probe: Path | None = setting(None, "CUT.json of `hs.probe`, with the tables beside it: the plot of layers.")
    extraction: Path | None = setting(None, "Report of `hs.extract`: images forwarded and reused.")
    audit: Path | None = setting(None, "Folder that `hs.audit` wrote.")
    trained: tuple[Path, ...] = setting(
        (), "Heads or models, or a folder of such: parameters and search. Repeatable.", metavar="PATH"
    )
    comparison: Path | None = setting(None, "Folder that `hs.compare` wrote: the verdict.")
    reports: Path | None = setting(None, "Folder with NAME.json, the report of a training: what it took.")
    growth: Path | None = setting(None, "Folder that `hs.growth` wrote: what more photos would bring.")
    heat_maps: bool = setting(
        False,
        "Show which part of a mistaken picture led a model to its label; the model is run for that. Needs `trained`.",
        needs=(Need("trained"),),
    )
    weights: str | None = setting(
        None,
        "Weights of the base, for heat maps, as in extract.",
        unset="those of the training",
        needs=(Need("heat_maps"),),
    )
    cache: Path | None = cache_setting()
    title: str | None = setting(None, "Title of the page.", unset="the name of the image folder")
    map: Method = setting(
        "auto",
        "How features are laid out in the plane; auto is t-SNE up to 5,000 images, principal components beyond.",
    )
    map_images: int = setting(5000, "Most images on the map.", least=2)
    pictures: int = setting(10_000, "Most images with a thumbnail; the page stays below 10 MB.", least=2)
    neighbours: int = setting(8, "How many similar pictures to show beside each picture.", least=1)
    seed: int = setting(0, "Seed of the map.", least=0)
