"""The gradient of a depthwise convolution's kernel by matrix products: several times as fast on a CPU as TensorFlow's.

TensorFlow's own way takes most of a training step of MobileNets and EfficientNets. With x the padded input and g the
gradient of the output, the gradient of the kernel at (i, j) is, for each channel,

    sum over b, h, w of x[b, h + i, w + j] g[b, h, w]

For small maps all products of a pixel of x and one of g, summed over the batch, are one matrix product a channel:
(P, B) @ (B, Q), with P pixels of x and Q of g. The sums wanted are those along its shifted diagonals. That is wasteful
in multiplications, by about P over the size of the kernel, and yet sooner done, since products of matrices are what a
processor does best. Larger maps are left to TensorFlow.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline import frameworks

NAME: Final = "HeadstartDepthwiseConv2d"
LARGEST_MAP: Final = 15**2  # pixels of the output: above it the waste is larger than the gain


def register() -> str:
    """Register the gradient with TensorFlow, once a process, and return the name that a graph overrides by."""
    frameworks.tensorflow()
    from tensorflow.python.framework import ops

    if NAME not in ops.gradient_registry.list():
        ops.RegisterGradient(NAME)(_gradient)
    return NAME


def _gradient(operation: Any, g: Any) -> tuple[Any, Any]:
    tf = frameworks.tensorflow()
    x, kernel = operation.inputs
    given = {name: operation.get_attr(name) for name in ("strides", "padding", "data_format", "dilations")}
    given["padding"] = given["padding"].decode()
    given["data_format"] = given["data_format"].decode()
    below = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
        input_sizes=tf.shape(x), filter=kernel, out_backprop=g, **given
    )
    plain = (
        given["padding"] == "SAME"
        and given["data_format"] == "NHWC"
        and list(given["strides"]) == [1] * 4
        and list(given["dilations"]) == [1] * 4
        and kernel.shape[3] == 1
        and None not in g.shape[1:]
        and g.shape[1] * g.shape[2] <= LARGEST_MAP
    )
    if plain:
        return below, _kernel_gradient(x, g, tuple(kernel.shape[:2]))
    return below, tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=x, filter_sizes=tf.shape(kernel), out_backprop=g, **given
    )


def _kernel_gradient(x: Any, g: Any, sides: tuple[int, int]) -> Any:
    """Return the gradient of the kernel, of shape (*sides, C, 1), from x and g of shape (B, H, W, C)."""
    tf = frameworks.tensorflow()
    _, height, width, channels = g.shape
    pads = [((side - 1) // 2, side // 2) for side in sides]
    padded = tf.pad(x, [(0, 0), *pads, (0, 0)])
    pixels = (height + sides[0] - 1) * (width + sides[1] - 1)
    left = tf.transpose(tf.reshape(padded, (-1, pixels, channels)), (2, 1, 0))
    right = tf.transpose(tf.reshape(g, (-1, height * width, channels)), (2, 0, 1))
    products = tf.reshape(tf.matmul(left, right), (channels, -1))
    wanted = tf.gather(products, _diagonals(height, width, sides), axis=1)  # (C, k·k, H·W)
    return tf.reshape(tf.transpose(tf.reduce_sum(wanted, axis=2)), (*sides, channels, 1))


def _diagonals(height: int, width: int, sides: tuple[int, int]) -> NDArray[np.int32]:
    """Return, of shape (k·k, H·W), where the products of each shift lie in a flattened (P, Q) matrix."""
    row, column = np.divmod(np.arange(height * width), width)
    shifts = [(i, j) for i in range(sides[0]) for j in range(sides[1])]
    padded = np.array([(row + i) * (width + sides[1] - 1) + column + j for i, j in shifts])
    return (padded * height * width + np.arange(height * width)).astype(np.int32)
