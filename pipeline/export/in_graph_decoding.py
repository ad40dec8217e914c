"""Encoded images to pixels in a TensorFlow graph, as `pipeline.photos.decode` decodes them, where TensorFlow can.

A graph takes JPEG and PNG. It turns them upright by their EXIF orientation, which TensorFlow itself does not look at,
and refuses a PNG of fewer than 8 bits a channel, which TensorFlow leaves dark. Transparency is composited on white, and
a large JPEG is decoded at the smallest scale that still has twice the side wanted, as there.
"""

from typing import Any, Final

from pipeline.photos.decode import JPEG_SCALING, MAX_PIXELS

SCALES: Final = (8, 4, 2, 1)
PNG_SIDES: Final = (16, 8)  # offset and length, in bytes, of width and height in a PNG: two integers, big-endian
PNG_KIND: Final = (24, 2)  # of its bits a channel, and of its kind of colour
GREY: Final = 0  # the kind of colour that is grey without transparency
METADATA: Final = 1 << 17  # bytes at the start that are searched for an orientation: twice a JPEG's longest block
ORIENTATION: Final = 0x0112  # the tag of EXIF's
MOST_ENTRIES: Final = 5_000  # of EXIF's directory that are looked at: so many fit beside the block
LONG: Final = 4  # the kind of an EXIF number of four bytes
# RE2 knows a byte of any value as \C.
OF_JPEG: Final = r"\A\C*?Exif\x00\x00"
OF_PNG: Final = r"\A\C*?eXIf"
OF_XMP: Final = r"\A\C*?tiff:Orientation(?:=\"|>)([0-9])\C*\z"
MIRRORED, UPSIDE_DOWN, TRANSPOSED = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)  # orientations


def decoded(data: Any, size: int) -> Any:
    """Decode one image, a whole JPEG or PNG file in a scalar string, to (H, W, 3) uint8.

    Anything else, and more than `MAX_PIXELS`, is an InvalidArgumentError of the graph that runs. `size` is the side of
    the square that it is to become, px.
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

    pixels = tf.case([(times >= scale, at(scale)) for scale in SCALES[:-1]], default=at(SCALES[-1]))
    return _upright(tf, pixels, _orientation(tf, data, OF_JPEG))


def _png(tf: Any, data: Any) -> Any:
    sides = tf.io.decode_raw(tf.strings.substr(data, *PNG_SIDES), tf.int32, little_endian=False)
    with tf.control_dependencies([_few_enough(tf, sides)]):
        bits, colour = tf.unstack(tf.cast(tf.io.decode_raw(tf.strings.substr(data, *PNG_KIND), tf.uint8), tf.int32), 2)
    with tf.control_dependencies([tf.debugging.assert_greater_equal(bits, 8, message="fewer than 8 bits a channel")]):
        wide = (bits == 16) & (colour == GREY)
    pixels = tf.cond(wide, lambda: _wide_grey(tf, data), lambda: _on_white(tf, data))
    return _upright(tf, pixels, _orientation(tf, data, OF_PNG))


def _wide_grey(tf: Any, data: Any) -> Any:
    grey = tf.cast(tf.io.decode_png(data, channels=1, dtype=tf.uint16), tf.int32)
    return tf.repeat(tf.cast((grey + 128) // 257, tf.uint8), 3, axis=-1)


def _on_white(tf: Any, data: Any) -> Any:
    layer = tf.cast(tf.io.decode_png(data, channels=4), tf.int32)
    opaque = layer[..., 3:]
    blended = layer[..., :3] * opaque + 255 * (255 - opaque) + 128
    return tf.cast((blended // 256 + blended) // 256, tf.uint8)  # Pillow's division by 255


def _orientation(tf: Any, data: Any, before: str) -> Any:
    """Return EXIF's orientation of a file, from 1 to 8, or XMP's where EXIF has none, as Pillow does.

    `data` is a whole file, a scalar string; `before`, a regular expression, is what stands before EXIF's block.
    """
    start = tf.strings.substr(data, 0, METADATA)
    found = tf.strings.regex_replace(start, before, "", replace_global=False)
    known = tf.strings.regex_full_match(tf.strings.substr(found, 0, 4), r"II\*\x00|MM\x00\*")
    block = tf.where(known, tf.strings.substr(found, 0, METADATA), "")
    read = tf.concat([tf.io.decode_raw(block, tf.uint8), tf.zeros(METADATA, tf.uint8)], axis=0)
    byte = tf.cast(read, tf.int32)
    little = byte[0] == ord("I")

    def short(place: Any) -> Any:
        one, two = tf.gather(byte, place), tf.gather(byte, place + 1)
        return tf.where(little, two * 256 + one, one * 256 + two)

    upper = tf.where(little, 6, 4)
    directory = tf.where(short(upper) == 0, short(10 - upper), tf.size(byte) - 2)  # in the block, or where zeros stand
    entries = directory + 2 + 12 * tf.range(tf.minimum(short(directory), MOST_ENTRIES))
    tags, kinds = short(entries), short(entries + 2)
    values = short(entries + 8 + tf.where((kinds == LONG) & ~little, 2, 0))
    of_exif = tf.reduce_max(tf.where(tags == ORIENTATION, values, 0))
    digit = tf.strings.regex_replace(start, OF_XMP, r"\1")
    of_xmp = tf.strings.to_number(tf.where(tf.strings.length(digit) == 1, digit, "1"), tf.int32)
    return tf.where(tf.reduce_any(tags == ORIENTATION), of_exif, of_xmp)


def _upright(tf: Any, pixels: Any, orientation: Any) -> Any:
    """Turn and mirror (H, W, 3) as an orientation says; one that is none leaves it as it lies."""

    def changed(orientations: tuple[int, ...], change: Any, pixels: Any) -> Any:
        wanted = tf.reduce_any(orientation == tf.constant(orientations))
        return tf.cond(wanted, lambda: change(pixels), lambda: pixels)

    pixels = changed(TRANSPOSED, lambda it: tf.transpose(it, (1, 0, 2)), pixels)
    pixels = changed(MIRRORED, lambda it: tf.reverse(it, [1]), pixels)
    return changed(UPSIDE_DOWN, lambda it: tf.reverse(it, [0]), pixels)


def _few_enough(tf: Any, sides: Any) -> Any:
    count = tf.reduce_prod(tf.cast(sides, tf.int64))
    return tf.debugging.assert_less_equal(count, tf.constant(MAX_PIXELS, tf.int64), message="too many pixels")
