"""Turbo decodes to Pillow's bits, whatever the file, and resizes to the same bits on any processor."""

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ImageError, InputError, SpecError
from pipeline.features import resolve, spec
from pipeline.photos import decode, turbo
from tests import fakes
from tests.photos.test_decode import STORED, encoded, noise, png, smooth


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(Image.fromarray(smooth(70, 90)), "JPEG", exif=exif)


SMOOTH = Image.fromarray(smooth(300, 470))
JPEG = encoded(SMOOTH, "JPEG")
FILES = {
    "JPEG": JPEG,
    "4:4:4": encoded(SMOOTH, "JPEG", subsampling=0),
    "progressive": encoded(SMOOTH, "JPEG", progressive=True),
    "larger than twice the square": encoded(Image.fromarray(smooth(1203, 1601)), "JPEG"),
    "grey": encoded(SMOOTH.convert("L"), "JPEG"),
    "CMYK": encoded(SMOOTH.convert("CMYK"), "JPEG"),
    "two pictures": encoded(SMOOTH, "MPO", save_all=True, append_images=[SMOOTH.rotate(90)]),
    **{f"orientation {number}": turned(number) for number in STORED},
    "damaged EXIF": encoded(SMOOTH, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12"),
    "bytes between markers": JPEG[:20] + b"\0\0\0" + JPEG[20:],
    "bytes at the end": JPEG + b"more",
    "truncated": JPEG[:-2000],
    "without its end": JPEG[:-2],
    "palette": encoded(SMOOTH.convert("P"), "PNG"),
    "transparent": encoded(SMOOTH.convert("RGBA"), "PNG"),
    "16 bits": encoded(Image.fromarray(noise(30, 40)[..., 0].astype(np.uint16) * 251), "PNG"),
    "bomb": png(20_000, 20_000, 1, 0, b"\0" * 1000),
    "huge": encoded(Image.new("RGB", (600, 400)), "JPEG"),
    "text": b"hello, I am a text file",
    "empty": b"",
}


def outcome(data: bytes, decoder: str) -> object:
    try:
        return decode.decode_near(data, size=64, decoder=decoder, max_pixels=2_000_000)  # type: ignore[arg-type]
    except ImageError as error:
        return str(error)


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_pixels_that_pillow_gives_or_its_reason(name: str) -> None:
    expected, found = outcome(FILES[name], "pillow"), outcome(FILES[name], "turbo")
    assert isinstance(found, str) == (name in ("truncated", "without its end", "bomb", "text", "empty"))
    np.testing.assert_array_equal(found, expected)


def test_mutilated_jpegs_do_as_they_do_with_pillow() -> None:
    draw = np.random.default_rng(3)
    kinds = set()
    for _ in range(300):
        data = bytearray(FILES["orientation 6"])
        for place in draw.integers(0, len(data), 3):
            data[place] = draw.integers(0, 256)
        expected, found = outcome(bytes(data), "pillow"), outcome(bytes(data), "turbo")
        np.testing.assert_array_equal(found, expected)
        kinds.add(type(found))
    assert kinds == {str, np.ndarray}


@pytest.mark.parametrize(
    ("geometry", "interpolation", "most"),
    [
        ("squash", "bilinear", 1),
        ("crop", "bilinear", 2),
        ("pad", "bilinear", 2),
        ("squash", "bicubic", 1),
        ("pad", "lanczos", 2),
    ],
)
def test_a_square_is_that_of_pillow_up_to_rounding(
    geometry: decode.Geometry, interpolation: decode.Interpolation, most: int
) -> None:
    for form in ("JPEG", "PNG"):
        how = {"size": 64, "geometry": geometry, "interpolation": interpolation}
        found, expected = (
            decode.fit(encoded(SMOOTH, form), **how, decoder=decoder).astype(int) for decoder in ("turbo", "pillow")
        )
        apart = np.abs(found - expected)
        assert found.shape == (64, 64, 3)
        assert 0 < apart.mean() < 0.3 and apart.max() <= most


@pytest.mark.parametrize(("height", "width"), [(300, 470), (33, 900), (9, 9), (64, 64), (1, 1)])
def test_the_bits_do_not_depend_on_the_instructions_of_the_processor(height: int, width: int) -> None:
    import cykooz_resizer

    pixels, kinds = noise(height, width), cykooz_resizer.CpuExtensions
    usual = turbo.resized(pixels, (64, 50))
    resizer = turbo._thread.resizer
    before = resizer.cpu_extensions
    try:
        for kind in (kinds.none, kinds.sse4_1, kinds.avx2) if before == kinds.avx2 else (kinds.none,):
            resizer.cpu_extensions = kind
            np.testing.assert_array_equal(turbo.resized(pixels, (64, 50)), usual)
    finally:
        resizer.cpu_extensions = before


def test_a_spec_names_the_decoder_and_its_packages_and_its_features_are_no_others() -> None:
    pillow, asked = fakes.plan(), fakes.plan(decoder="turbo")
    named = {name: importlib.metadata.version(name) for name in turbo.PACKAGES}
    assert asked.spec["decoder"] == {**pillow.spec["decoder"], "name": "turbo", **named}
    assert {**asked.spec, "decoder": pillow.spec["decoder"]} == pillow.spec
    assert resolve.plan_again(asked.spec, Path(), resolve.Again(None, "auto", None, None))[0].spec == asked.spec
    assert not np.array_equal(asked.fit(JPEG), pillow.fit(JPEG))
    with pytest.raises(SpecError, match=r"decoder\.name: expected 'pillow', received 'turbo'"):
        spec.require_compatible(pillow.spec, asked.spec)
    (warning,) = spec.require_compatible(
        asked.spec, {**asked.spec, "decoder": {**asked.spec["decoder"], "simplejpeg": "0.1"}}
    )
    assert "decoder.simplejpeg" in warning


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def version(name: str, known: object = importlib.metadata.version) -> str:
        if name == "cykooz-resizer":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)  # type: ignore[operator, no-any-return]

    monkeypatch.setattr(importlib.metadata, "version", version)
    turbo.versions.cache_clear()
    yield
    turbo.versions.cache_clear()


def test_without_its_packages_the_message_says_how_to_get_them(not_installed: None) -> None:
    expected = r"`decoder='turbo'`: expected simplejpeg and cykooz-resizer, received no cykooz-resizer: pip install"
    of_turbo = {"size": 8, "resize": "squash", "decoder": {"name": "turbo"}}
    for call in (lambda: fakes.plan(decoder="turbo"), lambda: decode.of_spec(of_turbo), lambda: outcome(JPEG, "turbo")):
        with pytest.raises(InputError, match=expected):
            call()
