import errno
import io
import struct
import zlib
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ImageError, InputError, SpecError, StorageError
from pipeline.features import resolve, spec
from pipeline.photos import decode
from tests import fakes

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    memory = io.BytesIO()
    image.save(memory, form, **options)
    return memory.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_their_pixels_to_the_bit(form: str) -> None:
    pixels = noise(11, 17)
    decoded, name = decode.decode(encoded(Image.fromarray(pixels), form))
    assert name == form
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_give_their_pixels_nearly(form: str) -> None:
    pixels = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    decoded, name = decode.decode(encoded(Image.fromarray(pixels), form, quality=95))
    assert name == form
    assert np.abs(decoded.astype(int) - pixels).max() <= 4


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_an_animation_counts_as_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
    decoded, name = decode.decode(data)
    assert name == form
    assert (decoded == RED).all()


def test_sixteen_bit_grey_is_divided_by_257_and_not_clipped() -> None:
    values = np.array([[0, 257, 257 * 100, 65535]], np.uint16)
    decoded, _ = decode.decode(encoded(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 1, 100, 255])
    assert (decoded == decoded[..., :1]).all()


def test_sixteen_bit_colour_keeps_its_values() -> None:
    row = b"\0" + struct.pack(">6H", 0, 257 * 7, 65535, 257 * 100, 257 * 200, 257)
    decoded, _ = decode.decode(png(2, 1, 16, 2, row))
    np.testing.assert_array_equal(decoded, [[[0, 7, 255], [100, 200, 1]]])


def test_a_palette_gives_colours_and_not_indices() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*GREEN, *BLUE])
    image.putpixel((1, 0), 1)
    for form in ("BMP", "PNG", "GIF"):
        np.testing.assert_array_equal(decode.decode(encoded(image, form))[0], [[GREEN, BLUE]])


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "YCbCr", "LAB"])
def test_other_colour_models_become_rgb(mode: str) -> None:
    white = (
        Image.new("RGB", (4, 4), "white").convert(mode) if mode != "LAB" else Image.new("LAB", (4, 4), (255, 128, 128))
    )
    form = "JPEG" if mode in ("CMYK", "YCbCr") else "TIFF"
    decoded, _ = decode.decode(encoded(white, form))
    assert decoded.shape == (4, 4, 3)
    assert decoded.min() >= 250


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(mode: str) -> None:
    black, clear = {"RGBA": (0, 0, 0, 255), "LA": (0, 255)}[mode], {"RGBA": (0, 0, 0, 0), "LA": (0, 0)}[mode]
    image = Image.new(mode, (2, 1), black)
    image.putpixel((1, 0), clear)
    np.testing.assert_array_equal(decode.decode(encoded(image, "PNG"))[0], [[(0, 0, 0), WHITE]])


def test_half_transparent_black_is_middle_grey() -> None:
    decoded, _ = decode.decode(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)), "PNG"))
    assert abs(int(decoded[0, 0, 0]) - 127) <= 1


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*GREEN, *BLUE])
    image.putpixel((1, 0), 1)
    np.testing.assert_array_equal(decode.decode(encoded(image, "PNG", transparency=1))[0], [[GREEN, WHITE]])


