"""Copies are paired, grouped, and stand in for one another; pictures that only look alike are not."""

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.photos.duplicates import near_duplicates, perceptual_hash
from tests.photos.duplicates.test_perceptual_hash import coded, picture


def found(images, labels=None, distance=60):
    signatures = perceptual_hash.as_columns([perceptual_hash.sign(np.asarray(image)) for image in images])
    labels = labels or ["ab"[place % 2] for place in range(len(images))]
    return near_duplicates.same_pictures(signatures, labels, hash_distance=distance, progress=lambda *_: None)


def named(pairs):
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def test_copies_are_paired_with_the_nearest_first():
    originals = [picture(seed) for seed in range(12)]
    copies = [coded(originals[3], "BMP"), coded(originals[5], "JPEG", quality=30), ImageOps.mirror(originals[7])]
    pairs, limit = found([*originals, *copies])
    assert sorted(named(pairs)) == [(3, 12), (5, 13), (7, 14)]
    assert named(pairs)[0] == (3, 12)
    assert sorted(pairs.distances.tolist()) == pairs.distances.tolist()
    assert dict(zip(named(pairs), pairs.orientations.tolist(), strict=True))[7, 14] == 1
    assert limit == 60


def cropped(image, share):
    width, height = image.size
    return image.crop((round(width * share), round(height * share), width, height))


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(lambda image: image.transpose(Image.Transpose.ROTATE_90), id="a quarter turn"),
        pytest.param(lambda image: image.transpose(Image.Transpose.ROTATE_270), id="three quarters"),
        pytest.param(lambda image: image.rotate(180), id="a half turn"),
        pytest.param(ImageOps.flip, id="upside down"),
        pytest.param(lambda image: image.transpose(Image.Transpose.TRANSPOSE), id="along the diagonal"),
        pytest.param(lambda image: image.rotate(2, Image.Resampling.BICUBIC), id="two degrees"),
        pytest.param(lambda image: cropped(image, 0.015), id="cropped"),
    ],
)
def test_a_copy_that_is_cropped_a_little_or_turned_is_paired_and_nothing_else(copy):
    originals = [picture(seed, (320, 240)) for seed in range(30)]
    pairs, _ = found([*originals, *(coded(copy(image), "JPEG", quality=60) for image in originals)])
    assert set(named(pairs)) <= {(place, place + 30) for place in range(30)}
    assert len(pairs) >= 27


def test_the_same_structure_in_another_colour_is_another_picture():
    grey = picture(0).convert("L")
    black = Image.new("L", grey.size)
    red, blue = Image.merge("RGB", (grey, black, black)), Image.merge("RGB", (black, black, grey))
    pairs, _ = found([red, blue, *(picture(seed) for seed in range(1, 9))])
    assert named(pairs) == []


def test_flat_pictures_are_the_same_only_if_their_pixels_are():
    white, cream = Image.new("RGB", (40, 30), "white"), Image.new("RGB", (40, 30), (255, 250, 240))
    pairs, _ = found([white, cream, white.copy(), *(picture(seed) for seed in range(8))])
    assert named(pairs) == [(0, 2)]


def test_where_unrelated_pictures_come_near_more_is_asked_for():
    base = np.asarray(picture(0, (64, 64))).astype(float)
    scans = [
        Image.fromarray(np.clip(base + 0.25 * np.asarray(picture(seed, (64, 64))), 0, 255).astype(np.uint8))
        for seed in range(1, 11)
    ]
    pairs, limit = found([*scans, scans[4].copy()])
    assert limit < 20
    assert named(pairs) == [(4, 10)]


def test_groups_join_what_pairs_connect_and_number_in_order():
    links = near_duplicates.Pairs(
        np.array([1, 3]), np.array([4, 4]), np.zeros(2, int), np.ones(2, np.float32), np.zeros(2, int)
    )
    assert near_duplicates.groups(6, links).tolist() == [0, 1, 2, 1, 1, 3]


def test_a_group_is_stood_for_by_one_of_its_own_whatever_the_order():
    digests = [hashlib.sha256(bytes([place])).digest() for place in range(4)]
    chosen = near_duplicates.representatives(digests, np.array([0, 1, 0, 0]))
    assert chosen[1] == digests[1]
    assert len({chosen[0], chosen[2], chosen[3]}) == 1
    assert chosen[0] == min((digests[0], digests[2], digests[3]), key=lambda one: one[::-1])


def test_groups_fall_to_the_test_split_no_more_often_than_single_pictures():
    digests = [hashlib.sha256(str(place).encode()).digest() for place in range(20_000)]
    numbers = np.arange(20_000) // 4
    chosen = set(near_duplicates.representatives(digests, numbers))
    share = np.mean([digest[0] / 256 < 0.2 for digest in chosen])
    assert share == pytest.approx(0.2, abs=0.02)  # 0.59 if the smallest digest stood for its group
