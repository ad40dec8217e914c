"""Where it all comes from: spec, versions, commit, seeds, times, and how many images were forwarded and reused."""

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

from pipeline.features import spec
from pipeline.report.artefacts import Evaluated
from pipeline.report.collect import Read
from pipeline.storage.digests import of_file

PACKAGES: Final = (
    *("headstart", "numpy", "scipy", "scikit-learn", "pillow", "h5py", "keras"),
    *("tensorflow", "tensorflow-cpu", "openvino"),
)


class Commit(NamedTuple):
    """What Git says of the code: the commit, and whether tracked files differ from it."""

    name: str
    changed: bool


def provenance(
    described: Mapping[str, Any],
    found: Read,
    *,
    seed: int,
    commit: Commit | None,
    files: Mapping[str, Path],
) -> dict[str, Any]:
    """Return what the page says of the origin of everything on it.

    `described` is the spec of the features, `seed` that of the map; of `files`, the inputs, the sha256 is told.
    """
    return {
        "spec": [(name, "none" if value is None else str(value)) for name, value in sorted(spec.flat(described))],
        "identity": spec.identity(described),
        "extraction": found.extraction,
        "versions": _versions(),
        "commit": commit,
        "seeds": _seeds(described, found.models, seed),
        "costs": [(one.name, one.cost) for one in found.models if one.cost],
        "files": [(name, of_file(path)) for name, path in files.items()],
    }


def _versions() -> list[tuple[str, str]]:
    """Return the versions on the machine that makes the report; an engine's own is in the report of `extract`."""
    found = [("Python", platform.python_version())]
    for package in PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    return found


def _seeds(described: Mapping[str, Any], judged: Sequence[Evaluated], seed: int) -> list[tuple[str, int]]:
    """Return every seed that an artefact keeps."""
    found = [(f"spec: {name}", value) for name, value in spec.flat(described) if name.endswith("seed")]
    for one in judged:
        kept = spec.flat(one.record or {})
        found += [
            (f"{one.name}: {name.removeprefix('params.')}", value)
            for name, value in kept
            if name.rpartition(".")[2] == "seed" and not name.startswith("spec.") and isinstance(value, int)
        ]
    return [*found, ("this report: map", seed)]
