"""A picture's hash stays when it is re-encoded, resized or mirrored, and not when it is another picture."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

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
        assert bits_apart(one.bits, other.bits) <= 24
        assert one.pixels != other.pixels


def test_the_mirrored_hash_is_that_of_the_mirrored_picture():
    image = picture(0)
    plain, turned = sign(np.asarray(image)), sign(np.asarray(ImageOps.mirror(image)))
    assert bits_apart(plain.mirrored, turned.bits) <= 2
    assert bits_apart(plain.bits, turned.mirrored) <= 2
    assert bits_apart(plain.bits, turned.bits) > 90


def test_other_pictures_differ_in_about_half_of_the_bits():
    signed = [sign(np.asarray(picture(seed))) for seed in range(20)]
    apart = [bits_apart(a.bits, b.bits) for i, a in enumerate(signed) for b in signed[:i]]
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
    assert np.unpackbits(columns.bits, axis=1).sum(axis=1).tolist() == [BITS // 2] * 2
    assert columns.take(np.array([1])).bits[0].tobytes() == signed[1].bits
    assert columns.thumbnails.shape == (2, 16, 16, 3)
