"""A fitted head as a folder of plain files, with no pickle among them.

::

    head.json     format, kind, parameters, sha256 of itself and of the others, and the record: classes, spec, scores
    arrays.npz    the learned arrays, uncompressed
    history.csv   a row an epoch, if the head has epochs
    search.csv    a row a candidate, if there was a search
"""

import csv
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, InputError
from pipeline.heads import registry
from pipeline.heads.head import Head
from pipeline.heads.registry import HEADS
from pipeline.heads.standardise import Slot, count_parameters
from pipeline.storage import json_files
from pipeline.storage.atomic import publish_csv, published
from pipeline.storage.digests import of_file
from pipeline.storage.json_files import (
    DIGESTS,
    LABELS,
    OBJECT,
    Document,
    maybe,
    number,
    object_of,
    one_of,
    publish,
    whole,
)

MOST_VIEWS: Final = 1_000_000  # what somebody mails is drawn over them, too
JUDGED: Final = {
    **dict.fromkeys(("train", "val"), maybe(object_of(accuracy=number(0, 1), rows=whole()))),
    "calibration": maybe(object_of(temperature=number())),
    "threshold": maybe(OBJECT),
    "views": maybe(object_of(count=whole(1, MOST_VIEWS))),
}
HEAD: Final = Document(
    "a trained head",
    "`hs.train`",
    {
        "head": one_of(*HEADS),
        "params": OBJECT,
        "n_features": whole(1),
        "classes": LABELS,
        "spec": OBJECT,
        **JUDGED,
        "files": DIGESTS,
    },
    version=1,
    sealed=True,
)
HEAD_FILE: Final = "head.json"
ARRAYS_FILE: Final = "arrays.npz"
HISTORY_FILE: Final = "history.csv"
SEARCH_FILE: Final = "search.csv"
HISTORY_COLUMNS: Final = (
    ["epoch", "loss", "accuracy"],
    ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"],
)


def require_head(directory: Path) -> None:
    """Raise ArtefactError, before a file is looked for, where there is neither a head nor what could be one."""
    if (directory / HEAD_FILE).exists():
        return
    inside = sorted(path.parent.name for path in directory.glob(f"*/{HEAD_FILE}"))
    held = [what for name, what in json_files.RECORDS.items() if (directory / name).exists()]
    found = (
        f"a folder with {', '.join([*held, *inside]) or 'neither'}" if directory.is_dir() else "nothing of that name"
    )
    found = "a file" if directory.is_file() else found
    raise ArtefactError(f"{directory}: expected the folder of a head or a model, received {found}")


def save(head: Head, directory: Path, record: Mapping[str, Any]) -> None:
    """Write a fitted head. Equal heads and records give equal bytes.

    Each file is written aside and renamed, ``head.json`` last. It holds the digests of the others, so that a reader
    notices when a run was killed between two of them. The table of a search, if it stands there, is one of them.
    `directory` is made if it is missing; a head that stands there is replaced.

    `record` is what else belongs to the head, as JSON: at least ``classes`` (list of str in the order of the codes) and
    ``spec`` (of the features it was fitted on).
    """
    n_features = len(head.arrays_["mean_"])
    layout = head.layout(n_features, len(record["classes"]))
    with published(directory / ARRAYS_FILE) as path:
        np.savez(path, **{name: head.arrays_[name] for name in layout})  # type: ignore[arg-type]
    files = [ARRAYS_FILE]
    if head.history_:
        history = [list(row.values()) for row in head.history_]
        publish_csv(directory / HISTORY_FILE, list(head.history_[0]), history)
        files.append(HISTORY_FILE)
    else:
        (directory / HISTORY_FILE).unlink(missing_ok=True)
    if (directory / SEARCH_FILE).exists():
        files.append(SEARCH_FILE)
    name = registry.name_of(head)
    document = dict(record) | {
        "format": HEAD.version,
        "head": name,
        "params": registry.described(head),
        "n_features": n_features,
        "n_parameters": count_parameters(layout),
        "files": {file: of_file(directory / file) for file in files},
    }
    publish(directory / HEAD_FILE, document)


def load(directory: Path) -> tuple[Head, dict[str, Any]]:
    """Read a head back. Nothing in the files is executed, and nothing is used before it was checked.

    Parameters
    ----------
    directory : Path
        As written by `save`.

    Returns
    -------
    head : Head
        Gives the same probabilities, bit for bit, as the head that was saved.
    record : dict
        All of ``head.json``: the record given to `save`, and ``head``, ``params``, ``n_features``, ``n_parameters``.

    Raises
    ------
    ArtefactError
        A file is missing, damaged, of another format, or does not fit the others; names it, expected and received.
    """
    path = directory / HEAD_FILE
    document = HEAD.read(path)
    head = _built(path, document)
    layout = head.layout(document["n_features"], len(document["classes"]))
    head.history_ = verified(HEAD, path, document["files"], ARRAYS_FILE)
    head.arrays_ = _read_arrays(directory / ARRAYS_FILE, layout, len(document["classes"]))
    head.warnings_ = []
    return head, document


