"""A fitted head as a folder of plain files, with no pickle among them.

::

    head.json     format, kind, parameters, sha256 of the other files, and the record: classes, spec, scores
    arrays.npz    the learned arrays, uncompressed
    history.csv   a row an epoch, if the head has epochs
"""

import csv
import io
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError, InputError
from pipeline.heads.registry import HEADS, Head, name_of, parameters_of
from pipeline.heads.standardise import Slot, count_parameters
from pipeline.storage.atomic import published
from pipeline.storage.digests import of_file

FORMAT: Final = 1
HEAD_FILE: Final = "head.json"
ARRAYS_FILE: Final = "arrays.npz"
HISTORY_FILE: Final = "history.csv"
HISTORY_COLUMNS: Final = (
    ["epoch", "loss", "accuracy"],
    ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"],
)


def save(head: Head, directory: Path, record: Mapping[str, Any]) -> None:
    """Write a fitted head. Equal heads and records give equal bytes.

    Each file is written aside and renamed, ``head.json`` last. It holds the digests of the others, so that a reader
    notices when a run was killed between two of them.

    Parameters
    ----------
    head : Head
        Fitted.
    directory : Path
        Made if it is missing; a head that stands there is replaced.
    record : mapping
        What else belongs to the head, as JSON: at least ``classes`` (list of str in the order of the codes) and
        ``spec`` (of the features it was fitted on).
    """
    n_features = len(head.arrays_["mean_"])
    layout = head.layout(n_features, len(record["classes"]))
    with published(directory / ARRAYS_FILE) as path:
        np.savez(path, **{name: head.arrays_[name] for name in layout})  # type: ignore[arg-type]
    files = [ARRAYS_FILE]
    if head.history_:
        _write_history(directory / HISTORY_FILE, head.history_)
        files.append(HISTORY_FILE)
    else:
        (directory / HISTORY_FILE).unlink(missing_ok=True)
    name = name_of(head)
    document = dict(record) | {
        "format": FORMAT,
        "head": name,
        "params": {parameter: getattr(head, parameter) for parameter in parameters_of(name)},
        "n_features": n_features,
        "n_parameters": count_parameters(layout),
        "files": {file: _sha256(directory / file) for file in files},
    }
    with published(directory / HEAD_FILE) as path:
        path.write_text(json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


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
    document = _read_document(path)
    head = _built(path, document)
    n_features = document.get("n_features")
    if not isinstance(n_features, int) or isinstance(n_features, bool) or n_features < 1:
        _refuse(path, "n_features of at least 1", n_features)
    layout = head.layout(n_features, len(_classes(path, document)))
    files = document.get("files")
    if not isinstance(files, dict) or files.keys() not in ({ARRAYS_FILE}, {ARRAYS_FILE, HISTORY_FILE}):
        _refuse(path, f"files with the digest of {ARRAYS_FILE} and perhaps of {HISTORY_FILE}", files)
    for file, expected in files.items():
        received = _sha256(directory / file)
        if received != expected:
            _refuse(directory / file, f"sha256 {expected}, as {HEAD_FILE} says", received)
    head.arrays_ = _read_arrays(directory / ARRAYS_FILE, layout, len(document["classes"]))
    head.history_ = _read_history(directory / HISTORY_FILE) if HISTORY_FILE in files else []
    head.warnings_ = []
    return head, document


def _refuse(path: Path, expected: str, received: object) -> NoReturn:
    text = repr(received) if not isinstance(received, str) else received
    raise ArtefactError(f"{path}: expected {expected}, received {text[:200]}; train the head again")


def _sha256(path: Path) -> str:
    try:
        return of_file(path)
    except FileNotFoundError:
        _refuse(path, "a file of a trained head", "none")


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        _refuse(path, "a trained head", "no such file")
    except (ValueError, RecursionError) as error:
        _refuse(path, "JSON", str(error))
    if not isinstance(document, dict):
        _refuse(path, "a JSON object", document)
    if document.get("format") != FORMAT:
        _refuse(path, f"format {FORMAT}", document.get("format"))
    if not isinstance(document.get("spec"), dict):
        _refuse(path, "a spec", document.get("spec"))
    return document


def _built(path: Path, document: dict[str, Any]) -> Head:
    """Make the unfitted head that the document describes."""
    name, params = document.get("head"), document.get("params")
    if not isinstance(name, str) or name not in HEADS:
        _refuse(path, f"head {' or '.join(HEADS)}", name)
    if not isinstance(params, dict) or sorted(params) != sorted(parameters_of(name)):
        _refuse(path, f"params {', '.join(parameters_of(name))}", params)
    # JSON knows lists only.
    arguments: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in params.items()
    }
    head = HEADS[name](**arguments)
    try:
        head.check()
    except InputError as error:
        raise ArtefactError(f"{path}: {error}") from error
    return head


