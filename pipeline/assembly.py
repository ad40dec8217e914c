"""Trunk, tail and head joined into one network, from pixels to probabilities, and the folder that keeps it.

A model is a folder of plain files, with no pickle and no serialised object among them::

    model.json      format, how it was made, the table of its layers, sha256 of the other files
    weights.h5      the arrays of all layers below the head
    head/           the head, as `pipeline.heads.save` writes it: classes, spec, parameters, arrays
    history.csv     an epoch of fine-tuning a row; none if trunk and head were only joined

Reading one back builds the architecture from our own code, and takes nothing but numbers from the files.
"""

import csv
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline import backbones, frameworks, hdf5, heads
from pipeline.backbones import graph
from pipeline.engines.tensorflow import TensorFlowEngine, computing_in
from pipeline.errors import ArtefactError, InputError
from pipeline.files import publish_csv, published
from pipeline.heads.rows import outputs

FORMAT: Final = 1
MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "weights.h5"
HISTORY_FILE: Final = "history.csv"
HEAD_FOLDER: Final = "head"
LARGEST_SIZE: Final = 4096  # px: no backbone is meant for more, and a file that asks for more is not ours
BATCH: Final = 32


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
        How many of them training changed or was allowed to; the rest is frozen.
    """

    name: str
    kind: str
    place: str
    parameters: int
    trained: int


@dataclass(frozen=True)
class Model:
    """A joined network, read back.

    Attributes
    ----------
    network : keras.Model
        From uint8 (B, size, size, 3), RGB, to float32 (B, K). Any engine of `pipeline.engines` runs it as it runs a
        trunk.
    classes : list of str
        In the order of the probabilities.
    spec : dict
        How the pixels are made (size, resize, decoder), and what the network was built from.
    history : list of dict
        A row an epoch of fine-tuning.
    document : dict
        All of ``model.json``.
    """

    network: Any
    classes: list[str]
    spec: dict[str, Any]
    history: list[dict[str, float]]
    document: dict[str, Any]

    @property
    def size(self) -> int:
        """Side of the input square, px."""
        return int(self.spec["size"])

    def predict_proba(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the probability of each class.

        Parameters
        ----------
        pixels : ndarray of shape (n, size, size, 3), uint8
            RGB, as `pipeline.images.fit` gives them.

        Returns
        -------
        ndarray of shape (n, K), float64, rows sum to 1
        """
        engine = TensorFlowEngine(self.network, batch_size=min(BATCH, max(1, len(pixels))))
        batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        return normalised(np.concatenate([np.empty((0, len(self.classes)), np.float32), *engine.run(batches)]))


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Let probabilities in float32, as an engine gives them, of shape (n, K), add up to 1 in float64."""
    wide = rows.astype(np.float64)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))


def head_network(head: heads.Head, n_classes: int) -> Any:
    """Build a fitted head out of Keras layers.

    Parameters
    ----------
    head : Head
        Fitted. Columns are brought to mean 0 and deviation 1 by a layer without weights, and stay so in training.
    n_classes : int

    Returns
    -------
    keras.Model
        From features (B, d) float32 to logits (B, 1) for two classes, else (B, K). Its trainable weights are those of
        the head, in the order of `Head.layout`; a dense head brings its dropout and penalties along.
    """
    frameworks.tensorflow()
    from keras import Input, Model, layers, regularizers

    mean, scale = head.arrays_["mean_"], head.arrays_["scale_"]
    features = Input((len(mean),), name="features")
    x = layers.Rescaling(
        scale=(1.0 / scale).astype(np.float32), offset=(-mean / scale).astype(np.float32), name="head_scale"
    )(features)
    if isinstance(head, heads.LogisticHead):
        arrays = [(head.arrays_["coef_"].T, head.arrays_["intercept_"])]
        activation, dropout, penalty = None, 0.0, None
    elif isinstance(head, heads.DenseHead):
        count = len(head.hidden) + 1
        arrays = [(head.arrays_[f"kernel_{i}_"], head.arrays_[f"bias_{i}_"]) for i in range(count)]
        activation, dropout = head.activation, head.dropout
        penalty = regularizers.L1L2(l1=head.l1, l2=head.l2) if head.l1 or head.l2 else None
    else:
        raise InputError(f"head: expected one of {', '.join(heads.HEADS)}, received {type(head).__name__}")
    for i, (kernel, bias) in enumerate(arrays):
        last = i == len(arrays) - 1
        if dropout and (i > 0 or last):
            x = layers.Dropout(dropout, seed=i, name=f"head_dropout_{i}")(x)
        dense = layers.Dense(
            len(bias), activation=None if last else activation, kernel_regularizer=penalty, name=f"head_dense_{i}"
        )
        x = dense(x)
        dense.set_weights([kernel, bias])
    if x.shape[1] != outputs(n_classes):
        raise ArtefactError(
            f"head: expected {outputs(n_classes)} logits for {n_classes} classes, received {x.shape[1]}"
        )
    return Model(features, x, name="head")


def updated_head(head: heads.Head, network: Any) -> heads.Head:
    """Write the weights of a network from `head_network` back into the head, and return it."""
    slots = {name: slot for name, slot in _layout_of(head).items() if slot.trainable}
    weights = network.get_weights()
    if isinstance(head, heads.LogisticHead):
        weights[0] = weights[0].T
    for (name, slot), weight in zip(slots.items(), weights, strict=True):
        head.arrays_[name] = np.ascontiguousarray(weight, dtype=slot.dtype)
    return head


def flat(trunk: Any) -> Any:
    """Append to a trunk a layer that makes its features one row, if they are not."""
    from keras import Model, layers

    if len(trunk.output.shape) == 2:
        return trunk
    return Model(trunk.input, layers.Flatten(name="features_flatten")(trunk.output), name=trunk.name)


def join(trunk: Any, head: Any) -> Any:
    """Join a trunk and a head into one network of plain layers.

    Parameters
    ----------
    trunk : keras.Model
        From `flat`: uint8 pixels (B, size, size, 3) to features (B, d).
    head : keras.Model
        From `head_network`.

    Returns
    -------
    keras.Model
        From pixels to probabilities, float32 (B, K). Its layers are those of trunk and head, not copies, and none is
        of a kind that Keras would not load in its safe mode.
    """
    from keras import Input, Model, layers

    _name_bare_operations(trunk)
    pixels = Input(trunk.input.shape[1:], dtype="uint8", name="pixels")
    logits = backbones.replayed(head, backbones.replayed(trunk, pixels))
    if logits.shape[1] > 1:
        probabilities = layers.Softmax(name="probabilities")(logits)
    else:
        other = layers.Activation("sigmoid", name="first")(layers.Rescaling(-1.0, name="odds_of_first")(logits))
        second = layers.Activation("sigmoid", name="second")(logits)
        probabilities = layers.Concatenate(name="probabilities")([other, second])
    return Model(pixels, probabilities, name="headstart")


def weighted_layers(network: Any) -> list[Any]:
    """List the layers of a network that have weights, from below, nested ones included."""
    return [step.operation for step in graph.steps(network) if getattr(step.operation, "weights", [])]


def save(
    directory: Path,
    network: Any,
    head: heads.Head,
    record: Mapping[str, Any],
    *,
    document: Mapping[str, Any],
    layers: Sequence[LayerState],
    history: Sequence[Mapping[str, float]],
) -> None:
    """Write a model. Equal models give equal bytes.

    Each file is written aside and renamed, ``model.json`` last: it holds the digests of the others, so that a reader
    notices when a run was killed between two of them.

    Parameters
    ----------
    directory : Path
        Made if it is missing; a model that stands there is replaced.
    network : keras.Model
        From `join`.
    head : Head
        Whose arrays are those of the network.
    record : mapping
        The head's record: ``classes``, ``spec``, …. If the network was fine-tuned (there is a history), the stored
        spec names its weights, so that the head takes features of no other.
    document : mapping
        What else ``model.json`` is to hold.
    layers : sequence of LayerState
    history : sequence of mapping
        A row an epoch.
    """
    (directory / MODEL_FILE).unlink(missing_ok=True)
    _write_weights(directory / WEIGHTS_FILE, network)
    files = [WEIGHTS_FILE, f"{HEAD_FOLDER}/{heads.HEAD_FILE}"]
    kept = dict(record)
    (directory / HISTORY_FILE).unlink(missing_ok=True)
    if history:
        kept["spec"] = kept["spec"] | {
            "weights": kept["spec"]["weights"] | {"finetuned": _sha256(directory / WEIGHTS_FILE)}
        }
        publish_csv(directory / HISTORY_FILE, list(history[0]), [list(row.values()) for row in history])
        files.append(HISTORY_FILE)
    heads.save(head, directory / HEAD_FOLDER, kept)
    described = dict(document) | {
        "format": FORMAT,
        "layers": [asdict(layer) for layer in layers],
        "files": {file: _sha256(directory / file) for file in files},
    }
    with published(directory / MODEL_FILE) as path:
        path.write_text(json.dumps(described, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def is_model(directory: Path) -> bool:
    """Whether a folder holds a model, and not a head alone."""
    return (directory / MODEL_FILE).is_file()


def load(directory: Path) -> Model:
    """Read a model back. Nothing in the files is executed, and nothing is used before it was checked.

    Parameters
    ----------
    directory : Path
        As written by `save`.

    Returns
    -------
    Model
        Its network gives the same probabilities as the one that was saved.

    Raises
    ------
    ArtefactError
        A file is missing, damaged, of another format, or does not fit the others; names it, expected and received.
    """
    document = _read_document(directory)
    head, record = heads.load(directory / HEAD_FOLDER)
    with computing_in("float32"):
        trunk = _rebuilt_trunk(directory, record["spec"])
        width = math.prod(trunk.output.shape[1:])
        if width != record["n_features"]:  # before anything of that width is made
            _refuse(directory / HEAD_FOLDER, f"a head for {width:,} features", f"one for {record['n_features']:,}")
        _read_weights(directory / WEIGHTS_FILE, trunk)
        network = join(flat(trunk), head_network(head, len(record["classes"])))
    history = _read_history(directory / HISTORY_FILE) if HISTORY_FILE in document["files"] else []
    return Model(network, record["classes"], record["spec"], history, document)


def _rebuilt_trunk(directory: Path, spec: Mapping[str, Any]) -> Any:
    """Build the trunk that a spec names, with weights that are yet to be read."""
    path = directory / HEAD_FOLDER / heads.HEAD_FILE
    try:
        backbone = backbones.find(spec["backbone"]["name"])
        size, alpha = spec["size"], float(spec["backbone"]["alpha"])
        if not isinstance(size, int) or not 1 <= size <= LARGEST_SIZE or not 0.0 < alpha <= 10.0:
            _refuse(path, f"a size up to {LARGEST_SIZE} px and a width multiplier", f"{size!r} and {alpha!r}")
        if spec["preprocessing"] != backbone.preprocessing:
            _refuse(path, f"preprocessing {backbone.preprocessing}", spec["preprocessing"])
        unread = backbones.Weights(path=None, sha256=None, seed=0)
        base = backbones.load(backbone, size=size, alpha=alpha, weights=unread)
        return backbones.trunk(backbone, base, cut=str(spec["cut"]), pooling=str(spec["pooling"]))
    except (KeyError, TypeError, AttributeError, ValueError, InputError) as error:
        raise ArtefactError(f"{path}: its spec does not say how the network is built: {error!r}") from error


def _name_bare_operations(trunk: Any) -> None:
    """Name what preprocessing and pooling are made of, whose automatic names depend on what the process built before.

    They could even be those of layers of the base.
    """
    for place, node in enumerate(graph.nodes(trunk)):
        if not node.is_input and not graph.is_nested(node.operation):
            node.operation.name = f"trunk_{place}_{type(node.operation).__name__.lower()}"


def _layout_of(head: heads.Head) -> dict[str, Any]:
    top = next(name for name in reversed(list(head.arrays_)) if name.startswith(("bias_", "intercept_")))
    logits = len(head.arrays_[top])
    return head.layout(len(head.arrays_["mean_"]), 2 if logits == 1 else logits)


def _arrays(network: Any) -> dict[str, Any]:
    """Name the variables of the layers below the head."""
    return {
        f"{layer.name}.{place}": variable
        for layer in weighted_layers(network)
        if not layer.name.startswith("head_dense_")
        for place, variable in enumerate(layer.weights)
    }


def _write_weights(path: Path, network: Any) -> None:
    with published(path) as temporary, hdf5.written(temporary) as (file, require_written):
        for name, variable in _arrays(network).items():
            array = np.atleast_1d(np.asarray(variable))
            hdf5.create(file, name, array.shape, array.dtype.name)[...] = array
            require_written()


def _read_weights(path: Path, network: Any) -> None:
    """Give the network the arrays of a file that may be hostile: exactly the expected ones, of the expected shapes."""
    expected = _arrays(network)
    with hdf5.open_to_read(path, "weights") as file:
        if set(file) != set(expected):
            odd = sorted(set(file) ^ set(expected))[:3]
            _refuse(path, f"{len(expected)} arrays", f"{len(file)}; not in both: {', '.join(odd)}")
        for name, variable in expected.items():
            shape = tuple(variable.shape) or (1,)
            stored = hdf5.dataset(file, name)
            if (stored.shape, stored.dtype.name) != (shape, variable.dtype):
                _refuse(path, f"{name} {shape} {variable.dtype}", f"{stored.shape} {stored.dtype}")
            array = hdf5.read(stored, 0, shape[0])
            if not np.isfinite(array).all():
                _refuse(path, f"{name} to be finite", "NaN or infinity")
            variable.assign(array.reshape(variable.shape))
    for layer in weighted_layers(network):
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()


def _refuse(path: Path, expected: str, received: object) -> NoReturn:
    text = received if isinstance(received, str) else repr(received)
    raise ArtefactError(f"{path}: expected {expected}, received {text[:200]}; run `headstart finetune` again")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        _refuse(path, "a file of a model", "none")


def _read_document(directory: Path) -> dict[str, Any]:
    path = directory / MODEL_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        _refuse(path, "a model", "no such file")
    except (ValueError, RecursionError) as error:
        _refuse(path, "JSON", str(error))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        _refuse(path, f"format {FORMAT}", document.get("format") if isinstance(document, dict) else document)
    files, always = document.get("files"), {WEIGHTS_FILE, f"{HEAD_FOLDER}/{heads.HEAD_FILE}"}
    if not isinstance(files, dict) or files.keys() not in (always, always | {HISTORY_FILE}):
        _refuse(path, f"files with the digests of {', '.join(sorted(always))}", files)
    for file, expected in files.items():
        received = _sha256(directory / file)
        if received != expected:
            _refuse(directory / file, f"sha256 {expected}, as {MODEL_FILE} says", received)
    return document


def _read_history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        if header not in heads.HISTORY_COLUMNS:
            _refuse(path, ",".join(heads.HISTORY_COLUMNS[-1]), ",".join(header))
        history = [
            {name: int(text) if name == "epoch" else float(text) for name, text in zip(header, row, strict=True)}
            for row in rows
        ]
    except (ValueError, csv.Error) as error:
        _refuse(path, "a row of numbers an epoch", str(error))
    if not all(math.isfinite(value) for row in history for value in row.values()):
        _refuse(path, "finite numbers", "NaN or infinity")
    return history
