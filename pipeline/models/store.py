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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import cutting, table, tails, weights
from pipeline.backbones.weights import Weights
from pipeline.errors import ArtefactError, InputError
from pipeline.heads.activations import ACTIVATIONS
from pipeline.heads.calibration import calibrate, thresholds
from pipeline.heads.dense_layers import Stack
from pipeline.heads.standardise import outputs
from pipeline.heads.store import HEAD_FILE, HISTORY_COLUMNS
from pipeline.models.assemble import flat, head_network, join, weighted_layers
from pipeline.storage import hdf5
from pipeline.storage.atomic import publish_csv, published

FORMAT: Final = 1
MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "weights.h5"
HISTORY_FILE: Final = "history.csv"
LARGEST_SIDE: Final = 4096  # px: no backbone is meant for more, and a file that asks for more is not ours
LARGEST_WIDTH: Final = 2**24


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


@dataclass(frozen=True)
class Model:
    """A model that was read and checked, and whose network is yet to be built.

    Attributes
    ----------
    directory : Path
        Where it lies.
    classes : list of str
        In the order of the probabilities.
    threshold : dict or None
        For `thresholds.decide`.
    temperature : float
        By which the network divides its logits; 1 if the model was not calibrated.
    spec : dict
        How the pixels are made (``size``, ``resize``, decoder), and what the network was built from: that of the head,
        with ``finetuned`` in it if weights of the base changed.
    history : list of dict
        A row an epoch of fine-tuning.
    document : dict
        All of ``model.json``.
    identity : str
        sha256 of ``model.json``, which holds those of the other files.
    """

    directory: Path
    classes: list[str]
    threshold: dict[str, Any] | None
    temperature: float
    spec: dict[str, Any]
    history: list[dict[str, float]]
    document: dict[str, Any]
    identity: str

    @property
    def size(self) -> int:
        """Side of the input square, px."""
        return int(self.spec["size"])

    def network(self) -> Any:
        """Build the network and read its weights.

        Returns
        -------
        keras.Model
            From uint8 (B, size, size, 3), RGB, to calibrated probabilities float32 (B, K). Any engine of
            `pipeline.backbones.engines` runs it as it runs a trunk.

        Raises
        ------
        ArtefactError
            The weights are not those of the network that ``model.json`` describes.
        """
        trunk = self.trunk(pooling=None)
        width, expected = math.prod(trunk.output.shape[1:]), len(_empty_stack(self).mean)
        if width != expected:
            _refuse(self.directory / MODEL_FILE, f"a head for {width:,} features", f"one for {expected:,}")
        return join(flat(trunk), head_network(self.stack()), temperature=self.temperature)

    def trunk(self, *, pooling: str | None) -> Any:
        """Build what lies below the head and read its weights.

        Parameters
        ----------
        pooling : str or None
            In place of the model's own: ``none`` leaves the activations as they are. None keeps that of the model.

        Returns
        -------
        keras.Model
            From uint8 (B, size, size, 3), RGB, to float32 (B, …).

        Raises
        ------
        ArtefactError
            As for `network`.
        """
        trunk = _empty_trunk(self, pooling)
        with hdf5.open_to_read(self.directory / WEIGHTS_FILE, "weights") as file:
            _read_weights(file, _variables(trunk), beside=_arrays(_empty_stack(self)))
        for layer in weighted_layers(trunk):
            if type(layer).__name__ == "Normalization":
                layer.finalize_state()
        return trunk

    def stack(self) -> Stack:
        """Read the head. TensorFlow is not loaded.

        Raises
        ------
        ArtefactError
            As for `network`.
        """
        stack = _empty_stack(self)
        with hdf5.open_to_read(self.directory / WEIGHTS_FILE, "weights") as file:
            for name, array in _arrays(stack).items():
                array[:] = _array(file, name, array.shape, array.dtype.name)
        if stack.scale.min() <= 0:
            _refuse(self.directory / WEIGHTS_FILE, "head.scale above 0", str(stack.scale.min()))
        return stack


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Let probabilities in float32, as an engine gives them, of shape (n, K), add up to 1 in float64."""
    wide = rows.astype(np.float64)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))


def save(
    directory: Path,
    trunk: Any,
    head: Any,
    stack: Stack,
    *,
    classes: Sequence[str],
    threshold: Mapping[str, Any] | None,
    spec: Mapping[str, Any],
    new_conv: Sequence[int],
    layers: Sequence[LayerState],
    history: Sequence[Mapping[str, float]],
    made: Mapping[str, Any],
    calibration: Mapping[str, Any] | None = None,
) -> None:
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
    classes : sequence of str
    threshold : mapping or None
        As in the record of a head, if it holds for the probabilities of this network.
    spec : mapping
        Of the features that `trunk` gives, before any training.
    new_conv : sequence of int
        Widths of the fresh convolutions between the spec's cut and its pooling.
    layers : sequence of LayerState
    history : sequence of mapping
        A row an epoch. If there is one, the stored spec names the weights as fine-tuned.
    made : mapping
        What else ``model.json`` is to say of how it was made, as JSON.
    calibration : mapping or None
        As in the record of a head, for the logits of `head`.
    """
    (directory / MODEL_FILE).unlink(missing_ok=True)
    _write_weights(directory / WEIGHTS_FILE, trunk, head, stack)
    (directory / HISTORY_FILE).unlink(missing_ok=True)
    files = [WEIGHTS_FILE]
    kept = dict(spec)
    if history:
        kept["weights"] = dict(kept["weights"]) | {"finetuned": _sha256(directory / WEIGHTS_FILE)}
        publish_csv(directory / HISTORY_FILE, list(history[0]), [list(row.values()) for row in history])
        files.append(HISTORY_FILE)
    described = {
        "format": FORMAT,
        "classes": list(classes),
        "threshold": dict(threshold) if threshold else None,
        "calibration": dict(calibration) if calibration else None,
        "spec": kept,
        "new_conv": list(new_conv),
        "head": {
            "n_features": len(stack.mean),
            "widths": stack.widths,
            "activation": stack.activation,
            "dropout": stack.dropout,
            "l1": stack.l1,
            "l2": stack.l2,
        },
        "made": dict(made),
        "layers": [asdict(layer) for layer in layers],
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
        _refuse(path, "a model", "no such file")
    except (ValueError, RecursionError) as error:
        _refuse(path, "JSON", str(error))
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        _refuse(path, f"format {FORMAT}", document.get("format") if isinstance(document, dict) else document)
    classes, spec = document.get("classes"), document.get("spec")
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(label, str) for label in classes):
        _refuse(path, "classes: two labels or more", classes)
    if not isinstance(spec, dict) or not isinstance(spec.get("size"), int) or not 1 <= spec["size"] <= LARGEST_SIDE:
        _refuse(path, f"a spec with a size up to {LARGEST_SIDE} px", spec)
    files = document.get("files")
    if not isinstance(files, dict) or files.keys() not in ({WEIGHTS_FILE}, {WEIGHTS_FILE, HISTORY_FILE}):
        _refuse(path, f"files with the digest of {WEIGHTS_FILE} and perhaps of {HISTORY_FILE}", files)
    for file, expected in files.items():
        received = _sha256(directory / file)
        if received != expected:
            _refuse(directory / file, f"sha256 {expected}, as {MODEL_FILE} says", received)
    history = _read_history(directory / HISTORY_FILE) if HISTORY_FILE in files else []
    threshold, temperature = thresholds.of_record(document, directory), calibrate.of_record(document, directory)
    return Model(directory, classes, threshold, temperature, spec, history, document, hashlib.sha256(data).hexdigest())


