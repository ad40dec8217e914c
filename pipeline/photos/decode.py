"""Image bytes to upright 8-bit RGB: the one decode-and-resize policy, used in training and in use.

The policy: the first frame, turned upright by its EXIF orientation, transparency composited on white, 16 bits brought
to 8 by dividing by 257, every other colour model converted to RGB, and a resize, bilinear unless another is wanted,
whose support grows with the reduction (Pillow's, that is: antialiased). A large JPEG is decoded at the smallest of its
1/1, 1/2, 1/4 and 1/8 scales that still has twice the side wanted: at 12 megapixels less than half the time, 0.2 grey
levels off on average. What cannot be decoded in full is refused with a reason. By the decoder
`pipeline.photos.turbo` all of that holds, but its resize is another than Pillow's.
"""

import contextlib
import errno
import hashlib
import io
import stat
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from pipeline.errors import ImageError, InputError, StorageError
from pipeline.photos import turbo
from pipeline.photos.remote import Address, Root
from pipeline.photos.settings import Decoder, Geometry, Interpolation
from pipeline.photos.squares import square, square_of

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
MAX_PIXELS: Final = 178_956_970  # twice Pillow's own mark: beyond it Pillow refuses to open
MAX_BYTES: Final = 2**31
JPEG_SCALING: Final = 2  # a JPEG may be decoded smaller, but not below this multiple of the side wanted

_OTHERS: Final = (
    (b"ftyphe", "HEIC, which must be converted first"),
    (b"ftypmif1", "HEIC, which must be converted first"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"%PDF", "PDF"),
    (b"<svg", "SVG"),
    (b"<html", "a page of the web"),
    (b"<!doctype", "a page of the web"),
    (b"version https://git-lfs", "a pointer of Git LFS: git lfs pull fetches the image"),
)

_FAILING_DISK = {errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV, errno.ETIMEDOUT, errno.ENOTCONN}


def policy(
    *, size: int, geometry: Geometry, decoder: Decoder = "pillow", interpolation: Interpolation = "bilinear"
) -> dict[str, object]:
    """Describe all that this module does to an image, for the spec.

    Parameters
    ----------
    size : int
        Side of the square that is handed to the network, in px.
    geometry : {"squash", "crop", "pad"}
        How a rectangle becomes that square; see `fit`.
    decoder : {"pillow", "turbo"}
    interpolation : {"bilinear", "bicubic", "lanczos"}

    Returns
    -------
    dict
        JSON-able. Two equal descriptions give equal pixels for equal bytes.

    Raises
    ------
    InputError
        The decoder's packages are not installed.
    """
    pillow = {"version": PIL.__version__, "jpeg": features.version("jpg") or "none"}
    return {
        "decoder": {"name": decoder, **pillow, **(turbo.versions() if decoder == "turbo" else {})},
        "colour": "upright, on white, 16 bit / 257, rgb",
        "size": size,
        "resize": geometry,
        "interpolation": interpolation,
        "antialias": True,
        "jpeg_scaling": JPEG_SCALING,
    }


def read_bytes(path: Root) -> bytes:
    """Read a whole file.

    ImageError if it is missing, is no regular file, may not be read, or is larger than `MAX_BYTES`; StorageError if the
    disk or the network fails, which says nothing about the image.
    """
    if isinstance(path, Address):
        data = path.read()
        _check_size(len(data))
        return data
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        _check_size(status.st_size)
        return path.read_bytes()
    except OSError as error:
        if error.errno in _FAILING_DISK:
            raise StorageError(f"{path}: the disk fails: {error.strerror}") from error
        reasons = {errno.ENOENT: "file not found", errno.EACCES: "permission denied", errno.ELOOP: "a loop of links"}
        raise ImageError(reasons.get(error.errno or 0, str(error.strerror))) from error


def _check_size(count: int) -> None:
    if count > MAX_BYTES:
        raise ImageError(f"too large: expected at most {MAX_BYTES:,} bytes, received {count:,}")


def digest(data: bytes) -> bytes:
    """Return the sha256 of a file's bytes, 32 bytes long."""
    return hashlib.sha256(data).digest()


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.uint8], str]:
    """Decode the first frame in full.

    Parameters
    ----------
    data : bytes
        A whole file of one of `FORMATS`; what it is, is read from the bytes and never from a name.
    max_pixels : int
        More pixels than this are refused before they take memory.

    Returns
    -------
    pixels : ndarray of shape (height, width, 3), uint8
        Upright RGB.
    format : str
        One of `FORMATS`; a phone's multi-picture JPEG (MPO) counts as JPEG.

    Raises
    ------
    ImageError
        With the reason.
    """
    image, name = _upright_rgb(data, max_pixels)
    return np.asarray(image), name


