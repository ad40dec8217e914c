"""ONNX's operators by the names that OpenVINO's opset and keras.ops have for them, as far as graphs here use them.

So what is written once for OpenVINO, a network and a head, or for Keras, the resize, is a graph of ONNX, too. Only
operators of the standard stand in it, and none that holds a graph of its own: any runtime takes it, in a web browser
as well.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

OPSET: Final = 17  # onnxruntime knows it since 1.12
AXES_ENTER: Final = 18  # the opset since which the axes of a mean and of a maximum are an input
# Names of OpenVINO and Keras, and ONNX's for what takes the same inputs and needs no more.
SAME: Final = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "minimum": "Min",
    "maximum": "Max",
    "equal": "Equal",
    "logical_and": "And",
    "where": "Where",
    "absolute": "Abs",
    "negative": "Neg",
    "floor": "Floor",
    "relu": "Relu",
    "tanh": "Tanh",
    "sin": "Sin",
    "sigmoid": "Sigmoid",
    "matmul": "MatMul",
}
END: Final = 2**62  # of a slice that goes on to the end
TRUE_OR_FALSE: Final = ("Equal", "Less", "Greater", "GreaterOrEqual")


def _operator(kind: str) -> Callable[["Tensor", Any], "Tensor"]:
    return lambda one, other: one._ops.node(kind, one, other)


class Tensor:
    """What leaves a node; with Python's operators, further nodes leave from it.

    Attributes
    ----------
    name : str
    dtype : np.dtype
    """

    __array_ufunc__ = None  # an array on the left leaves the work to the methods here

    def __init__(self, ops: "OnnxOperations", name: str, dtype: DTypeLike) -> None:
        self._ops, self.name, self.dtype = ops, name, np.dtype(dtype)

    def output(self, place: int) -> "Tensor":
        """Return itself: a node of OpenVINO may have several outputs."""
        return self

    __add__, __sub__, __mul__ = _operator("Add"), _operator("Sub"), _operator("Mul")
    __radd__, __rmul__ = __add__, __mul__
    __floordiv__ = _operator("Div")  # rounds to zero, and there is nothing negative to divide
    __mod__ = _operator("Mod")
    __gt__, __ge__, __lt__ = _operator("Greater"), _operator("GreaterOrEqual"), _operator("Less")

    def __rsub__(self, other: Any) -> "Tensor":
        return self._ops.node("Sub", other, self)

    def __getitem__(self, places: Any) -> "Tensor":
        """Take slices, whose ends may be Tensors, and numbers; an … may come first."""
        found, places = self, places if isinstance(places, tuple) else (places,)
        axes = range(1 - len(places), 0) if places[0] is ... else range(len(places))
        gone = []
        for axis, place in zip(axes, places[1:] if places[0] is ... else places, strict=True):
            if isinstance(place, int):
                gone.append(axis)
                place = slice(place, place + 1)
            if place == slice(None):
                continue
            stop = END if place.stop is None else place.stop
            end = self._ops.reshape(self._ops.cast(stop, "int64"), [1]) if isinstance(stop, Tensor) else [stop]
            found = self._ops.slice(found, [place.start or 0], end, [1], [axis])
        return self._ops.node("Squeeze", found, np.array(gone)) if gone else found


class OnnxOperations:
    """A graph that grows by a node or some with each call.

    Parameters
    ----------
    opset : int
        Of ONNX, from 13 on.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
        In the order of the calls.
    constants : dict of str to ndarray
        Arrays that they take.
    """

    def __init__(self, opset: int = OPSET) -> None:
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        if name not in SAME:
            raise AttributeError(name)
        return partial(self._same, SAME[name])

    def parameter(self, name: str, dtype: DTypeLike) -> Tensor:
        """Return what enters the graph by a name."""
        return Tensor(self, name, dtype)

    def _same(self, kind: str, *inputs: Any) -> Tensor:
        return self.node(kind, *(one for one in inputs if one is not False))  # OpenVINO's "not transposed"

    def node(self, kind: str, *inputs: Any, dtype: DTypeLike | None = None, **attributes: Any) -> Tensor:
        """Append a node of ONNX's operator `kind`, with the attributes that it takes.

        A number among the inputs gets the dtype of the last Tensor, as does the output unless `dtype` is given.
        """
        from onnx import helper

        own = [one.dtype for one in inputs if isinstance(one, Tensor)][-1]
        names = [one.name if isinstance(one, Tensor) else self._constant(one, own) for one in inputs]
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        return Tensor(self, name, dtype or (bool if kind in TRUE_OR_FALSE else own))

    def _constant(self, value: Any, dtype: DTypeLike) -> str:
        array = value if isinstance(value, np.ndarray) else np.asarray(value, dtype)
        for name, known in self.constants.items():
            if (known.dtype, known.shape) == (array.dtype, array.shape) and array.size < 8 and (known == array).all():
                return name
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def model(self, entering: Any, leaving: Any) -> Any:
        """Return the graph between two onnx.ValueInfoProto: an onnx.ModelProto. The latter leaves the last node."""
        from onnx import helper, numpy_helper

        self.nodes[-1].output[:] = [leaving.name]
        constants = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "headstart", [entering], [leaving], constants)
        opsets = [helper.make_opsetid("", self.opset)]
        # A runtime refuses a file for a newer version of its format, whatever is in it.
        version = helper.find_min_ir_version_for(opsets)
        return helper.make_model(graph, opset_imports=opsets, ir_version=version, producer_name="headstart")

    def transpose(self, x: Any, axes: ArrayLike) -> Tensor:
        """Order the axes anew."""
        return self.node("Transpose", x, perm=np.asarray(axes).tolist())

    def reshape(self, x: Any, shape: ArrayLike, *, special_zero: bool = True) -> Tensor:
        """Give it another shape, in which 0 keeps a side and -1 is what is left."""
        return self.node("Reshape", x, np.asarray(shape, np.int64))

    def cast(self, x: Any, dtype: DTypeLike) -> Tensor:
        """Give its numbers another dtype."""
        from onnx import helper

        return self.node("Cast", x, dtype=dtype, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    convert = cast

    def slice(self, x: Any, start: ArrayLike, stop: Any, step: ArrayLike, axes: ArrayLike) -> Tensor:
        """Take what lies between; the step is 1."""
        stop = stop if isinstance(stop, Tensor) else np.asarray(stop, np.int64)
        return self.node("Slice", x, np.asarray(start, np.int64), stop, np.asarray(axes, np.int64), dtype=x.dtype)

    def gather(self, x: Any, places: ArrayLike, axis: ArrayLike) -> Tensor:
        """Take places along an axis."""
        return self.node("Gather", x, np.asarray(places, np.int64), axis=int(np.asarray(axis)))

    def concat(self, parts: Sequence[Any], axis: int) -> Tensor:
        """Lay side by side."""
        return self.node("Concat", *parts, axis=axis)

    concatenate = concat

    def reduce_mean(self, x: Any, axes: ArrayLike) -> Tensor:
        """Return the means over axes, which go."""
        return self._reduced("ReduceMean", x, axes)

    def reduce_max(self, x: Any, axes: ArrayLike) -> Tensor:
        """Return the greatest along axes, which go."""
        return self._reduced("ReduceMax", x, axes)

    def _reduced(self, kind: str, x: Any, axes: ArrayLike) -> Tensor:
        axes = np.asarray(axes, np.int64)
        inputs, attributes = ((), {"axes": axes.tolist()}) if self.opset < AXES_ENTER else ((axes,), {})
        return self.node(kind, x, *inputs, keepdims=0, **attributes)

    def max(self, x: Any, *, keepdims: bool) -> Tensor:
        """Return the greatest of all."""
        return self.node("ReduceMax", x, keepdims=int(keepdims))

    def sum(self, x: Any, *, axis: int, keepdims: bool) -> Tensor:
        """Return the sums along an axis."""
        return self.node("ReduceSum", x, np.array([axis]), keepdims=int(keepdims))

    def cumsum(self, x: Any, *, axis: int) -> Tensor:
        """Return the sums up to each place of an axis."""
        return self.node("CumSum", x, np.array(axis))

    def ones_like(self, x: Any, *, dtype: DTypeLike) -> Tensor:
        """Return ones of its shape."""
        from onnx import numpy_helper

        shape = self.node("Shape", x, dtype=np.int64)
        return self.node("ConstantOfShape", shape, dtype=dtype, value=numpy_helper.from_array(np.ones(1, dtype)))

    def convolution(
        self, x: Any, kernel: NDArray[Any], strides: Any, begin: Any, end: Any, dilations: Any, *, auto_pad: str
    ) -> Tensor:
        """Move a kernel (out, in, h, w) over maps (n, in, H, W); `auto_pad` says how they are padded."""
        return self.group_convolution(x, kernel[None], strides, begin, end, dilations, auto_pad=auto_pad)

    def group_convolution(
        self, x: Any, kernel: NDArray[Any], strides: Any, begin: Any, end: Any, dilations: Any, *, auto_pad: str
    ) -> Tensor:
        """Move kernels (groups, out, in, h, w), each over its share of the maps."""
        window = {"kernel_shape": kernel.shape[3:], "strides": strides, "dilations": dilations}
        kernels = kernel.reshape(-1, *kernel.shape[2:])
        return self.node("Conv", x, kernels, auto_pad=auto_pad.upper(), group=len(kernel), **window)

    def max_pool(self, x: Any, strides: Any, dilations: Any, begin: Any, end: Any, kernel: Any) -> Tensor:
        """Return the greatest in each window."""
        window = {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": [*begin, *end]}
        return self.node("MaxPool", x, **window)

    def batch_norm_inference(self, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float) -> Tensor:
        """Normalise each channel by moments that are known."""
        return self.node("BatchNormalization", x, gamma, beta, mean, variance, epsilon=epsilon)

    def clamp(self, x: Any, least: float, most: float) -> Tensor:
        """Keep within bounds."""
        return self.node("Clip", x, least, most)

    def softmax(self, x: Any, axis: int) -> Tensor:
        """Return shares of their sum, of exp(x)."""
        return self.node("Softmax", x, axis=axis)

    def swish(self, x: Tensor) -> Tensor:
        """Return x times its sigmoid."""
        return x * self.node("Sigmoid", x)

    def gelu(self, x: Tensor, kind: str) -> Tensor:
        """Return x times the normal distribution function, for which ONNX has no operator before opset 20."""
        return x * 0.5 * (self.node("Erf", x * np.float32(0.5**0.5)) + 1.0)

    def elu(self, x: Any, alpha: float) -> Tensor:
        """Return x where it is above 0, else alpha (exp(x) - 1)."""
        return self.node("Elu", x, alpha=float(alpha))

    def selu(self, x: Any, alpha: float, scale: float) -> Tensor:
        """Return the elu times `scale`."""
        return self.node("Selu", x, alpha=float(alpha), gamma=float(scale))