def _empty_trunk(model: Model, pooling: str | None) -> Any:
    """Build the trunk that a model's spec names, perhaps with another pooling, with weights that are yet to be read."""
    path, spec = model.directory / MODEL_FILE, model.spec
    try:
        backbone = table.find(spec["backbone"]["name"])
        alpha, widths = float(spec["backbone"]["alpha"]), model.document["new_conv"]
        if not 0.0 < alpha <= 10.0 or not all(
            isinstance(width, int) and 0 < width <= LARGEST_WIDTH for width in widths
        ):
            _refuse(path, "a width multiplier and widths of convolutions", f"{alpha!r} and {widths!r}")
        if spec["preprocessing"] != backbone.preprocessing:
            _refuse(path, f"preprocessing {backbone.preprocessing}", spec["preprocessing"])
        unread = Weights(path=None, sha256=None, seed=0)
        base = weights.load(backbone, size=model.size, alpha=alpha, weights=unread)
        build = {"cut": str(spec["cut"]), "pooling": pooling or str(spec["pooling"])}
        if widths:
            return tails.topped(backbone, base, **build, widths=widths, seed=0)
        return cutting.trunk(backbone, base, **build)
    except (KeyError, TypeError, AttributeError, ValueError, InputError) as error:
        raise ArtefactError(f"{path}: it does not say how the network is built: {error!r}") from error


