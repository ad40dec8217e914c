"""A model: trunk, tail and head in one folder of plain files, from pixels to probabilities.

::

    model.json      format, classes, threshold, calibration, spec, the head's layers, the table of all layers, sha256 of
                    itself and of the others
    weights.h5      the arrays of all layers
    history.csv     an epoch of fine-tuning a row; none if trunk and head were only joined

Nothing in it is pickled or executed: the architecture is built anew from the table of backbones, and only numbers are
taken from the files. Equal models have equal bytes.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactError
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense_layers import Stack
from pipeline.heads.store import HEAD_FILE, HISTORY_FILE, verified
from pipeline.models.model import MODEL, MODEL_FILE, WEIGHTS_FILE, Model, write_weights
from pipeline.storage.atomic import publish_csv
from pipeline.storage.digests import of_file
from pipeline.storage.json_files import publish

MOST_LAYERS: Final = 100  # of a head, or of fresh convolutions: each is built before its arrays are read


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
        What else there is to say of how it was made, as JSON: ``head``, sha256 of ``head.json``, ``best_epoch``, and
        the head's epochs as in `training_history.MADE`. With ``best_epoch`` above 0 the stored spec names the weights
        as fine-tuned; at 0 the model is that head, joined to its base.
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
    notices when a run was killed between two of them. `directory` is made if it is missing; a model that stands there
    is replaced.

    `trunk` and `head` are as for `pipeline.models.assemble.join`; `stack` is what `head` was built from: its kernels
    and biases are those of `head` by now.
    """
    (directory / MODEL_FILE).unlink(missing_ok=True)
    write_weights(directory / WEIGHTS_FILE, trunk, head, stack)
    (directory / HISTORY_FILE).unlink(missing_ok=True)
    files = [WEIGHTS_FILE]
    kept = dict(record.spec)
    if record.made.get("best_epoch"):
        kept["weights"] = dict(kept["weights"]) | {"finetuned": of_file(directory / WEIGHTS_FILE)}
    if record.history:
        publish_csv(directory / HISTORY_FILE, list(record.history[0]), [list(row.values()) for row in record.history])
        files.append(HISTORY_FILE)
    described = {
        "format": MODEL.version,
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
        "files": {file: of_file(directory / file) for file in files},
    }
    publish(directory / MODEL_FILE, described)


def is_model(directory: Path) -> bool:
    """Whether a folder holds a model, and not a head alone."""
    return (directory / MODEL_FILE).is_file()


def read(directory: Path) -> Model:
    """Read what a model says of itself, and check its files against their digests. TensorFlow is not loaded.

    ArtefactError, which names it, expected and received, if a file is missing, damaged, of another format, or does not
    fit the others.
    """
    path = directory / MODEL_FILE
    if not path.exists() and (directory / HEAD_FILE).is_file():
        raise ArtefactError(f"{directory}: expected a model, received a head: `hs.finetune` makes a model of it")
    data = MODEL.data(path)
    document = MODEL.parse(data, path)
    history = verified(MODEL, path, document["files"], WEIGHTS_FILE)
    _require_held(document, directory)
    classes, spec = document["classes"], document["spec"]
    threshold, temperature = thresholds.of_record(document, directory), calibrate.of_record(document, directory)
    return Model(directory, classes, threshold, temperature, spec, history, document, hashlib.sha256(data).hexdigest())


def _require_held(document: Mapping[str, Any], directory: Path) -> None:
    """Raise ArtefactError if the file of weights cannot hold the layers that are described, before they are built."""
    head, held = document["head"], (directory / WEIGHTS_FILE).stat().st_size
    stacks = ([head["n_features"], *head["widths"]], [1, *document["new_conv"]])
    needed = sum(4 * above * below for stack in stacks for below, above in pairwise(stack))
    count = max(map(len, stacks))
    if needed > held or count > MOST_LAYERS:
        described = f"at most {MOST_LAYERS} layers within the {held:,} bytes of {WEIGHTS_FILE}"
        MODEL.refuse(directory / MODEL_FILE, described, f"head and new_conv of {count:,} layers, {needed:,} bytes")
