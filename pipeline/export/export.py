"""Write a model as files that run without this project, in each format asked for, and compare each with the model."""

import contextlib
import hashlib
import importlib.util
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.engines import engine
from pipeline.errors import HeadstartError, InputError, SettingError, StorageError
from pipeline.export import bundle, model_card, parity, web_page
from pipeline.export.build_graph import Graph
from pipeline.export.formats import FORMATS, Format, Materials
from pipeline.export.parity import ParityRow
from pipeline.export.settings import ExportSettings
from pipeline.models import joined_head
from pipeline.models.model import Model
from pipeline.photos import decode, manifest
from pipeline.photos.batches import batches, of_manifest
from pipeline.photos.manifest import Manifest
from pipeline.photos.remote import Root
from pipeline.storage.atomic import published_folder
from pipeline.types import Progress
from pipeline.wording import one_line

__all__ = ["NAMES", "ExportResult", "ParityRow", "export"]

NAMES: Final = tuple(name for name in FORMATS if "-" not in name)
OPERATION: Final = re.compile(r"(?:tf\.|OpType: |operations?: |op \[\S+ )(\w+)")  # in what the converters complain of


def rows_of(settings: ExportSettings) -> list[Format]:
    """Return the formats to write, those of TFLite for each kind; InputError if there is none of a name."""
    if odd := [name for name in settings.format if name not in NAMES]:
        raise InputError.of("format", f"some of {', '.join(NAMES)}", ", ".join(odd))
    kinds = ["tflite" if kind == "none" else f"tflite-{kind}" for kind in settings.quantize]
    wanted = {name for name in settings.format if name != "tflite"} | set(kinds if "tflite" in settings.format else [])
    if not wanted:
        raise InputError.of("format", "one format or more", None)
    return [row for name, row in FORMATS.items() if name in wanted]


@dataclass(frozen=True)
class ExportResult:
    """What was exported.

    Attributes
    ----------
    files : dict of str to str
        The file, or folder, of each format.
    parity : list of ParityRow
        Empty without data.
    """

    files: dict[str, str]
    parity: list[ParityRow]


def export(model_dir: Path, out_dir: Path, settings: ExportSettings, *, progress: Progress) -> ExportResult:
    """Write a model in several formats, compare each with it, and publish all of it, or nothing.

    Parameters
    ----------
    model_dir : Path
        Of a model or a head, as for `pipeline.models.joined_head.read`.
    out_dir : Path
        Made anew; what an export left there is replaced.
    settings : ExportSettings
        With images and their manifest, each format is run on test images and compared with the model.
    progress : callable
        Called with (steps done, steps).

    Raises
    ------
    InputError
        A package is missing, a format or a converter cannot take the model, or an image cannot be read.
    ArtefactError
        Model or head is damaged; or a file does not do what the model does.
    StorageError
        The disk is full.
    """
    rows, evaluation = rows_of(settings), settings.evaluation
    if (settings.images is None) != (settings.manifest is None):
        raise SettingError("expected `images` and `manifest` together, received one of them")
    bundle.require_replaceable(out_dir)
    model = joined_head.read(model_dir, weights=settings.weights, cache=settings.cache)
    _require_written_of(model, rows)
    _require_installed(model, rows)
    if evaluation is not None:
        model_card.require_its_evaluation(model, evaluation)
    table = manifest.read(settings.manifest) if settings.manifest else None
    calibration = _calibration(model, rows, settings, table)
    in_browser = any(row.name == "web" for row in rows)
    materials = Materials(
        samples=calibration.samples if calibration else None,
        runtime=web_page.package(settings.onnxruntime_web, settings.cache) if in_browser else None,
    )
    steps = len(rows) * (2 if settings.manifest else 1)
    with published_folder(out_dir) as new, _temporary_files_in(new.parent):
        graph = Graph(model)
        for done, row in enumerate(rows, start=1):
            _write(row, graph, new / row.path, materials)
            progress(done, steps)
        bundle.write_classes(new, model.classes)
        found = _compared(model, new, rows, settings, table, lambda n: progress(len(rows) + n, steps))
        used = {"images": len(calibration.table), "sha256": calibration.digest} if calibration else None
        facts = model_card.Facts(settings.manifest, evaluation, rows, found, used)
        text = model_card.written(model, facts)
        if settings.card == "hugging-face":
            text = model_card.metadata(model, facts, settings.license) + text
        (new / bundle.CARDS[settings.card]).write_text(text, encoding="utf-8")
        made = {"versions": _versions(model, rows), "calibrated_on": used}
        bundle.write_document(new, model, {row.name: row for row in rows}, made)
    return ExportResult({row.name: row.path for row in rows}, found)


