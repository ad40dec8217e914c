"""A model: trunk, tail and head in one folder of plain files, from pixels to probabilities.

::

    model.json      format, classes, threshold, calibration, spec, the head's layers, the table of all layers, sha256 of
                    the other files
    weights.h5      the arrays of all layers
    history.csv     an epoch of fine-tuning a row; none if trunk and head were only joined

Nothing in it is pickled or executed: the architecture is built anew from the table of backbones, and only numbers are
taken from the files. Equal models have equal bytes.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense_layers import Stack
from pipeline.heads.store import HEAD_FILE, HISTORY_COLUMNS
from pipeline.models.model import MODEL_FILE, WEIGHTS_FILE, Model, refuse, write_weights
from pipeline.storage.atomic import publish_csv, published

FORMAT: Final = 1
HISTORY_FILE: Final = "history.csv"
LARGEST_SIDE: Final = 4096  # px: no backbone is meant for more, and a file that asks for more is not ours


@dataclass(frozen=True)
class LayerState:
    """One layer with weights.

    Attributes
    ----------
    name, kind : str
        The layer's name and its class.
    place : {"trunk", "tail", "head"}
        Below the cut of fine-tuning, above it, or in the head.
    parameters : int
        Numbers in its weights, moving statistics among them.
    trained : int
        How many of them training was free to change; the rest is frozen.
    """

    name: str
    kind: str
    place: str
    parameters: int
    trained: int


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Let probabilities in float32, as an engine gives them, of shape (n, K), add up to 1 in float64."""
    wide = rows.astype(np.float64)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What ``model.json`` says of a model.

    Attributes
    ----------
    classes : sequence of str
    threshold : mapping or None
        As in the record of a head, if it holds for the probabilities of this network.
    spec : mapping
        Of the features that the trunk gives, before any training.
    new_conv : sequence of int
        Widths of the fresh convolutions between the spec's cut and its pooling.
    layers : sequence of LayerState
    history : sequence of mapping
        A row an epoch.
    made : mapping
        What else there is to say of how it was made, as JSON: ``head``, sha256 of ``head.json``, and ``best_epoch``.
        Above 0 the stored spec names the weights as fine-tuned; at 0 the model is that head, joined to its base.
    calibration : mapping or None
        As in the record of a head, for the logits of the head.
    """

    classes: Sequence[str]
    threshold: Mapping[str, Any] | None
    spec: Mapping[str, Any]
    new_conv: Sequence[int]
    layers: Sequence[LayerState]
    history: Sequence[Mapping[str, float]]
    made: Mapping[str, Any]
    calibration: Mapping[str, Any] | None = None


def save(directory: Path, trunk: Any, head: Any, stack: Stack, record: Record) -> None:
    """Write a model.

    Each file is written aside and renamed, ``model.json`` last: it holds the digests of the others, so that a reader
    notices when a run was killed between two of them.

    Parameters
    ----------
    directory : Path
        Made if it is missing; a model that stands there is replaced.
    trunk, head : keras.Model
        As for `pipeline.models.assemble.join`.
    stack : Stack
        What `head` was built from; its kernels and biases are those of `head` by now.
    record : Record
    """
    (directory / MODEL_FILE).unlink(missing_ok=True)
    write_weights(directory / WEIGHTS_FILE, trunk, head, stack)
    (directory / HISTORY_FILE).unlink(missing_ok=True)
    files = [WEIGHTS_FILE]
    kept = dict(record.spec)
    if record.made.get("best_epoch"):
        kept["weights"] = dict(kept["weights"]) | {"finetuned": _sha256(directory / WEIGHTS_FILE)}
    if record.history:
        publish_csv(directory / HISTORY_FILE, list(record.history[0]), [list(row.values()) for row in record.history])
        files.append(HISTORY_FILE)
    described = {
        "format": FORMAT,
        "classes": list(record.classes),
        "threshold": dict(record.threshold) if record.threshold else None,
        "calibration": dict(record.calibration) if record.calibration else None,
        "spec": kept,
        "new_conv": list(record.new_conv),
        "head": {
            "n_features": len(stack.mean),
            "widths": stack.widths,
            "activation": stack.activation,
            "dropout": stack.dropout,
            "l1": stack.l1,
            "l2": stack.l2,
        },
        "made": dict(record.made),
        "layers": [asdict(layer) for layer in record.layers],
        "files": {file: _sha256(directory / file) for file in files},
    }
    with published(directory / MODEL_FILE) as path:
        path.write_text(json.dumps(described, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def is_model(directory: Path) -> bool:
    """Whether a folder holds a model, and not a head alone."""
    return (directory / MODEL_FILE).is_file()


def read(directory: Path) -> Model:
    """Read what a model says of itself, and check its files against their digests. TensorFlow is not loaded.

    Parameters
    ----------
    directory : Path
        As written by `save`.

    Raises
    ------
    ArtefactError
        A file is missing, damaged, of another format, or does not fit the others; names it, expected and received.
    """
    path = directory / MODEL_FILE
    try:
        data = path.read_bytes()
        document = json.loads(data)
    except (FileNotFoundError, NotADirectoryError):
        if (directory / HEAD_FILE).is_file():
            raise ArtefactError(
                f"{directory}: expected a model, received a head: `headstart finetune` makes a model of it"
            ) from None
        refuse(path, "a model", "no such file")
    except (ValueError, RecursionError) as error:
        refuse(path, "JSON", str(error))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        refuse(path, f"format {FORMAT}", document.get("format") if isinstance(document, dict) else document)
    classes, spec = document.get("classes"), document.get("spec")
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(label, str) for label in classes):
        refuse(path, "classes: two labels or more", classes)
    if not isinstance(spec, dict) or not isinstance(spec.get("size"), int) or not 1 <= spec["size"] <= LARGEST_SIDE:
        refuse(path, f"a spec with a size up to {LARGEST_SIDE} px", spec)
    files = document.get("files")
    if not isinstance(files, dict) or files.keys() not in ({WEIGHTS_FILE}, {WEIGHTS_FILE, HISTORY_FILE}):
        refuse(path, f"files with the digest of {WEIGHTS_FILE} and perhaps of {HISTORY_FILE}", files)
    for file, expected in files.items():
        received = _sha256(directory / file)
        if received != expected:
            refuse(directory / file, f"sha256 {expected}, as {MODEL_FILE} says", received)
    history = _read_history(directory / HISTORY_FILE) if HISTORY_FILE in files else []
    threshold, temperature = thresholds.of_record(document, directory), calibrate.of_record(document, directory)
    return Model(directory, classes, threshold, temperature, spec, history, document, hashlib.sha256(data).hexdigest())


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        refuse(path, "a file of a model", "none")


def _read_history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        if header not in HISTORY_COLUMNS:
            refuse(path, ",".join(HISTORY_COLUMNS[-1]), ",".join(header))
        history = [
            {name: int(text) if name == "epoch" else float(text) for name, text in zip(header, row, strict=True)}
            for row in rows
        ]
    except (ValueError, csv.Error) as error:
        refuse(path, "a row of numbers an epoch", str(error))
    if not all(math.isfinite(value) for row in history for value in row.values()):
        refuse(path, "finite numbers", "NaN or infinity")
    return history