def verified(kind: Document, path: Path, files: Mapping[str, str], arrays: str) -> list[dict[str, float]]:
    """Check the files of a head or a model against their digests, and return its history; ArtefactError if it cannot.

    `path` is ``head.json`` or ``model.json``, `files` are the digests that it holds, `arrays` is the file that must be
    among them.
    """
    if arrays not in files or not files.keys() <= {arrays, HISTORY_FILE, SEARCH_FILE}:
        expected = f"files with the digest of {arrays} and perhaps of {HISTORY_FILE} and {SEARCH_FILE}"
        kind.refuse(path, expected, ", ".join(files))
    for name, digest in files.items():
        require_digest(kind, path.with_name(name), digest)
    return _read_history(kind, path.with_name(HISTORY_FILE)) if HISTORY_FILE in files else []


def require_digest(kind: Document, path: Path, expected: str) -> None:
    """Raise ArtefactError if a file of a head or a model has another sha256 than its record says."""
    try:
        received = of_file(path)
    except OSError as error:
        kind.refuse(path, f"a file of {kind.what}", None if isinstance(error, FileNotFoundError) else str(error))
    if received != expected:
        kind.refuse(path, f"sha256 {expected}, as the record beside it says", received)


def _built(path: Path, document: dict[str, Any]) -> Head:
    """Make the unfitted head that the document describes."""
    name, params = document["head"], document["params"]
    head = registry.unfitted(name, params)
    if head is None:
        HEAD.refuse(path, f"params {', '.join(registry.parameters_of(name))}", params)
    try:
        head.check()
    except InputError as error:
        raise ArtefactError(f"{path}: {error}") from error
    return head


def _read_arrays(path: Path, layout: dict[str, Slot], n_classes: int) -> dict[str, NDArray[Any]]:
    """Read exactly the arrays of `layout`; headers are compared before any array is allocated."""
    expected = [f"{name}.npy" for name in layout]
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist() != expected:
                HEAD.refuse(path, ", ".join(expected), ", ".join(archive.namelist()))
            arrays = {name: _read_array(path, archive, name, slot) for name, slot in layout.items()}
    except ArtefactError:
        raise
    except Exception as error:  # noqa: BLE001, whatever zipfile and NumPy stumble over
        HEAD.refuse(path, "readable arrays", str(error))
    kept = {len(arrays[name]) for name, slot in layout.items() if slot.shape[0] is None}
    if len(kept) > 1 or 0 in kept:
        HEAD.refuse(path, "as many rows in each array that keeps them, and one at least", sorted(kept))
    codes = arrays.get("codes_")
    if codes is not None and not np.array_equal(np.unique(codes), np.arange(n_classes)):
        HEAD.refuse(path, f"codes_ from 0 to {n_classes - 1}", np.unique(codes).tolist())
    return arrays


def _read_array(path: Path, archive: zipfile.ZipFile, name: str, slot: Slot) -> NDArray[Any]:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:  # stored, an array is no larger than the file: no zip bomb
        HEAD.refuse(path, f"{name} stored without compression", f"compression method {member.compress_type}")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            HEAD.refuse(path, f"{name} in npy format 1.0", version)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    fits = len(shape) == len(slot.shape) and all(
        expected in (size, None) for size, expected in zip(shape, slot.shape, strict=True)
    )
    if not fits or by_columns or dtype != np.dtype(slot.dtype):
        HEAD.refuse(path, f"{name} of shape {slot.shape}, {slot.dtype}, C order", f"shape {shape}, {dtype}")
    if math.prod(shape) * dtype.itemsize > member.file_size:
        HEAD.refuse(path, f"{name} of at most {member.file_size} bytes, as the file holds", f"shape {shape}")
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    if not np.isfinite(array).all():
        HEAD.refuse(path, f"{name} to be finite", "NaN or infinity")
    if name in ("scale_", "votes_") and array.min() <= 0:
        HEAD.refuse(path, f"{name} above 0", f"a minimum of {array.min()}")
    return array


def _read_history(kind: Document, path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        if header not in HISTORY_COLUMNS:
            kind.refuse(path, ",".join(HISTORY_COLUMNS[-1]), ",".join(header))
        history = [
            {name: int(text) if name == "epoch" else float(text) for name, text in zip(header, row, strict=True)}
            for row in rows
        ]
    except (ValueError, csv.Error) as error:
        kind.refuse(path, "a row of numbers an epoch", str(error))
    if not all(np.isfinite(list(row.values())).all() for row in history):
        kind.refuse(path, "finite numbers", "NaN or infinity")
    return history
