"""What a user can ask of `probe` and `extract`; the defaults stand here and nowhere else."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.backbones.settings import EngineName, Precision, batch_size_setting, engine_setting
from pipeline.photos.settings import Geometry, Policy
from pipeline.setting import Need, group, setting

Pooling = Literal["avg", "max", "grid2", "grid3", "flatten", "none"]
AUTO: Literal["auto"] = "auto"
DASK: Final = (Need("executor", ("dask",)),)
PROBED: Final = (Need("cut", (AUTO,)),)


def default_cache(start: Path | None = None) -> Path:
    """Return ``$HEADSTART_CACHE``, else ``.headstart`` in the main checkout around `start`, the current folder.

    The temporary checkouts of DVC experiments lie inside the main one (``.dvc/tmp/exps/…``), so the outermost folder
    with a ``.dvc`` in it is meant. Without one it is `start` itself.
    """
    named = os.environ.get("HEADSTART_CACHE")
    if named:
        return Path(named)
    start = (start or Path.cwd()).resolve()
    checkouts = [folder for folder in (start, *start.parents) if (folder / ".dvc").is_dir()]
    return (checkouts[-1] if checkouts else start) / ".headstart"


def cache_setting() -> Any:
    """Return the setting of the cache folder, of all stages that have one."""
    return setting(default_cache, "", unset="$HEADSTART_CACHE, else .headstart")


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """Which network sees what, and what runs it.

    At float32 `engine` changes speed only; below, it is part of the spec.
    """

    backbone: str = setting("efficientnet_lite0", "A name: `headstart backbones`.")
    alpha: float = setting(1.0, "Width multiplier, for backbones that have one.")
    weights: str = setting("imagenet", "imagenet, none (random), or a file.")
    weights_seed: int = setting(0, "Seed of random weights.", needs=(Need("weights", ("none",)), Need("compare")))
    size: int | None = setting(None, "Side of the input, px.", least=1, unset="the backbone's own")
    resize: Geometry = setting("squash", "How a rectangle becomes a square: stretched, its centre, or whole on black.")
    engine: EngineName = engine_setting()


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(BaseSettings):
    """All that can change a feature's value."""

    cut: str = setting(
        "top", "The layer whose output is kept; `backbones NAME` lists.", needs=(Need("cut_file", (None,)),)
    )
    pooling: Pooling = setting("avg", "What becomes of the layer's map.", needs=(Need("cut_file", (None,)),))
    cut_file: Path | None = setting(None, "Cut and pooling from this file of `headstart probe`.")
    precision: Precision = setting(
        "float32", "Of the arithmetic; one that this processor would run as another is refused."
    )
    dtype: Literal["auto", "float16", "float32"] = setting(
        "auto", "As stored; auto is float16 for pooled features, float32 for whole maps."
    )


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """Who computes; it changes speed only."""

    executor: Literal["local", "dask"] = setting("local", "Who computes: this process, or Dask's workers.")
    workers: int | None = setting(None, "Dask's workers to start here.", least=1, unset="one a core", needs=DASK)
    scheduler: str | None = setting(
        None, "Dask's scheduler, as tcp://host:8786, and its workers.", metavar="ADDRESS", needs=DASK
    )
    task_timeout: float = setting(
        300.0, "Seconds after which a worker that stored nothing is given up.", above=0, needs=DASK
    )


@dataclass(frozen=True, kw_only=True)
class ViewSettings(FeatureSettings):
    """Which rows there are of each image: the features of the image itself, and of its augmented copies."""

    views: int = setting(1, "Rows an image: 1 is itself.", least=1)
    policy: Policy = group(Policy, needs=(Need("views", least=2),))


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(ViewSettings):
    """How photos become features, and who computes them."""

    batch_size: int = batch_size_setting()
    executing: ExecutorSettings = group(ExecutorSettings)
    shard: str | None = setting(None, "Only the I-th of N parts, from 0.", metavar="I/N")
    cache: Path = cache_setting()


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What must be shown of a cut, or of a base, before it takes the place of the top, or of the first base."""

    margin: float = setting(
        0.01,
        "Accuracy that a cheaper cut, or a faster base, may cost at most; it must be shown to cost no more.",
        least=0,
        most=1,
    )
    confidence: float = setting(
        0.95,
        "That no cut, pooling or base is wrongly shown to be better or no worse, whatever their number.",
        above=0.5,
        below=1,
    )


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Where to look for a cut, in which bases, and on how many photos."""

    cut: str = setting(AUTO, "auto finds one; anything else is written as it is, and nothing is probed.")
    pooling: Literal["auto", "avg", "max", "grid2", "grid3", "flatten", "none"] = setting(
        AUTO, "auto compares avg, max, grid2 and grid3, or is avg under a given --cut."
    )
    base: BaseSettings = group(BaseSettings)
    compare: tuple[str, ...] = setting(
        (),
        "Probe this backbone too, and compare accuracy and speed. Repeatable.",
        metavar="NAME[@SIZE][=WEIGHTS]",
        needs=PROBED,
    )
    sample: int = setting(2000, "Images of train and val at most.", least=2, needs=PROBED)
    proof: Proof = group(Proof, needs=PROBED)
    batch_size: int = batch_size_setting(needs=PROBED)
    cache: Path = cache_setting()
