"""Settings to a plan: the spec of the features, and what a trunk is built from; then the engine that runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import cutting, table
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.engines import engine
from pipeline.backbones.engines.engine import Engine, choose, described
from pipeline.backbones.settings import EngineName, Precision
from pipeline.backbones.weights import Weights, find_weights, load
from pipeline.features import spec
from pipeline.features.cache import kept_graphs
from pipeline.features.probe import cut_file
from pipeline.features.settings import FeatureSettings, Pooling
from pipeline.photos import decode
from pipeline.photos.settings import Geometry
from pipeline.storage.json_files import TEXT, Document, Field, maybe, number, object_of, one_of, whole

EXTRACTOR_VERSION: Final = 1
LARGEST_ALPHA: Final = 10
GRAPHS: Final = kept_graphs.FOLDER
TRUNK: Final[Mapping[str, Field]] = {
    "size": whole(1),
    "resize": one_of(*get_args(Geometry)),
    "backbone": object_of(name=TEXT, alpha=number(1 / 1000, LARGEST_ALPHA)),
    "preprocessing": TEXT,
    "cut": TEXT,
    "pooling": one_of(*get_args(Pooling)),
}
SPEC: Final = Document(
    "a spec",
    "`hs.extract`",
    {
        **TRUNK,
        "weights": object_of(seed=maybe(whole())),
        "precision": one_of(*get_args(Precision)),
        "dtype": one_of("float16", "float32"),
        "engine": maybe(object_of(name=TEXT)),
    },
)


@dataclass(frozen=True)
class Plan:
    """Settings, resolved: the spec, what a trunk is built from, and the engine. Made without TensorFlow."""

    settings: FeatureSettings
    backbone: Backbone
    weights: Weights
    engine: EngineName
    spec: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the input square, px."""
        return int(self.spec["size"])

    @property
    def fit(self) -> Callable[[bytes], NDArray[np.uint8]]:
        """What makes the square of a photo's bytes: `pipeline.photos.decode.fit`."""
        return partial(decode.fit, size=self.size, geometry=self.spec["resize"])


def settings_of(described: spec.Spec, source: Path, *, weights: str | None, engine: str) -> FeatureSettings:
    """Return the settings under which features of a spec are made again.

    Parameters
    ----------
    described : mapping
        A spec that an artefact keeps.
    source : Path
        That artefact, for the message.
    weights : str or None
        As in `FeatureSettings`. None: ``none`` if the spec names the seed of random weights, else ``imagenet``.
    engine : {"auto", "tensorflow", "openvino"}

    Raises
    ------
    ArtefactError
        The spec lacks a field, or has one that no spec has.
    """
    SPEC.require(described, f"{source}: the spec of its features")
    seed = described["weights"].get("seed")
    return FeatureSettings(
        backbone=described["backbone"]["name"],
        alpha=described["backbone"]["alpha"],
        weights=weights or ("imagenet" if seed is None else "none"),
        weights_seed=seed or 0,
        size=described["size"],
        resize=described["resize"],
        engine=cast(EngineName, engine),
        cut=described["cut"],
        pooling=described["pooling"],
        precision=described["precision"],
        dtype=described["dtype"],
    )


def plan(settings: FeatureSettings) -> Plan:
    """Resolve settings to a spec, without TensorFlow.

    Parameters
    ----------
    settings : FeatureSettings

    Raises
    ------
    InputError
        A name or a value is not one of those expected; the message names the option.
    """
    if settings.cut_file:
        cut, pooling = cut_file.read(settings.cut_file, backbone=settings.backbone)
        settings = replace(settings, cut=cut, pooling=cast(Pooling, pooling), cut_file=None)
    backbone = table.find(settings.backbone)
    size = settings.size or backbone.size
    weights = find_weights(backbone, settings.weights, size=size, alpha=settings.alpha, seed=settings.weights_seed)
    engine = choose(settings.engine)
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

    kept = cache and cache / GRAPHS / spec.identity(plan.spec)
    return engine.open_engine(
        plan.engine, build, batch_size=batch_size, precision=plan.spec["precision"], kept=kept, prompt=prompt
    )