def fit(
    data: bytes,
    *,
    size: int,
    geometry: Geometry,
    decoder: Decoder = "pillow",
    interpolation: Interpolation = "bilinear",
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Decode and bring to a square.

    Parameters
    ----------
    data : bytes
        A whole image file.
    size : int
        Side of the square, px.
    geometry : {"squash", "crop", "pad"}
        ``squash`` ignores the aspect ratio; ``crop`` keeps the largest centred square; ``pad`` shows the whole image,
        centred on black.
    decoder, interpolation
        As for `policy`.

    Returns
    -------
    ndarray of shape (size, size, 3), uint8

    Raises
    ------
    ImageError
        With the reason.
    """
    pixels, _ = _upright_rgb(data, max_pixels, least=JPEG_SCALING * size, decoder=decoder)
    return square(pixels, size=size, geometry=geometry, decoder=decoder, interpolation=interpolation)


def of_spec(spec: Mapping[str, Any]) -> Callable[..., NDArray[np.uint8]]:
    """Return `fit` as a spec says; InputError if the packages of its decoder are not installed."""
    if spec["decoder"]["name"] == "turbo":
        turbo.versions()
    return partial(fit, **square_of(spec))


def decode_near(
    data: bytes, *, size: int, decoder: Decoder = "pillow", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode as `fit` does before it resizes: a large JPEG at a scale that still has twice the side wanted.

    `size` is the side of the square that it is to become, px. Upright RGB (height, width, 3) comes back; ImageError,
    with the reason, if it cannot be decoded.
    """
    return np.asarray(_upright_rgb(data, max_pixels, least=JPEG_SCALING * size, decoder=decoder)[0])


def thumbnail(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Shrink pixels of shape (height, width, 3) to fit a square of `side` px; the aspect ratio is kept."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return np.asarray(image)


def preview(data: bytes, *, side: int) -> NDArray[np.uint8]:
    """Decode an image no larger than it is to be shown; as `decode` and `thumbnail`, but a large JPEG costs less.

    Parameters
    ----------
    data : bytes
        A whole image file.
    side : int
        Of the square that the picture has to fit, px; a smaller image keeps its size.

    Returns
    -------
    ndarray of shape (height, width, 3), uint8

    Raises
    ------
    ImageError
        With the reason.
    """
    image, _ = _upright_rgb(data, MAX_PIXELS, least=JPEG_SCALING * side)
    return thumbnail(np.asarray(image), side)


def _upright_rgb(
    data: bytes, max_pixels: int, least: int | None = None, decoder: Decoder = "pillow"
) -> tuple[Image.Image | NDArray[np.uint8], str]:
    if not data:
        raise ImageError("an empty file")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            name = "JPEG" if image.format == "MPO" else str(image.format)
            if image.width * image.height > max_pixels:
                raise ImageError(_too_many(f"{image.width} x {image.height}", max_pixels))
            if least:
                image.draft("", (least, least))
            if decoder == "turbo" and (pixels := turbo.decoded(data, image)) is not None:
                return pixels, name
            image.load()
            return _rgb(_upright(image)), name
    except (ImageError, InputError):
        raise
    except UnidentifiedImageError:
        start = data[:256].lower()
        found = next((f", received {name}" for mark, name in _OTHERS if mark.lower() in start), "")
        raise ImageError(f"not an image: expected one of {', '.join(FORMATS)}{found}") from None
    except Image.DecompressionBombError:  # raised on opening, from MAX_PIXELS on
        raise ImageError(_too_many(f"more than {MAX_PIXELS:,}", max_pixels)) from None
    except MemoryError:
        raise ImageError("damaged, or too large for this machine's memory") from None
    except Exception as error:  # hostile bytes make decoders raise anything, and each means: damaged
        raise ImageError(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _too_many(received: str, max_pixels: int) -> str:
    return f"too many pixels: expected at most {max_pixels:,}, received {received}"


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # damaged metadata of a sound image: its pixels are taken as they lie
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ImageError(f"unsupported pixels: expected 8 or 16 bits a channel, received Pillow's mode {image.mode!r}")
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        canvas = Image.new("RGB", layer.size, "white")
        canvas.paste(layer, mask=layer.getchannel("A"))
        return canvas
    return image if image.mode == "RGB" else image.convert("RGB")
