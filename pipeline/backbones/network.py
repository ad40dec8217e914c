"""A network as a list of its layers with their arrays, from which Keras or OpenVINO build what runs.

What is told of a Keras model without running it (names, kinds, shapes, where it can be cut, which array of a file is
whose) is told of a `Network`, too: layers and arrays answer to the names that Keras gave these things.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int | None, ...]


class Variable:
    """One array of a layer, float32, yet to be given.

    Attributes
    ----------
    name : str
        As Keras names it: ``kernel``, ``bias``, ``gamma``, ….
    shape : tuple of int
    trainable : bool
        Moving statistics are not.
    """

    dtype = "float32"

    def __init__(self, name: str, shape: Sequence[int]) -> None:
        self.name, self.shape, self.trainable = name, tuple(shape), not name.startswith("moving_")
        self._value: NDArray[np.float32] | None = None

    def assign(self, value: NDArray[Any]) -> None:
        """Take an array of this shape; ValueError for another."""
        if value.shape != self.shape:
            raise ValueError(f"{self.name}: expected shape {self.shape}, received {value.shape}")
        self._value = np.asarray(value, np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self._value is None:
            raise ValueError(f"{self.name}: expected an array, received none yet")
        return np.array(self._value, dtype or np.float32)


class Layer:
    """One layer, which stands for what leaves it.

    Attributes
    ----------
    name, kind : str
        Its name and Keras' class.
    options : mapping
        What Keras' class takes, but for the name.
    inputs : tuple of Layer
    shape : tuple of (int or None)
        Of its output, channels last, the batch (None) first.
    weights : list of Variable
        In Keras' order.
    trainable : bool
    """

    def __init__(self, name: str, kind: str, options: Mapping[str, Any], inputs: tuple["Layer", ...]) -> None:
        self.name, self.kind, self.options, self.inputs = name, kind, options, inputs
        entering = inputs[0].shape if inputs else (None,)
        self.shape: Shape = SHAPES.get(kind, _same)(entering, options)
        self.weights = [Variable(part, shape) for part, shape in _arrays(kind, entering[-1] or 0, options)]
        self.trainable = True

    @property
    def trainable_weights(self) -> list[Variable]:
        """Those that training changes."""
        return [variable for variable in self.weights if variable.trainable and self.trainable]

    def set_weights(self, values: Sequence[NDArray[Any]]) -> None:
        """Give each variable its array."""
        for variable, value in zip(self.weights, values, strict=True):
            variable.assign(value)


class Network:
    """Layers, each after those it depends on: the first is the input, the last the output.

    Parameters
    ----------
    name : str
    layers : sequence of Layer
    """

    def __init__(self, name: str, layers: Sequence[Layer]) -> None:
        self.name, self.layers = name, list(layers)

    @classmethod
    def of_images(cls, name: str, shape: tuple[int, int, int], *, entering: str) -> Self:
        """Begin a network with an input of height, width and channels."""
        return cls(name, [Layer(entering, "InputLayer", {"shape": shape}, ())])

    def add(self, kind: str, name: str, *inputs: Layer, **options: Any) -> Layer:
        """Append a layer on others; on the last one, if none are given."""
        self.layers.append(Layer(name, kind, options, inputs or (self.layers[-1],)))
        return self.layers[-1]

    @property
    def weights(self) -> list[Variable]:
        """Those of all layers."""
        return [variable for layer in self.layers for variable in layer.weights]

    def up_to(self, name: str) -> "Network":
        """Return the network that ends at a layer through which all data passes; the layers are these."""
        names = [layer.name for layer in self.layers]
        return Network(self.name, self.layers[: 1 + names.index(name)])

    def in_keras(self) -> Any:
        """Build it out of Keras' layers, with random weights: a keras.Model. Its input gets an automatic name."""
        from keras import Input, Model, layers

        made: dict[str, Any] = {}
        for layer in self.layers:
            entering = [made[source.name] for source in layer.inputs]
            if not entering:
                made[layer.name] = Input(**layer.options)
                continue
            operation = getattr(layers, layer.kind)(**layer.options, name=layer.name)
            made[layer.name] = operation(entering if len(entering) > 1 else entering[0])
        return Model(made[self.layers[0].name], made[self.layers[-1].name], name=self.name)


def _same(shape: Shape, options: Mapping[str, Any]) -> Shape:
    return shape


def _windows(shape: Shape, options: Mapping[str, Any], channels: int | None) -> Shape:
    """Return the shape behind a window that moves over height and width."""
    kernel, stride = options.get("kernel_size", 1), options.get("strides", 1)
    outside = 0 if options.get("padding") == "same" else kernel - 1
    return (None, *(math.ceil(((side or 0) - outside) / stride) for side in shape[1:3]), channels)


SHAPES: Final[Mapping[str, Callable[[Shape, Mapping[str, Any]], Shape]]] = {
    "InputLayer": lambda _, options: (None, *options["shape"]),
    "Conv2D": lambda shape, options: _windows(shape, options, options["filters"]),
    "DepthwiseConv2D": lambda shape, options: _windows(shape, options, shape[3]),
    "MaxPooling2D": lambda shape, options: (None, (shape[1] or 0) // 2, (shape[2] or 0) // 2, shape[3]),
    "GlobalAveragePooling2D": lambda shape, _: (None, shape[3]),
    "Dense": lambda _, options: (None, options["units"]),
}
"""Kind of a layer to its output's shape, where that is not the input's."""


def _arrays(kind: str, channels: int, options: Mapping[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Name the arrays of a layer, with their shapes."""
    if kind == "BatchNormalization":
        return [(name, (channels,)) for name in ("gamma", "beta", "moving_mean", "moving_variance")]
    if kind == "DepthwiseConv2D":
        return [("kernel", (options["kernel_size"], options["kernel_size"], channels, 1))]
    if kind not in ("Conv2D", "Dense"):
        return []
    width = options.get("filters") or options["units"]
    window = (options["kernel_size"],) * 2 if kind == "Conv2D" else ()
    return [("kernel", (*window, channels, width)), ("bias", (width,))][: 1 + options.get("use_bias", True)]
