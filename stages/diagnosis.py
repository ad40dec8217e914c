"""What this machine has of all that Headstart runs on, each thing with a judgement and, if it is not well, advice."""

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

from pipeline.backbones import weights
from pipeline.backbones.engines import engine
from pipeline.backbones.engines.openvino import cores
from pipeline.backbones.table import BACKBONES
from pipeline.errors import HeadstartError
from pipeline.features.cache import inventory
from pipeline.wording import counted
from stages.options.translate import in_options

State = Literal["ok", "note", "wrong"]

PACKAGES: Final = ("headstart", "keras", "numpy", "h5py", "scikit-learn", "pillow", "dvc")
PYTHONS: Final = ((3, 11), (3, 14))  # from the first on, below the second
LITTLE_DISK: Final = 2e9  # bytes: the features of some 700,000 photos, or one model with its exports
EXTRAS: Final = {
    "int8": ("nncf",),
    "export": ("onnx", "onnxruntime", "tf2onnx", "ai-edge-litert"),
    "serve": ("fastapi", "uvicorn", "prometheus-client", "python-multipart"),
    "dask": ("distributed",),
    "tensorboard": ("tensorboardX",),
    "dvclive": ("dvclive",),
    "remote": ("fsspec", "s3fs", "aiohttp"),
}


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    state : {"ok", "note", "wrong"}
        ``wrong`` is what would stop a run, ``note`` what one may want to know or to have.
    found : str
    advice : str
        What would mend it; empty if nothing needs mending.
    """

    name: str
    state: State
    found: str
    advice: str = ""


def diagnose(cache: Path) -> Iterator[Finding]:
    """Look at this machine, one thing after another.

    Parameters
    ----------
    cache : Path
        The cache folder.

    Yields
    ------
    Finding
    """
    yield _python()
    yield Finding("machine", "ok", f"{platform.platform()}, {cores()} cores")
    yield _packages()
    yield from _engines()
    yield _graphics()
    yield from _extras()
    yield _weights()
    yield _cache(cache)
    yield _disk(cache)
    yield from _rows(cache)


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return Finding("Python", "ok", found)
    return Finding("Python", "wrong", found, "expected 3.11, 3.12 or 3.13")


def _packages() -> Finding:
    versions = {name: _version(name) for name in PACKAGES}
    found = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    # Keras comes with TensorFlow, of which `_engines` tells.
    missing = [name for name, version in versions.items() if not version and name != "keras"]
    if not missing:
        return Finding("packages", "ok", found)
    if missing == ["dvc"]:
        return Finding("packages", "note", found, "`dvc repro` needs the extra dvc; single stages do without")
    return Finding("packages", "wrong", found, f"install {', '.join(missing)}")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _engines() -> Iterator[Finding]:
    versions = {name: engine.version_of(name) for name in engine.NAMES}
    found = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    if not any(versions.values()):
        yield Finding("engines", "wrong", found, "pip install 'headstart[cpu]'")
        return
    lacking = (
        "" if versions["tensorflow"] else "TensorFlow builds most bases, and fine-tunes: pip install 'headstart[cpu]'"
    )
    yield Finding("engines", "note" if lacking else "ok", f"{found}; auto is {engine.choose('auto')}", lacking)
    if versions["openvino"]:
        yield Finding("precisions", "ok", f"{', '.join(engine.precisions('openvino'))} on this processor")


def _graphics() -> Finding:
    cards = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    if not cards:
        return Finding("GPU", "ok", "none, the processor computes")
    if engine.version_of("tensorflow") and _version("nvidia-cudnn-cu12"):
        return Finding("GPU", "ok", ", ".join(cards))
    return Finding("GPU", "note", ", ".join(cards), "TensorFlow has no CUDA here: install the extra gpu instead of cpu")


def _extras() -> Iterator[Finding]:
    for extra, names in EXTRAS.items():
        missing = [name for name in names if not _version(name)]
        if missing:
            yield Finding(
                f"extra {extra}", "note", f"without {', '.join(missing)}", f"pip install 'headstart[{extra}]'"
            )
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _weights() -> Finding:
    here = [
        name for name, backbone in BACKBONES.items() if weights.offline_path(backbone, size=backbone.size, alpha=1.0)
    ]
    total = len(BACKBONES)
    found = f"ImageNet weights of {len(here)} of {total} bases: {', '.join(here) or 'none'}"
    if len(here) == total:
        return Finding("weights", "ok", found)
    return Finding("weights", "ok" if here else "note", found, "Keras fetches the others where there is a network")


def _cache(cache: Path) -> Finding:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            return Finding("cache", "ok", f"{cache.resolve()} can be written")
    except OSError as error:
        return Finding("cache", "wrong", f"{cache}: {error.strerror}", "name another: --cache, or $HEADSTART_CACHE")


def _disk(cache: Path) -> Finding:
    folder = next(place for place in (cache.absolute(), *cache.absolute().parents) if place.exists())
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e9:,.1f} GB free at {folder}"
    if free >= LITTLE_DISK:
        return Finding("disk", "ok", found)
    return Finding("disk", "note", found, "`headstart cache prune` frees what no features need")


def _rows(cache: Path) -> Iterator[Finding]:
    try:
        held = inventory.contents(cache)
    except HeadstartError as error:
        yield Finding("rows", "wrong", in_options(str(error)), "")
        return
    damaged = sum(len(one.damaged) for one in held)
    found = f"{sum(one.rows for one in held):,} under {counted(len(held), 'spec')}"
    if damaged:
        yield Finding(
            "rows", "note", f"{found}, {counted(damaged, 'damaged file')}", "`headstart cache prune` removes them"
        )
    else:
        yield Finding("rows", "ok", found)
    writers = [f"{writer} ({one.short})" for one in held for writer in one.writers]
    yield Finding("locks", "note" if writers else "ok", ", ".join(writers) or "nobody is adding rows")