def _classes(path: Path, document: dict[str, Any]) -> list[str]:
    classes = document.get("classes")
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(label, str) for label in classes):
        _refuse(path, "classes: two labels or more", classes)
    if len(set(classes)) != len(classes):
        _refuse(path, "classes: labels that differ", classes)
    return classes


def _read_arrays(path: Path, layout: dict[str, Slot], n_classes: int) -> dict[str, NDArray[Any]]:
    """Read exactly the arrays of `layout`; headers are compared before any array is allocated."""
    expected = [f"{name}.npy" for name in layout]
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist() != expected:
                _refuse(path, ", ".join(expected), ", ".join(archive.namelist()))
            arrays = {name: _read_array(path, archive, name, slot) for name, slot in layout.items()}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        _refuse(path, "readable arrays", str(error))
    kept = {len(arrays[name]) for name, slot in layout.items() if slot.shape[0] is None}
    if len(kept) > 1 or 0 in kept:
        _refuse(path, "as many rows in each array that keeps them, and one at least", sorted(kept))
    codes = arrays.get("codes_")
    if codes is not None and not np.array_equal(np.unique(codes), np.arange(n_classes)):
        _refuse(path, f"codes_ from 0 to {n_classes - 1}", np.unique(codes).tolist())
    return arrays


def _read_array(path: Path, archive: zipfile.ZipFile, name: str, slot: Slot) -> NDArray[Any]:
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type != zipfile.ZIP_STORED:  # stored, an array is no larger than the file: no zip bomb
        _refuse(path, f"{name} stored without compression", f"compression method {member.compress_type}")
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            _refuse(path, f"{name} in npy format 1.0", version)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    fits = len(shape) == len(slot.shape) and all(
        expected in (size, None) for size, expected in zip(shape, slot.shape, strict=True)
    )
    if not fits or by_columns or dtype != np.dtype(slot.dtype):
        _refuse(path, f"{name} of shape {slot.shape}, {slot.dtype}, C order", f"shape {shape}, {dtype}")
    if math.prod(shape) * dtype.itemsize > member.file_size:
        _refuse(path, f"{name} of at most {member.file_size} bytes, as the file holds", f"shape {shape}")
    with archive.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    if not np.isfinite(array).all():
        _refuse(path, f"{name} to be finite", "NaN or infinity")
    if name in ("scale_", "votes_") and array.min() <= 0:
        _refuse(path, f"{name} above 0", f"a minimum of {array.min()}")
    return array


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with published(path) as temporary:
        temporary.write_bytes(text.getvalue().encode())


def _read_history(path: Path) -> list[dict[str, float]]:
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        if not rows or rows[0] not in HISTORY_COLUMNS:
            _refuse(path, ",".join(HISTORY_COLUMNS[-1]), ",".join(rows[0]) if rows else "an empty file")
        history = [
            {name: int(text) if name == "epoch" else float(text) for name, text in zip(rows[0], row, strict=True)}
            for row in rows[1:]
        ]
    except (ValueError, csv.Error) as error:
        _refuse(path, "a row of numbers an epoch", str(error))
    if not all(np.isfinite(list(row.values())).all() for row in history):
        _refuse(path, "finite numbers", "NaN or infinity")
    return history
