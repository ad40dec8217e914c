"""The image networks of keras-hub, each written once as a graph, which the base ``onnx:FILE`` is ever after.

keras-hub needs the full TensorFlow, which must not stand beside the build of the extra ``cpu``: so it lives in an
environment of its own, and what it leaves behind is one file. A file says of itself how pixels enter
(`pipeline.backbones.graph_notes`). Its tensors ``block-0``, ``block-1`` and so on are what leaves the last block, the
one before it, and so on, and ``top`` is what leaves the network.
"""

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

from pipeline.backbones import graph_notes, onnx_file, without_telemetry
from pipeline.backbones.engines.graphs import GRAPH_IMAGES
from pipeline.backbones.engines.operations import TO_CHANNELS_FIRST, TO_CHANNELS_LAST
from pipeline.backbones.graph_notes import Notes
from pipeline.backbones.hub_families import family_of, tower_of
from pipeline.errors import InputError, WeightsError
from pipeline.storage.atomic import published
from pipeline.wording import one_line

OPSET: Final = 17
TOLERANCE: Final = 1e-3  # of the largest: what the graph may differ from keras-hub by
ENTERING: Final = "images"
TOP: Final = "top"
NEEDED: Final = (
    "keras-hub is not installed: expected the extra hub, in an environment of its own (python -m venv hub && "
    "hub/bin/pip install 'headstart[hub]'), whose command writes the graph that every other one runs"
)


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes
    ----------
    backbone : str
        The class of the network.
    size : int
        Height and width of its images, px.
    shapes : dict of str to tuple of int
        The tensors to cut at, from below, with the shape of one image's part.
    notes : Notes
        What the file says of its pixels.
    warnings : list of str
    """

    backbone: str
    size: int
    shapes: dict[str, tuple[int, ...]]
    notes: Notes
    warnings: list[str]


def convert(preset: str, path: Path, *, size: int | None = None) -> Converted:
    """Write the image network of a preset as a graph.

    Parameters
    ----------
    preset : str
        Whatever keras-hub takes: a name, the folder of a preset, ``hf://…`` or ``kaggle://…``, or a folder with a
        ``config.json`` and safetensors of timm or transformers that it converts.
    path : Path
        Of the ONNX file.
    size : int, optional
        Height and width of the images, px; the preset's own if None.

    Raises
    ------
    InputError
        keras-hub is not installed, or runs on something else than TensorFlow; it cannot load the preset; or the network
        is none of the table, or not one for images of that size.
    WeightsError
        The graph would have more than 2 GiB, or does not do what keras-hub does.
    """
    keras_hub = _keras_hub()
    network = _loaded(lambda: keras_hub.models.Backbone.from_preset(preset, dtype="float32"), preset)
    family = family_of(network)
    notes, preset_size = _notes(_converter(keras_hub, preset, network))
    fixed = _side(tower_of(network))
    size = size or (preset_size if family.any_size or not fixed else None) or fixed
    if not size:
        raise InputError.of("size", f"the side of the images in px, since {preset} does not say it", None)
    if fixed and size != fixed:
        if not family.any_size:
            raise InputError.of("size", f"{fixed}, for which {preset} was made", size)
        sides = (size, size, 3)
        network = _loaded(
            lambda: keras_hub.models.Backbone.from_preset(preset, dtype="float32", image_shape=sides), preset
        )
    tower = tower_of(network)
    images = np.random.default_rng(0).normal(size=(GRAPH_IMAGES, size, size, 3)).astype(np.float32)
    expected = {name: np.asarray(one) for name, one in _outputs(tower, family.blocks, images).items()}
    shapes = {name: one.shape[1:] for name, one in expected.items()}
    for name, shape in shapes.items():
        if family.before is not None and len(shape) == 2:
            _require_grid(name, shape[0], family.before(tower))
    model = _as_onnx(tower, family.blocks, size, family.images)
    source = f"{type(network).__name__} of keras-hub {keras_hub.__version__}"
    graph_notes.put(model, notes, source)
    try:
        data = model.SerializeToString(deterministic=True)
    except ValueError as error:
        raise WeightsError(
            f"{preset}: expected a network of at most {onnx_file.LARGEST:,} bytes, received more"
        ) from error
    _require_equal(data, images, expected)
    with published(path) as aside:
        aside.write_bytes(data)
    unsaid = "" if notes.scaling else f"{preset} does not say how pixels enter: `input_scale` must, with {path.name}"
    return Converted(type(network).__name__, size, shapes, notes, [one for one in (family.note, unsaid) if one])


def _keras_hub() -> Any:
    for logger in ("tf2onnx", "absl"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        import keras_hub
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise InputError(NEEDED) from error
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError(f"expected KERAS_BACKEND=tensorflow, received {keras.backend.backend()}")
    return keras_hub


def _loaded(load: Callable[[], Any], preset: str) -> Any:
    """Return what keras-hub loads; InputError with its own words where it cannot."""
    try:
        return load()
    except Exception as error:  # keras-hub, Kaggle and Hugging Face raise whatever they like
        raise InputError(
            f"{preset}: expected a preset that keras-hub can load, received {one_line(error)[:300]}"
        ) from error


def _side(tower: Any) -> int | None:
    """Return the size of the images that a network was built for; None if it takes any."""
    shape = next(iter(tower.input.values())).shape if isinstance(tower.input, dict) else tower.input.shape
    if shape[1] != shape[2]:
        raise InputError(f"expected a network for square images, received one for {shape[1]} x {shape[2]} px")
    return None if shape[1] is None else int(shape[1])


def _converter(keras_hub: Any, preset: str, network: Any) -> Any:
    """Return the preset's image converter; None if it has none."""
    kinds = [keras_hub.layers.ImageConverter, *keras_hub.layers.ImageConverter.__subclasses__()]
    if not any(isinstance(network, kind.backbone_cls) for kind in kinds if kind.backbone_cls):
        return None
    try:
        return keras_hub.layers.ImageConverter.from_preset(preset)
    except (FileNotFoundError, ValueError):
        return None


