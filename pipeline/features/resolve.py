"""Settings to a plan: the spec of the features, and what a trunk is built from; then the engine that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import cutting, table
from pipeline.backbones.engines import engine
from pipeline.backbones.engines.engine import Engine, Precision, choose, described
from pipeline.backbones.table import Backbone
from pipeline.backbones.weights import Weights, find_weights, load
from pipeline.errors import ArtefactError
from pipeline.features import spec
from pipeline.photos import decode

EXTRACTOR_VERSION: Final = 1


@dataclass(frozen=True)
class Settings:
    """What the user chooses, all of which can change a feature's value.

    Attributes
    ----------
    backbone : str
        A name of `pipeline.backbones.table.BACKBONES`.
    alpha : float
        Width multiplier; 1.0 where the backbone has none.
    weights : str
        ``imagenet``, ``none`` (random) or a file.
    seed : int
        Of random weights; without effect otherwise.
    size : int or None
        Side of the input square, px; None is the backbone's own.
    resize : {"squash", "crop", "pad"}
        How a rectangle becomes the square.
    cut : str
        ``top``, another word of the backbone's table, or a layer's name.
    pooling : str
        One of `pipeline.backbones.cutting.POOLINGS`.
    precision : {"float32", "bfloat16", "float16"}
        Of the arithmetic.
    dtype : {"auto", "float16", "float32"}
        As stored; ``auto`` is float16 for pooled features and float32 for whole maps.
    """

    backbone: str
    alpha: float
    weights: str
    seed: int
    size: int | None
    resize: decode.Geometry
    cut: str
    pooling: str
    precision: Precision
    dtype: str


@dataclass(frozen=True)
class Plan:
    """Settings, resolved: the spec, what a trunk is built from, and the engine. Made without TensorFlow."""

    settings: Settings
    backbone: Backbone
    weights: Weights
    engine: str
    spec: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the input square, px."""
        return int(self.spec["size"])

    @property
    def fit(self) -> Callable[[bytes], NDArray[np.uint8]]:
        """What makes the square of a photo's bytes: `pipeline.photos.decode.fit`."""
        return partial(decode.fit, size=self.size, geometry=self.spec["resize"])


def settings_of(described: spec.Spec, source: Path, *, weights: str | None) -> Settings:
    """Return the settings under which features of a spec are made again.

    Parameters
    ----------
    described : mapping
        A spec that an artefact keeps.
    source : Path
        That artefact, for the message.
    weights : str or None
        As in `Settings`. None: ``none`` if the spec names the seed of random weights, else ``imagenet``.

    Raises
    ------
    ArtefactError
        The spec lacks a field.
    """
    try:
        seed = described["weights"].get("seed")
        return Settings(
            backbone=described["backbone"]["name"],
            alpha=described["backbone"]["alpha"],
            weights=weights or ("imagenet" if seed is None else "none"),
            seed=seed or 0,
            size=described["size"],
            resize=described["resize"],
            cut=described["cut"],
            pooling=described["pooling"],
            precision=described["precision"],
            dtype=described["dtype"],
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise ArtefactError(f"{source}: its spec does not say how the features were made: {error!r}") from error


def plan(settings: Settings, *, engine: str) -> Plan:
    """Resolve settings to a spec, without TensorFlow.

    Parameters
    ----------
    settings : Settings
    engine : {"auto", "tensorflow", "openvino"}
        At float32 it changes speed only. Below, it is part of the spec.

    Raises
    ------
    InputError
        A name or a value is not one of those expected; the message names the option.
    """
    backbone = table.find(settings.backbone)
    size = settings.size or backbone.size
    weights = find_weights(backbone, settings.weights, size=size, alpha=settings.alpha, seed=settings.seed)
    engine = choose(engine)
    pooled = settings.pooling not in ("flatten", "none")
    fields = {
        "extractor": EXTRACTOR_VERSION,
        **decode.policy(size=size, geometry=settings.resize),
        "backbone": {"name": backbone.name, "alpha": settings.alpha},
        "preprocessing": backbone.preprocessing,
        "weights": weights.identity,
        "cut": table.resolve_cut(backbone, settings.cut),
        "pooling": settings.pooling,
        "precision": settings.precision,
        "dtype": ("float16" if pooled else "float32") if settings.dtype == "auto" else settings.dtype,
    }
    if settings.precision != "float32":
        fields["engine"] = described(engine)
    return Plan(settings, backbone, weights, engine, fields)


def open_engine(plan: Plan, *, batch_size: int, cache: Path | None, prompt: bool = False) -> Engine:
    """Build the trunk of a plan and the engine that runs it; see `pipeline.backbones.engines.engine.open_engine`.

    This loads TensorFlow, unless the cache holds what the engine kept when it was opened before.
    """

    def build() -> Any:
        alpha = plan.spec["backbone"]["alpha"]
        base = load(plan.backbone, size=plan.size, alpha=alpha, weights=plan.weights)
        return cutting.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling=plan.spec["pooling"])

    kept = cache and cache / "graphs" / spec.identity(plan.spec)
    return engine.open_engine(
        plan.engine, build, batch_size=batch_size, precision=plan.spec["precision"], kept=kept, prompt=prompt
    )
