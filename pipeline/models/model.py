"""A model that was read: its network, its trunk and its head, built when they are asked for."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import builder, cutting, table, tails
from pipeline.backbones.backbone import IMAGE, Backbone
from pipeline.backbones.engines import operations
from pipeline.backbones.engines.onnx_operations import OnnxOperations
from pipeline.backbones.network import Network
from pipeline.backbones.scaling import Scaling
from pipeline.errors import ArtefactError, InputError
from pipeline.features.resolve import TRUNK
from pipeline.heads.activations import ACTIVATIONS
from pipeline.heads.dense_layers import Stack
from pipeline.heads.standardise import outputs
from pipeline.heads.store import JUDGED
from pipeline.models import graph, training_history
from pipeline.models.assemble import flat, head_network, join, weighted_layers
from pipeline.storage import hdf5
from pipeline.storage.atomic import published
from pipeline.storage.json_files import (
    DIGESTS,
    LABELS,
    OBJECT,
    Document,
    each,
    maybe,
    number,
    object_of,
    one_of,
    whole,
)

MODEL_FILE: Final = "model.json"
WEIGHTS_FILE: Final = "weights.h5"
LARGEST_WIDTH: Final = 2**24
WIDTH: Final = whole(1, LARGEST_WIDTH)
MODEL: Final = Document(
    "a model",
    "`hs.finetune`",
    {
        "classes": LABELS,
        "spec": object_of(**TRUNK),
        "new_conv": each(WIDTH),
        "head": object_of(
            n_features=WIDTH,
            widths=each(WIDTH, least=1),
            activation=one_of("linear", *ACTIVATIONS),
            dropout=number(0, math.nextafter(1, 0)),
            l1=number(0),
            l2=number(0),
        ),
        "made": object_of(finetuning=maybe(OBJECT), **training_history.MADE),
        **JUDGED,
        "files": DIGESTS,
    },
    version=1,
    sealed=True,
)


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
    def joined_from(self) -> str | None:
        """sha256 of the ``head.json`` of which it is, joined to its base; None if training changed it."""
        made = self.document.get("made", {})
        return made.get("head") if made.get("best_epoch") == 0 else None

    @property
    def started_from(self) -> str | None:
        """sha256 of the ``head.json`` that training began with; None if the model is that head."""
        return None if self.joined_from else self.document.get("made", {}).get("head")

    @property
    def trained_above(self) -> str | None:
        """The cut above which training changed it; None if it changed nothing, or all."""
        tuning = self.document.get("made", {}).get("finetuning") if self.started_from else None
        cut = (tuning or {}).get("cut")
        return cut if isinstance(cut, str) and not cut.isdecimal() and cut not in ("image", IMAGE) else None

    @property
    def size(self) -> int:
        """Side of the input square, px."""
        return int(self.spec["size"])

    @property
    def is_listed(self) -> bool:
        """Whether `in_onnx` can write it, without Keras: its base lists its layers."""
        return bool(table.find(self.spec["backbone"]["name"]).layers)

    def in_onnx(self, ops: OnnxOperations, squares: Any) -> Any:
        """Write what lies below the head: from squares, float32 (n, 3, size, size) in 0…255, to features (n, …)."""
        backbone, below = self._below(None, listed=True)
        (rows,) = operations.computed(ops, backbone, below, [(below.layers[-1].name, self.spec["pooling"])], squares)
        return rows

    def network(self, *, above: str | None = None, listed: bool = False) -> Any:
        """Build the network and read its weights.

        Parameters
        ----------
        above : str, optional
            A layer: only what lies above it is wanted.
        listed : bool
            Whether a graph of OpenVINO will do: it is one if the base lists its layers, and needs no Keras.

        Returns
        -------
        keras.Model or openvino.Model
            From uint8 (B, size, size, 3), RGB, or from the activations at that layer, float32 (B, …), to calibrated
            probabilities float32 (B, K). Any engine of `pipeline.backbones.engines` runs it as it runs a trunk.

        Raises
        ------
        ArtefactError
            The weights are not those of the network that ``model.json`` describes.
        """
        backbone, below = self._below(None, listed)
        if isinstance(below, Network):
            cuts = [(below.layers[-1].name, self.spec["pooling"])]
            entering, (features,) = operations.features(backbone, below, cuts, above=above)
        width = math.prod((features if isinstance(below, Network) else below.output).shape[1:])
        if width != (expected := len(_empty_stack(self).mean)):
            MODEL.refuse(self.directory / MODEL_FILE, f"a head for {width:,} features", f"one for {expected:,}")
        if isinstance(below, Network):
            return graph.joined(entering, features, self.stack(), temperature=self.temperature)
        whole = flat(below)
        if above is not None:
            whole = tails.tail(backbone, whole, cut=above)
        return join(whole, head_network(self.stack()), temperature=self.temperature)

    def trunk(self, *, pooling: str | None, listed: bool = False) -> Any:
        """Build what lies below the head and read its weights; errors, and `listed`, as for `network`.

        `pooling` stands in place of the model's own: ``none`` leaves the activations as they are, None keeps it. The
        network, a keras.Model or openvino.Model, goes from uint8 (B, size, size, 3), RGB, to float32 (B, …).
        """
        backbone, below = self._below(pooling, listed)
        if isinstance(below, Network):
            return cutting.trunk(backbone, below, cut=below.layers[-1].name, pooling=pooling or self.spec["pooling"])
        return below

    def _below(self, pooling: str | None, listed: bool) -> tuple[Backbone, Any]:
        """Read what lies below the head: a trunk of Keras; or, where a list will do, the Network below the pooling."""
        backbone, below = _empty(self, pooling, listed)
        with hdf5.open_to_read(self.directory / WEIGHTS_FILE, "weights") as file:
            _read_weights(file, _variables(below), beside=_arrays(_empty_stack(self)))
        for layer in weighted_layers(below):
            if type(layer).__name__ == "Normalization":
                layer.finalize_state()
        return backbone, below

    def stack(self) -> Stack:
        """Read the head, without TensorFlow; errors as for `network`."""
        stack = _empty_stack(self)
        with hdf5.open_to_read(self.directory / WEIGHTS_FILE, "weights") as file:
            for name, array in _arrays(stack).items():
                array[:] = _array(file, name, array.shape, array.dtype.name)
        if stack.scale.min() <= 0:
            MODEL.refuse(self.directory / WEIGHTS_FILE, "head.scale above 0", str(stack.scale.min()))
        return stack


def _empty(model: Model, pooling: str | None, listed: bool) -> tuple[Backbone, Any]:
    """Build what a model's spec names, perhaps with another pooling, with weights that are yet to be read."""
    path, spec = model.directory / MODEL_FILE, model.spec
    alpha, widths = spec["backbone"]["alpha"], model.document["new_conv"]
    try:
        backbone = table.find(spec["backbone"]["name"])
        if scaling := Scaling.of_spec(spec["preprocessing"]):
            backbone = replace(backbone, preprocessing=scaling)
        elif spec["preprocessing"] != backbone.preprocessing:
            MODEL.refuse(path, f"preprocessing {backbone.preprocessing}", spec["preprocessing"])
        base = builder.build(backbone, size=model.size, alpha=alpha, seed=0, listed=listed)
        if isinstance(base, Network):
            cut = cutting.checked_cut(base, backbone.cuts.get(spec["cut"], spec["cut"]))
            return backbone, tails.grown(base.up_to(cut), widths)
        build = {"cut": spec["cut"], "pooling": pooling or spec["pooling"]}
        if widths:
            return backbone, tails.topped(backbone, base, **build, widths=widths, seed=0)
        return backbone, cutting.trunk(backbone, base, **build)
    except (ValueError, InputError) as error:
        raise ArtefactError(f"{path}: it does not say how the network is built: {error}") from error