# How a camera stores an upright picture under each EXIF orientation (TIFF 6.0, section 8: Orientation).
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_turned_upright(form: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = RED, GREEN, BLUE
    stored = Image.fromarray(upright)
    if STORED[orientation] is not None:
        stored = stored.transpose(STORED[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded, _ = decode.decode(encoded(stored, form, exif=exif))
    assert decoded.shape == upright.shape
    for (row, column), colour in {(4, 4): RED, (4, 28): GREEN, (12, 4): BLUE}.items():
        assert np.abs(decoded[row, column].astype(int) - colour).max() < 60


def test_damaged_exif_does_not_cost_a_sound_image() -> None:
    data = encoded(Image.new("RGB", (8, 6), RED), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert decode.decode(data)[0].shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"hello, I am a text file", "not an image: expected one of JPEG"),
        (encoded(Image.fromarray(noise(64, 64)), "JPEG")[:-2000], "damaged: image file is truncated"),
        (encoded(Image.fromarray(noise(64, 64)), "PNG")[:5000], "damaged: "),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "unsupported pixels: expected 8 or 16 bits a channel"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "AVIF, received HEIC, which must be converted first"),
        (b"<!DOCTYPE html><html>404</html>", "received a page of the web"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "received a pointer of Git LFS: git lfs pull"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
    ids=[
        "empty",
        "text",
        "truncated jpeg",
        "truncated png",
        "float tiff",
        "heic",
        "html",
        "lfs",
        "postscript is not run",
    ],
)
def test_what_cannot_be_decoded_in_full_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode.decode(data)


def test_a_half_truncated_jpeg_that_verifies_is_refused() -> None:
    whole = encoded(Image.fromarray(noise(200, 200)), "JPEG")
    half = whole[: len(whole) // 2]
    with Image.open(io.BytesIO(half)) as image:
        image.verify()  # Pillow's own check is content with it
    with pytest.raises(ImageError, match="truncated"):
        decode.decode(half)


def test_a_bomb_is_refused_before_it_takes_memory() -> None:
    bomb = png(20_000, 20_000, 1, 0, b"\0" * 1000)
    with pytest.raises(ImageError, match="too many pixels: expected at most 178,956,970"):
        decode.decode(bomb)


def test_the_limit_on_pixels_counts_every_pixel() -> None:
    data = encoded(Image.new("RGB", (10, 10)), "PNG")
    assert decode.decode(data, max_pixels=100)[0].shape == (10, 10, 3)
    with pytest.raises(ImageError, match="expected at most 99, received 10 x 10"):
        decode.decode(data, max_pixels=99)


def test_a_thousand_mutilated_files_give_pixels_or_a_reason() -> None:
    draw = np.random.default_rng(3)
    pictures = [encoded(Image.fromarray(noise(24, 24)), form) for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")]
    outcomes = {"pixels": 0, "reason": 0}
    for number in range(1000):
        data = bytearray(pictures[number % len(pictures)])
        for place in draw.integers(0, len(data), 8):
            data[place] = draw.integers(0, 256)
        try:
            assert decode.decode(bytes(data), max_pixels=10**6)[0].dtype == np.uint8
            outcomes["pixels"] += 1
        except ImageError as error:
            assert "\n" not in str(error)
            outcomes["reason"] += 1
    assert min(outcomes.values()) > 100


def test_squash_fills_the_square_and_ignores_the_aspect() -> None:
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    square = decode.fit(encoded(image, "PNG"), size=10, geometry="squash")
    assert square.shape == (10, 10, 3)
    assert (square[:, :4] == RED).all() and (square[:, 6:] == BLUE).all()


def test_crop_keeps_the_centre_only() -> None:
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (10, 0, 30, 20))
    assert (decode.fit(encoded(image, "PNG"), size=10, geometry="crop") == BLUE).all()


def test_pad_shows_everything_on_black() -> None:
    square = decode.fit(encoded(Image.new("RGB", (40, 20), WHITE), "PNG"), size=8, geometry="pad")
    assert (square[:2] == 0).all() and (square[6:] == 0).all() and (square[2:6] == 255).all()


def test_resizing_averages_what_falls_together() -> None:
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = np.repeat(checkers[..., None], 3, axis=2).astype(np.uint8)
    small = decode.fit(encoded(Image.fromarray(pixels), "PNG"), size=8, geometry="squash")
    assert np.abs(small.astype(int) - 127.5).max() <= 4


@pytest.mark.parametrize("name", get_args(decode.Interpolation))
def test_the_filter_is_pillows_and_features_of_another_are_others(name: decode.Interpolation) -> None:
    image = Image.fromarray(noise(90, 70))
    expected = np.asarray(image.resize((64, 64), Image.Resampling[name.upper()]))
    asked, other = fakes.plan(size=64, interpolation=name), fakes.plan(size=64, interpolation="bicubic")
    assert np.array_equal(asked.fit(encoded(image, "PNG")), expected)
    assert resolve.plan_again(asked.spec, Path(), resolve.Again(None, "auto", None, None))[0].spec == asked.spec
    if name == "bilinear":
        assert asked.spec == fakes.plan(size=64).spec
        with pytest.raises(SpecError, match="interpolation: expected 'bilinear', received 'bicubic'"):
            spec.require_compatible(asked.spec, other.spec)


def smooth(height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(noise(12, 16)).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("geometry", get_args(decode.Geometry))
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(
    geometry: decode.Geometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(Image.fromarray(smooth(1200, 1600)), "JPEG", quality=95)
    loaded: list[tuple[int, int]] = []
    upright = decode._upright
    monkeypatch.setattr(decode, "_upright", lambda image: loaded.append(image.size) or upright(image))
    quick = decode.fit(data, size=64, geometry=geometry)
    monkeypatch.setattr(decode, "JPEG_SCALING", 10**6)
    full = decode.fit(data, size=64, geometry=geometry)
    assert loaded == [(200, 150), (1600, 1200)]
    assert np.abs(quick.astype(int) - full).mean() < 0.5


def test_a_small_jpeg_is_decoded_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(smooth(120, 250)), "JPEG")
    quick = decode.fit(data, size=64, geometry="squash")
    monkeypatch.setattr(decode, "JPEG_SCALING", 10**6)
    np.testing.assert_array_equal(decode.fit(data, size=64, geometry="squash"), quick)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_large_jpeg_of_another_colour_model_is_decoded_smaller_too(mode: str) -> None:
    data = encoded(Image.new("RGB", (1600, 1200), "white").convert(mode), "JPEG")
    assert decode.fit(data, size=32, geometry="squash").min() >= 250


def test_an_unknown_geometry_names_the_choices() -> None:
    with pytest.raises(InputError, match="expected one of squash, crop, pad, received 'stretch'"):
        decode.fit(encoded(Image.fromarray(noise(4, 4)), "PNG"), size=2, geometry="stretch")  # type: ignore[arg-type]


def test_a_thumbnail_keeps_the_aspect() -> None:
    assert decode.thumbnail(noise(100, 200), 50).shape == (25, 50, 3)


def test_what_is_no_readable_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="file not found"):
        decode.read_bytes(tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        decode.read_bytes(tmp_path)
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    with pytest.raises(ImageError, match="a loop of links"):
        decode.read_bytes(loop)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_failing_disk_is_not_blamed_on_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")

    def fail(self: Path) -> bytes:
        raise OSError(number, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StorageError, match=r"a\.jpg: the disk fails"):
        decode.read_bytes(path)
