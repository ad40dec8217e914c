"""What a user can ask of `probe` and `extract`; the defaults stand here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.backbones.settings import EngineName, Pooling, Precision, batch_size_setting, engine_setting, graph_file
from pipeline.photos.settings import Decoder, Geometry, Interpolation, Policy
from pipeline.setting import Need, group, setting
from pipeline.storage.cache_folder import default_cache

AUTO: Literal["auto"] = "auto"
DASK: Final = (Need("executor", ("dask",)),)
PROBED: Final = (Need("cut", (AUTO,)),)
LARGEST_SIDE: Final = 4096  # px: no backbone is meant for more


def cache_setting(**more: Any) -> Any:
    """Return the setting of the cache folder, of all stages that have one."""
    return setting(default_cache, "", unset="$HEADSTART_CACHE, else .headstart", only="folder", **more)


@dataclass(frozen=True, kw_only=True)
class BaseSettings:
    """Which network sees what, and what runs it.

    At float32 `engine` changes speed only; below, it is part of the spec.
    """

    backbone: str = setting(
        "efficientnet_lite0", "Name of the pretrained base; `hs.backbones` lists them. Or onnx:FILE, any graph."
    )
    alpha: float = setting(1.0, "Width multiplier, for backbones that have one.")
    weights: str = setting("imagenet", "Weights of the base: imagenet, none (random), or a file.")
    weights_seed: int = setting(
        0, "Seed of the weights if they are random.", needs=(Need("weights", ("none",)), Need("compare"))
    )
    size: int | None = setting(
        None, "Height and width of the base's input, px.", least=1, most=LARGEST_SIDE, unset="the backbone's own"
    )
    input_scale: tuple[float, ...] = setting(
        (), "Multiply pixels in 0…255 by this, or by three, of red, green and blue, in place of the base's own scaling."
    )
    input_offset: tuple[float, ...] = setting((), "Then add this, or three.")
    channels: Literal["rgb", "bgr"] | None = setting(
        None, "Order in which the base takes red, green and blue, with `input_scale`.", unset="the base's own, else rgb"
    )
    resize: Geometry | None = setting(
        None,
        "How an image becomes a square: squash stretches it, crop takes its centre, pad adds black.",
        unset="the base's own, else squash",
    )
    decoder: Decoder = setting(
        "pillow", "What decodes and resizes images; turbo takes half the time, for pixels up to a grey level apart."
    )
    interpolation: Interpolation | None = setting(
        None, "Filter of the resize, which is always antialiased.", unset="the base's own, else bilinear"
    )
    engine: EngineName = engine_setting()

    def __post_init__(self) -> None:
        """Read ``onnx:FILE`` as the base ``onnx`` with the weights ``FILE``."""
        if found := graph_file(self.backbone):
            object.__setattr__(self, "backbone", found[0])
            object.__setattr__(self, "weights", found[1])


@dataclass(frozen=True, kw_only=True)
class FeatureSettings(BaseSettings):
    """All that can change a feature's value."""

    cut: str = setting(
        "top", "Layer whose output is kept; `hs.backbones` lists those of a base.", needs=(Need("cut_file", (None,)),)
    )
    pooling: Pooling = setting(
        "avg", "How the layer's output becomes a row of features.", needs=(Need("cut_file", (None,)),)
    )
    cut_file: Path | None = setting(None, "Take cut and pooling from this file, which `hs.probe` wrote.")
    precision: Precision = setting(
        "float32",
        "Precision of the arithmetic; one that this processor would run as another is refused. "
        "int8 is calibrated on some training photos.",
    )
    dtype: Literal["auto", "float16", "float32"] = setting(
        "auto", "Type of the stored features; auto is float16 if they are pooled, float32 if they are whole maps."
    )


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """Who computes; it changes speed only."""

    executor: Literal["local", "dask"] = setting(
        "local", "Where features are computed: in this process, or by Dask's workers."
    )
    workers: int | None = setting(
        None, "How many of Dask's workers to start here.", least=1, unset="one per core", needs=DASK
    )
    scheduler: str | None = setting(
        None, "Address of a Dask scheduler whose workers compute, as tcp://host:8786.", metavar="ADDRESS", needs=DASK
    )
    task_timeout: float = setting(
        300.0, "Give up a worker that has stored nothing for so many seconds.", above=0, needs=DASK
    )


@dataclass(frozen=True, kw_only=True)
class ViewSettings(FeatureSettings):
    """Which rows there are of each image: the features of the image itself, and of its augmented copies."""

    views: int = setting(
        1, "Rows per training image: one of the image itself, the others of copies changed at random as below.", least=1
    )
    tta: bool = setting(
        False,
        "Compute the views of all images, as `hs.evaluate(tta=True)` needs them, and not of those to learn from alone.",
        needs=(Need("views", least=2),),
    )
    policy: Policy = group(Policy, needs=(Need("views", least=2),))


@dataclass(frozen=True, kw_only=True)
class ExtractSettings(ViewSettings):
    """How photos become features, and who computes them."""

    batch_size: int = batch_size_setting()
    executing: ExecutorSettings = group(ExecutorSettings)
    shard: str | None = setting(None, "Compute only the I-th of N parts, counted from 0.", metavar="I/N")
    cache: Path = cache_setting()


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What must be shown of a cut, or of a base, before it takes the place of the top, or of the first base."""

    margin: float = setting(
        0.01,
        "Most accuracy that a cheaper cut or a faster base may lose; it is taken only if shown to lose no more.",
        least=0,
        most=1,
    )
    confidence: float = setting(
        0.95,
        "Confidence that no cut, pooling or base is wrongly called better or no worse, however many there are.",
        above=0.5,
        below=1,
    )


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """Where to look for a cut, in which bases, and on how many photos."""

    cut: str = setting(
        AUTO, "Layer to cut at: auto finds it; any other is written to CUT.json as it is, and nothing is probed."
    )
    pooling: Literal["auto", "avg", "max", "grid2", "grid3", "flatten", "none", "cls", "cls+mean"] = setting(
        AUTO,
        "How a layer's output becomes features: auto compares avg, max, grid2 and grid3, of tokens cls and cls+mean, "
        "too, and is avg if `cut` is given.",
    )
    base: BaseSettings = group(BaseSettings)
    compare: tuple[str, ...] = setting(
        (),
        "Probe this backbone too, and compare accuracy and speed, in a precision of its own if wanted. Repeatable.",
        metavar="NAME[@SIZE][=WEIGHTS][+PRECISION]",
        needs=PROBED,
    )
    sample: int = setting(2000, "Most images of train and val to probe with.", least=2, needs=PROBED)
    proof: Proof = group(Proof, needs=PROBED)
    batch_size: int = batch_size_setting(needs=PROBED)
    cache: Path = cache_setting()