def _notes(converter: Any) -> tuple[Notes, int | None]:
    """Return an image converter in plain numbers, and its size."""
    if converter is None:
        return Notes(None, None, None), None
    return graph_notes.of_converter(converter.get_config())


def _outputs(tower: Any, blocks: str, images: Any) -> dict[str, Any]:
    """Call the network; return what leaves its blocks and itself, from below, by name."""
    name = next(iter(tower.input)) if isinstance(tower.input, dict) else None
    with _tapped(tower, blocks) as outputs:
        leaving = tower({name: images} if name else images, training=False)
    if isinstance(leaving, dict):  # HGNetV2's stages
        leaving = leaving[max(stage for stage in leaving if stage.startswith("stage"))]
    count = len(outputs)
    named = {f"block-{count - place}": one for place, one in enumerate(outputs, start=1) if one is not leaving}
    return named | {TOP: leaving}


@contextmanager
def _tapped(tower: Any, blocks: str) -> Iterator[list[Any]]:
    """Yield a list that receives what leaves the blocks, in the order in which they are called."""
    outputs: list[Any] = []

    def tapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*args: Any, **kwargs: Any) -> Any:
            leaving = call(*args, **kwargs)
            outputs.append(leaving[0] if isinstance(leaving, tuple) else leaving)
            return leaving

        return calling

    layers = [
        layer
        for layer in tower._flatten_layers(include_self=False)
        if re.fullmatch(blocks, f"{type(layer).__name__} {layer.name}")
    ]
    for layer in layers:
        layer.call = tapped(layer.call)
    try:
        yield outputs
    finally:
        for layer in layers:
            del layer.call


def _as_onnx(tower: Any, blocks: str, side: int, count: int | None) -> Any:
    """Return an onnx.ModelProto from images, channels first, to ``top``; maps are channels first, too."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    def named(images: Any) -> dict[str, Any]:
        return {name: tf.identity(one) for name, one in _outputs(tower, blocks, images).items()}

    signature = [tf.TensorSpec((count, side, side, 3), tf.float32, name=ENTERING)]
    traced = tf.function(named, input_signature=signature, autograph=False)
    # Within functions of their own Keras has convolutions compiled, of which a graph can hold nothing.
    plainly = mock.patch.object(tf, "function", lambda function=None, **_: function or (lambda one: one))
    with mock.patch.object(tf.nn, "gelu", _gelu(tf)), plainly:
        concrete = traced.get_concrete_function()
    maps = {way: [one.name for one in ends if len(one.shape) == 4] for way, ends in _ends(concrete)}
    with mock.patch("sys.stdout"):
        model, _ = tf2onnx.convert.from_function(traced, input_signature=signature, opset=OPSET, **maps)
    for ends, name in ((model.graph.input, ENTERING), (model.graph.output, TOP)):
        kept = [end for end in ends if end.name == name]  # others lead nowhere
        del ends[:]
        ends.extend(kept)
    known = {one.name for one in onnx.defs.get_all_schemas()}
    if unknown := sorted({node.op_type for node in model.graph.node} - known):
        raise WeightsError(f"expected operations of ONNX, received {', '.join(unknown)}")
    return model


def _ends(concrete: Any) -> Iterator[tuple[str, list[Any]]]:
    """Yield tf2onnx's words for what is to be channels first, and the tensors that may be."""
    yield "inputs_as_nchw", [one for one in concrete.inputs if one.dtype.is_floating]
    yield "outputs_as_nchw", concrete.outputs


def _require_grid(name: str, tokens: int, before: int) -> None:
    """Check that the patches are what is taken for them: the largest square of tokens at the end."""
    if math.isqrt(tokens) ** 2 != tokens - before:
        raise InputError(f"expected {before} tokens before a square of patches, received {tokens} tokens at {name}")


def _gelu(tf: Any) -> Callable[..., Any]:
    """Return GELU by the error function, since ONNX has not its complement, which TensorFlow takes."""
    plain = tf.nn.gelu

    def gelu(features: Any, approximate: bool = False, name: str | None = None) -> Any:
        if approximate:
            return plain(features, approximate=True, name=name)
        return 0.5 * features * (1.0 + tf.math.erf(features / math.sqrt(2.0)))

    return gelu


def _require_equal(data: bytes, images: Any, expected: Mapping[str, Any]) -> None:
    """Run the graph on the same images, and refuse one that computes something else than keras-hub."""
    core = without_telemetry.openvino().Core()
    model = core.read_model(data)
    model.add_outputs([name for name in expected if name != TOP])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for output, received in compiled(images.transpose(TO_CHANNELS_FIRST)).items():
        name = next(one for one in expected if one in output.get_names())
        received = received.transpose(TO_CHANNELS_LAST) if received.ndim == 4 else received
        difference = np.abs(received - expected[name]).max() / max(np.abs(expected[name]).max(), 1e-30)
        if not difference < TOLERANCE:
            raise WeightsError(
                f"the graph differs from keras-hub at {name} by {difference:.1e} of the largest number there: "
                f"expected at most {TOLERANCE:.0e}"
            )
