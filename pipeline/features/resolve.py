"""Settings to a plan: the spec of the features, and what a trunk is built from; then the engine that runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import cutting, table
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.builder import check_alpha
from pipeline.backbones.engines import engine, int8
from pipeline.backbones.engines.engine import Engine, choose, described
from pipeline.backbones.onnx_backbone import OnnxBackbone
from pipeline.backbones.scaling import Scaling
from pipeline.backbones.settings import EngineName, Pooling, Precision
from pipeline.backbones.weights import IMAGENET, NONE, Weights, find_weights, load
from pipeline.errors import InputError, SpecError, WeightsError
from pipeline.features import spec
from pipeline.features.cache import kept_graphs, kept_weights
from pipeline.features.probe import cut_file
from pipeline.features.settings import LARGEST_SIDE, FeatureSettings
from pipeline.photos import decode
from pipeline.photos.settings import Decoder, Geometry, Interpolation
from pipeline.photos.squares import square_of
from pipeline.storage.json_files import SHA256, TEXT, Document, Field, maybe, number, object_of, one_of, whole

EXTRACTOR_VERSION: Final = 1
LARGEST_ALPHA: Final = 10
GRAPHS: Final = kept_graphs.FOLDER
PREPROCESSING: Final = Field("a text, or a scale, an offset and channels", lambda value: Scaling.is_spec(value))
TRUNK: Final[Mapping[str, Field]] = {
    "size": whole(1, LARGEST_SIDE),
    "resize": one_of(*get_args(Geometry)),
    "decoder": object_of(name=one_of(*get_args(Decoder))),
    "interpolation": maybe(one_of(*get_args(Interpolation))),
    "backbone": object_of(name=TEXT, alpha=number(1 / 1000, LARGEST_ALPHA)),
    "preprocessing": PREPROCESSING,
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
        "graph": maybe(object_of(sha256=SHA256)),
    },
)


@dataclass(frozen=True)
class Plan:
    """Settings, resolved: the spec, what a trunk is built from, and the engine. Made without TensorFlow.

    In int8 `graph` is the file that computes; until `with_graph` the spec does not name it, and no row has that spec.
    """

    settings: FeatureSettings
    backbone: Backbone
    weights: Weights
    engine: EngineName
    spec: dict[str, Any]
    graph: Path | None = None

    @property
    def size(self) -> int:
        """Side of the input square, px."""
        return int(self.spec["size"])

    @property
    def fit(self) -> Callable[[bytes], NDArray[np.uint8]]:
        """What makes the square of a photo's bytes: `pipeline.photos.decode.fit`."""
        return decode.of_spec(self.spec)


def found_again(described: spec.Spec, source: Path, cache: Path | None) -> tuple[str, Weights]:
    """Look for the weights that a spec names, random ones by their seed and others by their sha256.

    Parameters
    ----------
    described : mapping
        A spec that an artefact keeps.
    source : Path
        That artefact, for the message.
    cache : Path or None
        Where weights may be kept.

    Returns
    -------
    str
        As in `FeatureSettings`: the path of those that the folder `source` carries, or of those that the cache keeps;
        else ``imagenet``, if that is what they are.
    Weights
        The same, read once: their sha256 is what they have.

    Raises
    ------
    ArtefactError
        The spec lacks a field, or has one that no spec has; or the weights beside the artefact are not its own.
    WeightsError
        The weights of the spec are nowhere.
    """
    SPEC.require(described, f"{source}: the spec of its features")
    if (seed := described["weights"].get("seed")) is not None:
        return NONE, Weights(path=None, sha256=None, seed=seed)
    sha256 = described["weights"].get("sha256")
    base, size = described["backbone"], described["size"]
    if sha256 is not None and not SHA256.fits(sha256):
        SPEC.refuse(source, "weights.sha256: a sha256", sha256)
    if sha256 and (path := kept_weights.carried(source, sha256) or (cache and kept_weights.find(cache, sha256))):
        return str(path), Weights(path=path, sha256=sha256, seed=None)
    told = f"{source}: trained on a file with sha256 {sha256}, which is not on this machine: give it as `weights`"
    if base["name"] in table.GRAPHS:
        raise WeightsError(told)
    try:
        found = find_weights(table.find(base["name"]), IMAGENET, size=size, alpha=base["alpha"], seed=0)
    except WeightsError as error:
        raise WeightsError(f"{told}; or, if it is ImageNet's: {error}") from error
    if sha256 is not None and found.sha256 != sha256:
        raise WeightsError(told)
    return IMAGENET, found


class Again(NamedTuple):
    """How features of a spec are made again: as in `FeatureSettings`, and None where it is as the spec says."""

    weights: str | None
    engine: str
    precision: Precision | None
    cache: Path | None


