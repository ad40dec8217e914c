"""A deterministic stand-in for the forward pass that counts what it is asked, and photos to ask it about."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.backbones import builder, layer_graph
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.network import Layer, Network
from pipeline.backbones.table import BACKBONES
from pipeline.features import features_file, resolve
from pipeline.features.file_layout import Views
from pipeline.features.settings import ExtractSettings
from pipeline.photos.settings import Policy

NO_POLICY = Policy()


class CountingEngine:
    """Features are the means of the image's quadrants, so that each can be recomputed from the pixels alone."""

    row_shape = (12,)

    def __init__(self) -> None:
        self.batches: list[int] = []

    @property
    def images(self) -> int:
        return sum(self.batches)

    def run(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            self.batches.append(len(batch))
            yield quadrant_means(batch)


def quadrant_means(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    half = batch.shape[1] // 2
    count = len(batch)
    quadrants = batch.astype(np.float32).reshape(count, 2, half, 2, half, 3)
    return quadrants.mean(axis=(2, 4)).reshape(count, 12)


def settings(**changes: object) -> ExtractSettings:
    chosen: dict[str, object] = {
        "backbone": "mobilenet_v2",
        "alpha": 1.0,
        "weights": "none",
        "weights_seed": 0,
        "size": 32,
        "resize": "squash",
        "engine": "tensorflow",
        "cut": "top",
        "pooling": "avg",
        "precision": "float32",
        "dtype": "auto",
    }
    return ExtractSettings(**{**chosen, **changes})  # type: ignore[arg-type]


def write_views(
    path: Path,
    digests: NDArray[np.uint8],
    rows: NDArray[np.floating[Any]],
    *,
    spec: str,
    described: dict[str, Any],
    of: Any = slice(None),
) -> None:
    """Features (n, views, …); of those images `of` all views."""
    views = Views(json.dumps({"count": rows.shape[1], **described}), digests[of], [rows[of][:, 1:]])
    blocks, shape = [rows[:, 0]], rows.shape[2:]
    features_file.write(
        path, spec=spec, digests=digests, row_shape=shape, dtype=str(rows.dtype), blocks=blocks, views=views
    )


def plan(**changes: object) -> resolve.Plan:
    return resolve.plan(settings(**changes))


def write_photo(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> Path:
    """A PNG of smooth noise; another seed gives other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def write_classes(root: Path, counts: dict[str, int]) -> Path:
    """Folders of photos whose class shows in their brightness: the first class is the darkest."""
    for place, (label, count) in enumerate(counts.items()):
        for number in range(count):
            path = root / label / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw = np.random.default_rng((place, number))
            level = 40 + 170 * place / max(1, len(counts) - 1)
            coarse = np.clip(draw.normal(level, 25, (4, 4, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(coarse).resize((40, 30), Image.Resampling.BICUBIC).save(path)
    return root


TINY = Backbone(
    name="tiny",
    builder="tests.fakes:tiny_base",
    preprocessing="tests.fakes:halve",
    size=32,
    width=16,
    parameters=2384,
    weights_template="none",
    cuts={
        "image": "input_layer",
        "block-3": "stem_relu",
        "block-2": "block1_add",
        "block-1": "block2_add",
        "top": "top_relu",
    },
    alphas=(),
    sizes=(),
)


def register_tiny() -> None:
    """Put a base into the table that builds and trains in no time: three residual blocks of eight channels."""
    BACKBONES[TINY.name] = TINY  # type: ignore[index]


def halve(pixels: Any) -> Any:
    return pixels / 127.5 - 1.0


def tiny_base(*, include_top: bool, weights: None, input_shape: tuple[int, int, int]) -> Any:
    from keras import Input, Model, layers

    def convolved(x: Any, name: str, width: int, side: int, strides: int = 1) -> Any:
        x = layers.Conv2D(width, side, strides=strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))

    inputs = Input(input_shape)
    x = convolved(inputs, "stem", 8, 3, strides=4)
    for number in (1, 2, 3):
        x = layers.Add(name=f"block{number}_add")([x, convolved(x, f"block{number}", 8, 3)])
    return Model(inputs, convolved(x, "top", 16, 1), name="tiny")


def tiny_network(*, include_top: bool, input_shape: tuple[int, int, int]) -> Network:
    """The same as a list."""
    network = Network.of_images("tiny", input_shape, entering="input_layer")

    def convolved(name: str, width: int, side: int, strides: int = 1) -> Layer:
        window = {"filters": width, "kernel_size": side, "strides": strides, "padding": "same", "use_bias": False}
        network.add("Conv2D", f"{name}_conv", **window)
        network.add("BatchNormalization", f"{name}_bn", epsilon=1e-3)
        return network.add("ReLU", f"{name}_relu", max_value=1e30)

    x = convolved("stem", 8, 3, strides=4)
    for number in (1, 2, 3):
        x = network.add("Add", f"block{number}_add", x, convolved(f"block{number}", 8, 3))
    convolved("top", 16, 1)
    return network


def shrinking_base(*, include_top: bool, weights: None, input_shape: tuple[int, int, int]) -> Any:
    """The same with a layer on top that converters do not know."""
    from keras import Model, layers

    base = tiny_base(include_top=include_top, weights=weights, input_shape=input_shape)
    return Model(base.input, layers.Resizing(1, 1, antialias=True, name="shrink")(base.output), name="shrinking")


def quickly_drawn(build: Callable[[], Any]) -> Any:
    """A network of Keras with weights that let it compute; its own initialisers take longer than all the rest."""
    draw = np.random.default_rng(0)

    def drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if len(shape) > 1:
            entering = np.prod(
                shape[:-1] if shape[-1] > 1 else shape[:-2]
            )  # a kernel of one channel has its depth first
            return draw.standard_normal(shape, np.float32) * np.float32((2 / entering) ** 0.5)
        return np.full(shape, name.endswith(("gamma", "variance")), np.float32)

    return filled(build, drawn)


def filled(build: Callable[[], Any], values: Callable[[str, tuple[int, ...]], NDArray[Any]]) -> Any:
    """A network of Keras with such values in its weights, told by their names and shapes."""
    with builder.undrawn():
        network = build()
        for layer in layer_graph.leaves(network):
            builder.begin_with(layer, [values(one.name, tuple(one.shape)) for one in layer.weights])
    return network