def _empty_stack(model: Model) -> Stack:
    """Return the head that a model describes, filled with zeros."""
    path, head = model.directory / MODEL_FILE, model.document.get("head")
    expected = "a head with n_features, widths, activation, dropout, l1 and l2"
    try:
        sizes = [head["n_features"], *head["widths"]]  # type: ignore[index]
        sound = all(type(width) is int and 0 < width <= LARGEST_WIDTH for width in sizes)
        dropout, l1, l2 = (float(head[name]) for name in ("dropout", "l1", "l2"))  # type: ignore[index]
        sound = sound and 0.0 <= dropout < 1.0 and 0.0 <= l1 < math.inf and 0.0 <= l2 < math.inf
        activation = head["activation"]  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        _refuse(path, expected, head)
    if not sound or activation not in {"linear", *ACTIVATIONS}:
        _refuse(path, expected, head)
    inputs, *widths = sizes
    if not widths or widths[-1] != outputs(len(model.classes)):
        _refuse(path, f"a head with {outputs(len(model.classes))} logits for {len(model.classes)} classes", head)
    return Stack(
        mean=np.zeros(inputs),
        scale=np.ones(inputs),
        kernels=[np.zeros(shape, np.float32) for shape in zip([inputs, *widths], widths, strict=False)],
        biases=[np.zeros(width, np.float32) for width in widths],
        activation=activation,
        dropout=dropout,
        l1=l1,
        l2=l2,
    )


def _arrays(stack: Stack) -> dict[str, NDArray[Any]]:
    """Name the arrays of a head as in a file of weights, where its layers are those of `head_network`."""
    named: dict[str, NDArray[Any]] = {"head.mean": stack.mean, "head.scale": stack.scale}
    for place, (kernel, bias) in enumerate(zip(stack.kernels, stack.biases, strict=True)):
        named |= {f"head_dense_{place}.0": kernel, f"head_dense_{place}.1": bias}
    return named


def _variables(*networks: Any) -> dict[str, Any]:
    """Name the variables of all layers."""
    return {
        f"{layer.name}.{place}": variable
        for network in networks
        for layer in weighted_layers(network)
        for place, variable in enumerate(layer.weights)
    }


def _write_weights(path: Path, trunk: Any, head: Any, stack: Stack) -> None:
    arrays = {"head.mean": stack.mean, "head.scale": stack.scale, **_variables(trunk, head)}
    with published(path) as temporary, hdf5.written(temporary) as (file, require_written):
        for name, variable in arrays.items():
            array = np.atleast_1d(np.asarray(variable))
            hdf5.create(file, name, array.shape, array.dtype.name)[...] = array
            require_written()


def _read_weights(file: Any, expected: Mapping[str, Any], *, beside: Iterable[str]) -> None:
    """Give variables the arrays of a file that may be hostile: exactly the expected ones, of the expected shapes.

    `beside` names the arrays that the file holds for others.
    """
    names = {*expected, *beside}
    odd = sorted(set(file) ^ names)
    if odd:
        _refuse(Path(file.filename), f"{len(names)} arrays", f"{len(file)}; not in both: {', '.join(odd[:3])}")
    for name, variable in expected.items():
        variable.assign(_array(file, name, tuple(variable.shape), variable.dtype))


def _array(file: Any, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    path = Path(file.filename)
    stored = hdf5.dataset(file, name)
    if (stored.shape, stored.dtype.name) != (shape or (1,), dtype):
        _refuse(path, f"{name} {shape} {dtype}", f"{stored.shape} {stored.dtype}")
    array = hdf5.read(stored, 0, stored.shape[0])
    if not np.isfinite(array).all():
        _refuse(path, f"{name} to be finite", "NaN or infinity")
    return array.reshape(shape)


def _refuse(path: Path, expected: str, received: object) -> NoReturn:
    text = received if isinstance(received, str) else repr(received)
    raise ArtefactError(f"{path}: expected {expected}, received {text[:200]}; run `headstart finetune` again")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        _refuse(path, "a file of a model", "none")


def _read_history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        if header not in HISTORY_COLUMNS:
            _refuse(path, ",".join(HISTORY_COLUMNS[-1]), ",".join(header))
        history = [
            {name: int(text) if name == "epoch" else float(text) for name, text in zip(header, row, strict=True)}
            for row in rows
        ]
    except (ValueError, csv.Error) as error:
        _refuse(path, "a row of numbers an epoch", str(error))
    if not all(math.isfinite(value) for row in history for value in row.values()):
        _refuse(path, "finite numbers", "NaN or infinity")
    return history
