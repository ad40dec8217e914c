"""Options that several commands take: those that make a spec, those that make views, and the cache."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from stages.options.param_types import FloatRange

if TYPE_CHECKING:
    from pipeline.features.resolve import Plan
    from pipeline.features.workers.executors.executor import Executor
    from pipeline.photos.augmentation import Policy

Function = TypeVar("Function", bound=Callable[..., Any])

engine = click.option(
    "--engine",
    type=click.Choice(["auto", "tensorflow", "openvino"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto is OpenVINO on a CPU, TensorFlow on a GPU.",
)

trained_weights = click.option(
    "--weights", help="As in extract, checked by digest.  [default: those the head was trained on]"
)

BASE: Final = (
    click.option("--backbone", default="efficientnet_lite0", show_default=True, help="A name: `headstart backbones`."),
    click.option("--alpha", default=1.0, show_default=True, help="Width multiplier, for backbones that have one."),
    click.option("--weights", default="imagenet", show_default=True, help="imagenet, none (random), or a file."),
    click.option("--weights-seed", default=0, show_default=True, help="Seed of random weights."),
    click.option("--size", type=click.IntRange(min=1), help="Side of the input, px.  [default: the backbone's own]"),
    click.option(
        "--resize",
        type=click.Choice(["squash", "crop", "pad"]),
        default="squash",
        show_default=True,
        help="How a rectangle becomes a square: stretched, its centre, or whole on black.",
    ),
    engine,
)

TRAINED: Final = (
    trained_weights,
    engine,
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Of the arithmetic.  [default: as the head was trained; for a model float32]",
    ),
)

KEPT: Final = (
    click.option(
        "--cut", default="top", show_default=True, help="The layer whose output is kept; `backbones NAME` lists."
    ),
    click.option(
        "--pooling",
        type=click.Choice(["avg", "max", "grid2", "grid3", "flatten", "none"]),
        default="avg",
        show_default=True,
        help="What becomes of the layer's map.",
    ),
    click.option(
        "--cut-file", type=click.Path(path_type=Path), help="Cut and pooling from this file of `headstart probe`."
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        default="float32",
        show_default=True,
        help="Of the arithmetic; one that this processor would run as another is refused.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", "float16", "float32"]),
        default="auto",
        show_default=True,
        help="As stored; auto is float16 for pooled features, float32 for whole maps.",
    ),
)

VIEWS: Final = click.option(
    "--views", type=click.IntRange(min=1), default=1, show_default=True, help="Rows an image: 1 is itself."
)

AUGMENTATION: Final = (
    click.option(
        "--flip",
        type=click.Choice(["none", "horizontal", "vertical", "both"]),
        default="none",
        show_default=True,
        help="Copies: mirrored, each way with probability one half.",
    ),
    click.option(
        "--rotation", default=0.0, show_default=True, help="Copies: turned by at most this part of a full turn."
    ),
    click.option("--zoom", default=0.0, show_default=True, help="Copies: nearer or farther by at most this fraction."),
    click.option("--shift", default=0.0, show_default=True, help="Copies: moved by at most this fraction of the side."),
    click.option("--brightness", default=0.0, show_default=True, help="Copies: by at most this fraction of white."),
    click.option("--contrast", default=0.0, show_default=True, help="Copies: by at most this fraction."),
)

EXECUTOR: Final = (
    click.option(
        "--executor",
        type=click.Choice(["local", "processes", "dask"]),
        default="local",
        show_default=True,
        help="Who computes: this process, several of this machine, or Dask's workers.",
    ),
    click.option("--workers", type=click.IntRange(min=1), help="Processes to start here.  [default: one a core]"),
    click.option("--scheduler", metavar="ADDRESS", help="Dask's scheduler, as tcp://host:8786, and its workers."),
    click.option(
        "--task-timeout",
        type=FloatRange(min=0, min_open=True),
        default=300.0,
        show_default=True,
        help="Seconds after which a worker that stored nothing is given up.",
    ),
)


def settings(function: Function) -> Function:
    """Give a command every option that makes a spec; it hands their values to `plan`."""
    return _with((*BASE, *KEPT), function)


def base(function: Function) -> Function:
    """Give a command the options that say which network sees what, and those alone."""
    return _with(BASE, function)


def trained(function: Function) -> Function:
    """Give a command the options that say how a head, with its base, or a model is run."""
    return _with(TRAINED, function)


def views(function: Function) -> Function:
    """Give a command ``--views`` and every option that makes a policy; it hands their values to `policy`."""
    return _with((VIEWS, *AUGMENTATION), function)


def augmentation(function: Function) -> Function:
    """Give a command every option that makes a policy; it hands their values to `policy`."""
    return _with(AUGMENTATION, function)


def executor(function: Function) -> Function:
    """Give a command every option that makes an executor; it hands their values to `executor_of`."""
    return _with(EXECUTOR, function)


def _with(options: Iterable[Callable[[Function], Function]], function: Function) -> Function:
    for option in reversed(tuple(options)):
        function = option(function)
    return function


def policy(chosen: dict[str, Any]) -> "Policy":
    """Take the options of a policy out of those chosen, and return it."""
    from pipeline.photos.augmentation import Policy

    return Policy(**{field.name: chosen.pop(field.name) for field in dataclasses.fields(Policy)})


def plan(chosen: dict[str, Any]) -> "Plan":
    """Take the options of `settings` out of those chosen, and resolve them to a plan, without TensorFlow."""
    from pipeline.features import resolve
    from pipeline.features.resolve import Settings

    engine, seed, cut_file = chosen.pop("engine"), chosen.pop("weights_seed"), chosen.pop("cut_file")
    if cut_file:
        chosen["cut"], chosen["pooling"] = _read_cut(cut_file, chosen["backbone"])
    names = [field.name for field in dataclasses.fields(Settings) if field.name != "seed"]
    return resolve.plan(Settings(seed=seed, **{name: chosen.pop(name) for name in names}), engine=engine)


def executor_of(chosen: dict[str, Any]) -> "Executor":
    """Take the options of an executor out of those chosen, and return it; nothing is started yet."""
    from pipeline.features.workers.executors.executor import open_executor

    name, patience = chosen.pop("executor"), chosen.pop("task_timeout")
    workers, scheduler = chosen.pop("workers"), chosen.pop("scheduler")
    return open_executor(name, workers=workers, scheduler=scheduler, patience=patience)


def _read_cut(path: Path, backbone: str) -> tuple[str, str]:
    from pipeline.features.probe import cut_file

    context = click.get_current_context()
    for name in ("cut", "pooling"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"expected either --cut-file or --{name}, received both", context)
    return cut_file.read(path, backbone=backbone)


def cache(function: Function) -> Function:
    """Give a command the option ``--cache``, a Path."""
    return click.option(
        "--cache", type=click.Path(path_type=Path), default=_root, help="[default: $HEADSTART_CACHE, else .headstart]"
    )(function)


def _root() -> Path:
    from pipeline.features.cache import row_cache

    return row_cache.default_root(Path.cwd())
