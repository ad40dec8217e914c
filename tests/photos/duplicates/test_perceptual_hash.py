"""A picture's hash stays when it is re-encoded, resized or turned, and not when it is another picture."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.photos.duplicates import perceptual_hash
from pipeline.photos.duplicates.perceptual_hash import BITS, sign


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def coded(image: Image.Image, kind: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer).convert("RGB")


def bits_apart(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(lambda image: coded(image, "JPEG", quality=40), id="jpeg"),
        pytest.param(lambda image: coded(image, "WEBP", quality=50), id="webp"),
        pytest.param(lambda image: image.resize((80, 60), Image.Resampling.LANCZOS), id="half"),
        pytest.param(lambda image: image.resize((128, 128)), id="squeezed"),
        pytest.param(lambda image: image.resize((240, 180), Image.Resampling.BICUBIC), id="larger"),
    ],
)
def test_a_copy_has_nearly_the_same_hash(copy):
    for seed in range(5):
        image = picture(seed)
        one, other = sign(np.asarray(image)), sign(np.asarray(copy(image)))
        assert bits_apart(one.bits[:32], other.bits[:32]) <= 24
        assert one.pixels != other.pixels


@pytest.mark.parametrize("orientation", range(8))
def test_each_hash_and_each_thumbnail_is_that_of_the_picture_so_turned(orientation):
    pixels = np.asarray(picture(0))
    up, left, across = perceptual_hash.ORIENTATIONS[orientation]
    turned = pixels[:: -1 if up else 1, :: -1 if left else 1]
    turned = np.ascontiguousarray(turned.swapaxes(0, 1) if across else turned)
    plain, other = sign(pixels), sign(turned)
    assert bits_apart(plain.bits[32 * orientation :][:32], other.bits[:32]) <= 2
    assert orientation == 0 or bits_apart(plain.bits[:32], other.bits[:32]) > 90
    columns = perceptual_hash.as_columns([plain, other])
    apart = perceptual_hash.oriented(columns.thumbnails[:1], orientation)[0] - columns.thumbnails[1].astype(int)
    assert np.abs(apart).max() <= 1


def test_other_pictures_differ_in_about_half_of_the_bits():
    signed = [sign(np.asarray(picture(seed))) for seed in range(20)]
    apart = [bits_apart(a.bits[:32], b.bits[:32]) for i, a in enumerate(signed) for b in signed[:i]]
    assert min(apart) > 80
    assert np.mean(apart) == pytest.approx(BITS / 2, abs=5)


def test_pixels_are_the_same_whatever_the_lossless_coding_and_differ_with_the_shape():
    image = picture(0)
    assert sign(np.asarray(image)).pixels == sign(np.asarray(coded(image, "BMP"))).pixels
    flat = np.zeros((4, 6, 3), np.uint8)
    assert sign(flat).pixels != sign(flat.reshape(6, 4, 3)).pixels


def test_half_of_the_bits_are_set_and_columns_keep_the_order():
    signed = [sign(np.asarray(picture(seed))) for seed in (3, 1)]
    columns = perceptual_hash.as_columns(signed)
    assert np.unpackbits(columns.bits, axis=2).sum(axis=2).tolist() == [[BITS // 2] * 8] * 2
    assert columns.take(np.array([1])).bits[0].tobytes() == signed[1].bits
    assert columns.thumbnails.shape == (2, 16, 16, 3)