def plan_again(described: spec.Spec, source: Path, how: Again) -> tuple[Plan, list[str]]:
    """Plan how features of a spec are made again; parameters and errors as for `found_again`.

    Returned beside the plan are warnings where this machine differs, but only up to rounding. SpecError if the weights
    that were named are not those of the spec.
    """
    SPEC.require(described, f"{source}: the spec of its features")
    if described["precision"] == "int8" and how.precision:
        raise SpecError(
            f"{source}: its features are those of a graph in int8, which is not trained and has no other precision: "
            f"`hs.extract(precision='float32')`, and train a head on that for {how.precision}"
        )
    graph = kept_weights.graph_of(described, source, how.cache)
    if how.weights:
        name, found = how.weights, None
    elif graph:  # which is all that computes
        name, found = IMAGENET, Weights(None, described["weights"].get("sha256"), described["weights"].get("seed"))
    else:
        name, found = found_again(described, source, how.cache)
    if how.weights and isinstance(row := table.find(described["backbone"]["name"]), OnnxBackbone):
        row.file(how.weights, field="weights")
    entering = Scaling.of_spec(described["preprocessing"])
    settings = FeatureSettings(
        backbone=described["backbone"]["name"],
        alpha=described["backbone"]["alpha"],
        weights=name,
        weights_seed=described["weights"].get("seed") or 0,
        size=described["size"],
        resize=described["resize"],
        decoder=described["decoder"]["name"],
        interpolation=square_of(described)["interpolation"],
        engine=cast(EngineName, how.engine),
        input_scale=entering.scale if entering else (),
        input_offset=entering.offset if entering else (),
        channels=entering.channels if entering else None,
        cut=described["cut"],
        pooling=described["pooling"],
        precision=how.precision or described["precision"],
        dtype=described["dtype"],
    )
    again = plan(settings, found)
    again = with_graph(again, graph) if graph else again
    warnings = spec.require_compatible(described, again.spec, head=source)
    remember(again, how.cache if how.weights else None)
    return again, warnings


def at_cut(plan: Plan, cut: str) -> FeatureSettings:
    """Return the settings of a plan for the activations at another cut, to the last bit: training starts from them."""
    return replace(plan.settings, cut=cut, pooling="none", dtype="float32")


def remember(plan: Plan, cache: Path | None) -> None:
    """Keep a copy of weights that a user gave as a file, for what is trained on them."""
    weights = plan.weights
    if cache and weights.path and weights.sha256 and plan.settings.weights != IMAGENET:
        kept_weights.keep(cache, weights.path, weights.sha256)


def plan(settings: FeatureSettings, found: Weights | None = None) -> Plan:
    """Resolve settings to a spec, without TensorFlow; InputError names an option that is not one of those expected.

    `found` are the weights that the settings name, if they were found before: a file of a gigabyte is read once.
    """
    if settings.cut_file:
        cut, pooling = cut_file.read(settings.cut_file, backbone=settings.backbone)
        settings = replace(settings, cut=cut, pooling=cast(Pooling, pooling), cut_file=None)
    backbone = table.find(settings.backbone)
    size = settings.size or backbone.size
    check_alpha(backbone, settings.alpha)
    weights = found or find_weights(
        backbone, settings.weights, size=size, alpha=settings.alpha, seed=settings.weights_seed
    )
    backbone = backbone.settled(
        weights.path,
        scale=settings.input_scale,
        offset=settings.input_offset,
        channels=settings.channels,
        size=settings.size,
        resize=settings.resize,
        interpolation=settings.interpolation,
        cut=settings.cut,
    )
    size = settings.size or backbone.size
    if settings.precision == "int8" and settings.pooling == "last4":
        raise InputError.of("pooling", "one that takes the activations at the cut alone, in int8", "last4")
    engine = choose(backbone.runs_on(settings.engine), settings.precision)
    pooled = settings.pooling not in ("flatten", "none")
    fields = {
        "extractor": EXTRACTOR_VERSION,
        **decode.policy(
            size=size,
            geometry=settings.resize or cast(Geometry, backbone.resize),
            decoder=settings.decoder,
            interpolation=settings.interpolation or cast(Interpolation, backbone.interpolation),
        ),
        "backbone": {"name": backbone.name, "alpha": settings.alpha},
        "preprocessing": getattr(backbone.preprocessing, "spec", backbone.preprocessing),
        "weights": weights.identity,
        "cut": table.resolve_cut(backbone, settings.cut),
        "pooling": settings.pooling,
        "precision": settings.precision,
        "dtype": ("float16" if pooled else "float32") if settings.dtype == "auto" else settings.dtype,
    }
    if settings.precision != "float32":
        fields["engine"] = described(engine)
    return Plan(settings, backbone, weights, engine, fields)


def with_graph(plan: Plan, graph: Weights) -> Plan:
    """Return the plan with the graph that computes it in int8, which is then part of the spec."""
    return replace(plan, spec={**plan.spec, "graph": graph.identity}, graph=graph.path)


def open_engine(plan: Plan, *, batch_size: int, cache: Path | None, prompt: bool = False) -> Engine:
    """Build the trunk of a plan and the engine that runs it; see `pipeline.backbones.engines.engine.open_engine`.

    This loads TensorFlow, unless the cache holds what the engine kept when it was opened before.
    """
    kept = cache and cache / GRAPHS / spec.identity(plan.spec)
    build = partial(trunk, plan, pooling=plan.spec["pooling"])
    if plan.graph:
        sha256, kept = plan.spec["graph"]["sha256"], None
        build = partial(int8.read, plan.graph, sha256=sha256, pooling=plan.spec["pooling"])
    return engine.open_engine(
        plan.engine,
        build,
        batch_size=batch_size,
        precision=plan.spec["precision"],
        kept=kept,
        prompt=prompt,
    )


def trunk(plan: Plan, *, pooling: str) -> Any:
    """Build the trunk of a plan, in floating point, with this pooling: `pipeline.backbones.cutting.trunk`."""
    alpha = plan.spec["backbone"]["alpha"]
    listed = plan.engine == "openvino"
    base = load(plan.backbone, size=plan.size, alpha=alpha, weights=plan.weights, listed=listed)
    return cutting.trunk(plan.backbone, base, cut=plan.spec["cut"], pooling=pooling)