def _empty_stack(model: Model) -> Stack:
    """Return the head that a model describes, filled with zeros."""
    path, head = model.directory / MODEL_FILE, model.document["head"]
    inputs, widths = head["n_features"], head["widths"]
    if widths[-1] != outputs(len(model.classes)):
        MODEL.refuse(path, f"a head with {outputs(len(model.classes))} logits for {len(model.classes)} classes", head)
    return Stack(
        mean=np.zeros(inputs),
        scale=np.ones(inputs),
        kernels=[np.zeros(shape, np.float32) for shape in zip([inputs, *widths], widths, strict=False)],
        biases=[np.zeros(width, np.float32) for width in widths],
        **{name: head[name] for name in ("activation", "dropout", "l1", "l2")},
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


def write_weights(path: Path, trunk: Any, head: Any, stack: Stack) -> None:
    """Write the arrays of all layers."""
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
        MODEL.refuse(Path(file.filename), f"{len(names)} arrays", f"{len(file)}; not in both: {', '.join(odd[:3])}")
    for name, variable in expected.items():
        variable.assign(_array(file, name, tuple(variable.shape), variable.dtype))


def _array(file: Any, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    path = Path(file.filename)
    stored = hdf5.dataset(file, name)
    if (stored.shape, stored.dtype.name) != (shape or (1,), dtype):
        MODEL.refuse(path, f"{name} {shape} {dtype}", f"{stored.shape} {stored.dtype}")
    array = hdf5.read(stored, 0, stored.shape[0])
    if not np.isfinite(array).all():
        MODEL.refuse(path, f"{name} to be finite", "NaN or infinity")
    return array.reshape(shape)
