"""Encoded images to pixels in a TensorFlow graph, as `pipeline.photos.decode` decodes them, where TensorFlow can.

Upright RGB of 8 bits, JPEG or PNG, is what a graph takes: TensorFlow does not know of EXIF's orientation, and leaves
PNGs of fewer bits dark. Transparency is composited on white, and a large JPEG is decoded at the smallest scale that
still has twice the side wanted, as there.
"""

from typing import Any, Final

from pipeline.photos.decode import JPEG_SCALING, MAX_PIXELS

SCALES: Final = (8, 4, 2, 1)
PNG_SIDES: Final = (16, 8)  # offset and length, in bytes, of width and height in a PNG: two integers, big-endian


def decoded(data: Any, size: int) -> Any:
    """Decode one image.

    Parameters
    ----------
    data : tf.Tensor
        A string, scalar: a whole JPEG or PNG file. Anything else, and more than `MAX_PIXELS`, is an
        InvalidArgumentError of the graph that runs.
    size : int
        Side of the square that it is to become, px.

    Returns
    -------
    tf.Tensor
        (H, W, 3) uint8.
    """
    import tensorflow as tf

    pixels = tf.cond(tf.io.is_jpeg(data), lambda: _jpeg(tf, data, size), lambda: _png(tf, data))
    return tf.ensure_shape(pixels, (None, None, 3))


def _jpeg(tf: Any, data: Any, size: int) -> Any:
    sides = tf.image.extract_jpeg_shape(data)[:2]
    with tf.control_dependencies([_few_enough(tf, sides)]):
        times = tf.reduce_min(sides // (JPEG_SCALING * size))

    def at(scale: int) -> Any:
        # The decoder's other ways of computing its cosines differ from Pillow's by some grey levels.
        return lambda: tf.io.decode_jpeg(data, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE")

    return tf.case([(times >= scale, at(scale)) for scale in SCALES[:-1]], default=at(SCALES[-1]))


def _png(tf: Any, data: Any) -> Any:
    sides = tf.io.decode_raw(tf.strings.substr(data, *PNG_SIDES), tf.int32, little_endian=False)
    with tf.control_dependencies([_few_enough(tf, sides)]):
        layer = tf.cast(tf.io.decode_png(data, channels=4), tf.int32)
    opaque = layer[..., 3:]
    blended = layer[..., :3] * opaque + 255 * (255 - opaque) + 128
    return tf.cast((blended // 256 + blended) // 256, tf.uint8)  # Pillow's division by 255


def _few_enough(tf: Any, sides: Any) -> Any:
    count = tf.reduce_prod(tf.cast(sides, tf.int64))
    return tf.debugging.assert_less_equal(count, tf.constant(MAX_PIXELS, tf.int64), message="too many pixels")
