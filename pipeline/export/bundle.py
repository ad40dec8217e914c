"""The folder of an export: what is in it, and reading it again.

::

    export.json        classes, threshold, the pixels it takes, its own sha256, and of each format its files with theirs
    classes.txt        a class a line, in the order of the probabilities
    classes.json       the same as a list, for names that hold a line's end
    MODEL_CARD.md      what the model is, what it was measured to do, how to call it; README.md for the Hugging Face Hub
    parity.json        how far each format is from the model, on real images; and parity.csv
    model.onnx, …      one graph in each format
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

from pipeline.errors import InputError
from pipeline.export.formats import FORMATS, Format
from pipeline.export.settings import Card
from pipeline.features.settings import LARGEST_SIDE
from pipeline.heads.calibration import thresholds
from pipeline.models.model import Model
from pipeline.photos.settings import Decoder, Geometry, Interpolation
from pipeline.photos.squares import square_of
from pipeline.storage import json_files
from pipeline.storage.atomic import published
from pipeline.storage.digests import of_file
from pipeline.storage.json_files import DIGESTS, LABELS, OBJECT, Document, maybe, object_of, one_of, whole

EXPORT: Final = Document(
    "an export",
    "`hs.export`",
    {
        "classes": LABELS,
        "size": whole(1, LARGEST_SIDE),
        "resize": one_of(*get_args(Geometry)),
        "decoder": maybe(object_of(name=one_of(*get_args(Decoder)))),
        "interpolation": maybe(one_of(*get_args(Interpolation))),
        "formats": replace(OBJECT, each=object_of(files=DIGESTS)),
    },
    version=1,
    sealed=True,
)
DOCUMENT: Final = "export.json"
CLASSES_TEXT, CLASSES_JSON = "classes.txt", "classes.json"
PARITY_JSON, PARITY_CSV = "parity.json", "parity.csv"
CARDS: Final[dict[Card, str]] = {"markdown": "MODEL_CARD.md", "hugging-face": "README.md"}


@dataclass(frozen=True)
class Exported:
    """An export that was read and checked.

    Attributes
    ----------
    directory : Path
        Where it lies.
    classes : list of str
        In the order of the probabilities.
    threshold : dict or None
        For `pipeline.heads.calibration.thresholds.decide`.
    square : dict
        What the network sees and how an image becomes it: ``size``, ``resize``, ``decoder``, ``interpolation``, as in a
        spec.
    formats : dict of str to Format
        What it is there in.
    """

    directory: Path
    classes: list[str]
    threshold: dict[str, Any] | None
    square: dict[str, Any]
    formats: dict[str, Format]


def require_replaceable(directory: Path) -> None:
    """Raise InputError if a folder holds what is no export, since publishing one would remove it."""
    is_export, is_folder = (directory / DOCUMENT).is_file(), directory.is_dir()
    if directory.exists() and not is_export and not (is_folder and not any(directory.iterdir())):
        raise InputError(f"{directory}: expected an export to replace, or nothing, received other files")


def write_classes(directory: Path, classes: list[str]) -> None:
    """Write the names of the classes, for people and for programs."""
    (directory / CLASSES_TEXT).write_text("".join(f"{label}\n" for label in classes), encoding="utf-8")
    (directory / CLASSES_JSON).write_text(_json(classes), encoding="utf-8")


def write_document(directory: Path, model: Model, formats: Mapping[str, Format], made: Mapping[str, Any]) -> None:
    """Write ``export.json``, the last file of an export, since it has the digests of the others.

    `directory` has all files of `formats` in it; `made` is what else is to be said of how it was made, as JSON.
    """
    document = {
        "format": EXPORT.version,
        "model": model.identity,
        "classes": model.classes,
        "threshold": model.threshold,
        "size": model.size,
        "resize": model.spec["resize"],
        **({"decoder": model.spec["decoder"]} if model.spec["decoder"]["name"] != "pillow" else {}),
        **({"interpolation": chosen} if (chosen := square_of(model.spec)["interpolation"]) != "bilinear" else {}),
        "made": dict(made),
        "formats": {
            name: {
                "runtime": row.runtime,
                "takes": "any size" if row.size == "any" else f"{model.size} x {model.size}",
                "files": {path.relative_to(directory).as_posix(): of_file(path) for path in files_of(directory, row)},
            }
            for name, row in formats.items()
        },
    }
    json_files.publish(directory / DOCUMENT, document)


def files_of(directory: Path, row: Format) -> list[Path]:
    """List the files of one format in the folder of an export, those in folders included."""
    tops = [directory / name for name in row.files]
    return sorted(path for top in tops for path in ([top] if top.is_file() else top.rglob("*")) if path.is_file())


def publish_json(path: Path, document: object) -> None:
    """Publish a document as JSON, its keys sorted."""
    with published(path) as temporary:
        temporary.write_text(_json(document), encoding="utf-8")


def read(directory: Path) -> Exported:
    """Read what an export says of itself, and check its files against their digests. No runtime is loaded.

    ArtefactError, which names it, expected and received, if a file is missing, damaged or of another format.
    """
    path = directory / DOCUMENT
    document = EXPORT.read(path)
    there: dict[str, Any] = document["formats"]
    if not there or not there.keys() <= FORMATS.keys():
        EXPORT.refuse(path, f"formats among {', '.join(FORMATS)}", ", ".join(there))
    for name, entry in there.items():
        _require_whole(directory, FORMATS[name], entry["files"])
    threshold = thresholds.of_record(document, directory)
    formats = {name: FORMATS[name] for name in there}
    square = {key: document[key] for key in ("size", "resize")}
    square["decoder"] = document.get("decoder") or {"name": "pillow"}
    square["interpolation"] = document.get("interpolation") or "bilinear"
    return Exported(directory, document["classes"], threshold, square, formats)


def _require_whole(directory: Path, row: Format, digests: dict[str, str]) -> None:
    found = {path.relative_to(directory).as_posix(): of_file(path) for path in files_of(directory, row)}
    if not digests:
        EXPORT.refuse(directory / DOCUMENT, f"files of {row.name} with their sha256", None)
    for name in sorted(digests.keys() | found.keys()):
        if digests.get(name) != found.get(name):
            expected, received = (
                f"sha256 {side.get(name)}" if name in side else "no file" for side in (digests, found)
            )
            EXPORT.refuse(directory / name, f"{expected}, as {DOCUMENT} says", received)


def _json(document: object) -> str:
    return json.dumps(document, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
