"""Build a base whose layers' names and random weights depend on nothing that the process built before."""

import contextlib
import logging
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from numpy.typing import NDArray

from pipeline.backbones import layer_graph
from pipeline.backbones.backbone import Backbone
from pipeline.errors import CutError, InputError
from pipeline.wording import one_line

LOG: Final = logging.getLogger(__name__)


def build(
    backbone: Backbone,
    *,
    size: int,
    alpha: float,
    seed: int,
    top: bool = False,
    listed: bool = False,
    empty: bool = False,
) -> Any:
    """Build a base with random weights, or list its layers.

    Parameters
    ----------
    backbone : Backbone
    size : int
        Height and width of the images, px.
    alpha : float
        Width multiplier; 1 for a backbone that has none.
    seed : int
        Of the random weights.
    top : bool
        Whether ImageNet's classifier stands on it.
    listed : bool
        Whether a list of its layers will do, without weights.
    empty : bool
        Whether weights with names and shapes will do, without numbers. To draw these takes most of time and memory.

    Returns
    -------
    keras.Model or Network
        From (B, size, size, 3), preprocessed, to (B, H, W, C), or (B, 1000) if `top`. The same arguments give the
        same names and the same weights. A Network if that will do and the backbone lists its layers.

    Raises
    ------
    InputError
        If the network cannot be built at that size or width.
    """
    check_alpha(backbone, alpha)
    if listed and backbone.layers:
        return backbone.network(size=size, top=top)
    LOG.info("%s: built by Keras, whose import and TensorFlow's take seconds", backbone.name)
    import keras  # noqa: F401 -- before the seed: its import draws from Python's generator, too

    # Each of Keras' initialisers draws its own seed from Python's generator at the moment the layer is made, and from
    # nowhere else. So seeding that generator fixes all weights; its state is put back for the caller.
    state = random.getstate()
    random.seed(seed)
    try:
        with without_weights() if empty else contextlib.nullcontext():
            base = backbone.build(size=size, alpha=alpha, weights=None, top=top)
    except ValueError as error:
        raise InputError(
            f"{backbone.name}: cannot be built at size={size}, alpha={alpha:g}: {one_line(error)}"
        ) from error
    finally:
        random.setstate(state)
    name_layers(base)
    return base


def undrawn() -> contextlib.AbstractContextManager[Any]:
    """Let networks of Keras be built without weights, which they get at the end: random ones, or as in `begin_with`.

    To draw numbers that a file replaces takes as long as to build all else.
    """
    import keras

    return keras.StatelessScope()  # type: ignore[no-any-return]


def begin_with(layer: Any, values: Sequence[NDArray[Any]]) -> None:
    """Choose the weights that a layer of Keras, built within `undrawn`, has after it."""
    for variable, value in zip(layer.weights, values, strict=True):
        variable._initializer = partial(_constant, value)


def _constant(value: NDArray[Any], shape: Sequence[int], dtype: str) -> Any:
    from keras import ops

    return ops.convert_to_tensor(value, dtype)


@contextlib.contextmanager
def without_weights() -> Iterator[None]:
    """Networks of Keras that are built here have layers, shapes and names, and no number in their weights."""
    from keras import StatelessScope
    from keras.src.backend.common import global_state

    with StatelessScope(initialize_variables=False):
        yield
    global_state.set_global_attribute("uninitialized_variables", [])  # or Keras would draw them at the next such scope


def layer_at(backbone: Backbone, index: int) -> str:
    """Name the layer at a place of Keras' ``base.layers``, from 0; CutError if there is none.

    Of a nested model it is its last one's name.
    """
    layers = build(backbone, size=backbone.size, alpha=1.0, seed=0, listed=True, empty=True).layers
    if index >= len(layers):
        raise CutError.of("cut", f"an index from 0 to {len(layers) - 1}, as `hs.backbones` lists them", index)
    layer = layers[index]
    while layer_graph.is_nested(layer):
        layer = layer_graph.functional(layer).layers[-1]
    return str(layer.name)


def check_alpha(backbone: Backbone, alpha: float) -> None:
    """Raise InputError unless the backbone can have this width multiplier."""
    if not backbone.alphas and alpha != 1.0:
        raise InputError.of("alpha", f"1, since {backbone.name} has no width multiplier", f"{alpha:g}")
    if alpha <= 0.0:
        raise InputError.of("alpha", "a positive width multiplier", f"{alpha:g}")


def name_layers(base: Any) -> None:
    """Count automatic layer names from the start of this network, as in a fresh process.

    Keras counts them through the life of the process: the second InceptionV3 begins with ``conv2d_94``. Names serve
    as cuts, so they must not depend on what was built before. Numbers follow the order of creation. The names that a
    builder gave are left alone.
    """
    numbered: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for step in layer_graph.steps(base):
        prefix = snake_case(layer_graph.kind(step.operation))
        number = automatic_number(step.name, prefix)
        if number is not None:
            numbered[prefix].append((number, step.operation))
    for prefix, operations in numbered.items():
        ranked = sorted(operations, key=lambda pair: pair[0])
        for rank, (_, operation) in enumerate(ranked):
            operation.name = f"{prefix}_{rank}" if rank else prefix


def automatic_number(name: str, prefix: str) -> int | None:
    """Return the number in an automatic name, ``conv2d`` being 0 and ``conv2d_7`` 7; None for any other name."""
    match = re.fullmatch(rf"{re.escape(prefix)}(?:_(\d+))?", name)
    return int(match[1] or 0) if match else None


def snake_case(name: str) -> str:
    """Turn a class name into the prefix of its layers' automatic names, as Keras does (``ReLU`` becomes ``re_lu``)."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