def _require_written_of(model: Model, rows: Sequence[Format]) -> None:
    """Raise InputError for formats that take a network of Keras, where the base is a graph."""
    strange = [row.name for row in rows if row.runtime not in ("onnxruntime", "openvino")]
    if strange and joined_head.is_graph(model.spec):
        raise InputError.of("format", f"onnx or openvino, since the base of {model.directory} is a graph", *strange[:1])


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let converters write aside where the export is written: on the disk that errors name, and not left by a kill."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


@dataclass(frozen=True)
class _Calibration:
    """Training images that int8 is calibrated on."""

    model: Model
    root: Root
    table: Manifest

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.table.digests.tobytes()).hexdigest()

    def samples(self) -> Iterator[NDArray[np.uint8]]:
        photos = of_manifest(self.root, self.table)
        fit = decode.of_spec(self.model.spec)
        return (batch.pixels for batch in batches(photos, fit, batch_size=1, failed=photos.refuse))


def _calibration(
    model: Model, rows: Sequence[Format], settings: ExportSettings, table: Manifest | None
) -> _Calibration | None:
    if not any(row.name == "tflite-int8" for row in rows):
        return None
    if settings.images is None or table is None:
        raise InputError("`quantize='int8'`: expected `images` and `manifest` to calibrate on, received none")
    chosen = parity.chosen(table, "train", settings.calibration_images)
    if not len(chosen):
        raise InputError(f"{settings.manifest}: expected training images to calibrate int8 on, received none")
    return _Calibration(model, settings.images, chosen)


def _require_installed(model: Model, rows: Sequence[Format]) -> None:
    for row in rows:
        needed = [name for name in row.modules(listed=model.is_listed) if name not in ("keras", "tensorflow")]
        if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
            raise InputError(
                f"`format={row.name.partition('-')[0]!r}`: expected {', '.join(needed)}, received no "
                f"{' and no '.join(missing)}: pip install 'headstart[export]'"
            )


def _write(row: Format, graph: Graph, path: Path, materials: Materials) -> None:
    try:
        row.write(graph, path, materials)
    except (HeadstartError, OSError, MemoryError):
        raise
    except Exception as error:  # converters raise anything
        text = one_line(error)
        if any(words in text for words in ("No space left", "Disk quota", "File too large")):
            raise StorageError(f"{path}: {text[:200]}") from error
        raise InputError(
            f"`format={row.name.partition('-')[0]!r}`: expected a network that its converter takes, received one with "
            f"{_part(text, graph)}: {type(error).__name__}: {text[:120]}"
        ) from error


def _part(text: str, graph: Graph) -> str:
    """Return which part of a graph a converter's complaint is about, by the operations that it names."""
    if graph.is_listed:
        return "a part that it does not name"
    named = set(OPERATION.findall(text))
    found = {kind: name for name, kind in graph.operations() if kind in named}
    if not found:
        return "a part that it does not name"
    kind, name = min(found.items())
    layers = {layer.name: type(layer).__name__ for layer in graph.network.layers}
    for step in name.split("/"):
        layer = step if step in layers else re.sub(r"_\d+$", "", step)  # a trace counts how often a layer was called
        if layer in layers:
            return f"the layer {layer} ({layers[layer]}, operation {kind})"
    return f"the operation {kind}"


def _compared(
    model: Model,
    directory: Path,
    rows: Sequence[Format],
    settings: ExportSettings,
    table: Manifest | None,
    advance: Callable[[int], object],
) -> list[ParityRow]:
    if settings.images is None or table is None:
        return []
    found = []
    sample = parity.chosen(table, "test", settings.sample)
    with parity.reference(model, settings.images, sample, weights=settings.weights, cache=settings.cache) as expected:
        for done, row in enumerate(rows, start=1):
            found.append(parity.compare(model, directory, row, expected))
            advance(done)
    parity.write(directory, found, {"versions": _versions(model, rows)})
    return found


def _versions(model: Model, rows: Sequence[Format]) -> dict[str, str]:
    """Return the versions of what wrote and ran the formats."""
    names = {name for row in rows for name in row.modules(listed=model.is_listed)}
    found = {name: engine.version_of(name.replace("_", "-")) for name in names}
    return {"python": ".".join(map(str, sys.version_info[:3])), **found}
