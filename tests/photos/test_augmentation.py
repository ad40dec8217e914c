import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InputError
from pipeline.photos import augmentation
from pipeline.photos.settings import Flip, Policy
from pipeline.setting import check
from tests import ROOT

NOTHING = Policy()
ALL = Policy(flip="both", rotation=0.1, zoom=0.2, shift=0.1, brightness=0.2, contrast=0.3)
DIGESTS = [bytes([number]) * 32 for number in range(200)]


def photo(side: int = 32) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def drawn(policy: Policy, pixels: np.ndarray | None = None) -> list[np.ndarray]:
    pixels = photo() if pixels is None else pixels
    return [augmentation.apply(pixels, digest=digest, view=1, policy=policy) for digest in DIGESTS]


def test_view_0_is_the_image_itself() -> None:
    pixels = photo()
    assert augmentation.apply(pixels, digest=DIGESTS[0], view=0, policy=ALL) is pixels


def test_a_policy_of_nothing_gives_the_image_itself() -> None:
    assert NOTHING.is_empty
    assert all(np.array_equal(view, photo()) for view in drawn(NOTHING))


def test_the_same_digest_view_and_policy_give_the_same_bytes_in_another_process() -> None:
    program = (
        "import hashlib; from tests.photos.test_augmentation import *\n"
        "pixels = augmentation.apply(photo(), digest=DIGESTS[3], view=2, policy=ALL)\n"
        "print(hashlib.sha256(pixels.tobytes()).hexdigest())"
    )
    two = [subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True) for _ in range(2)]
    assert two[0].stdout == two[1].stdout
    assert len(two[0].stdout) == 65


@pytest.mark.parametrize(
    "other",
    [{"digest": DIGESTS[1]}, {"view": 2}, {"policy": replace(ALL, contrast=0.31)}],
    ids=["digest", "view", "policy"],
)
def test_another_digest_view_or_policy_gives_another_picture(other: dict[str, object]) -> None:
    chosen: dict[str, object] = {"digest": DIGESTS[0], "view": 1, "policy": ALL}
    one, two = (augmentation.apply(photo(), **options) for options in (chosen, chosen | other))  # type: ignore[arg-type]
    assert not np.array_equal(one, two)


def test_the_image_is_left_as_it_was_and_keeps_its_shape() -> None:
    pixels = photo()
    before = pixels.copy()
    assert {(view.shape, view.dtype) for view in drawn(ALL, pixels)} == {((32, 32, 3), np.dtype(np.uint8))}
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    ("flip", "allowed"),
    [
        ("horizontal", [(1, 1), (1, -1)]),
        ("vertical", [(1, 1), (-1, 1)]),
        ("both", [(1, 1), (1, -1), (-1, 1), (-1, -1)]),
    ],
)
def test_flips_are_exact_and_equally_often(flip: Flip, allowed: list[tuple[int, int]]) -> None:
    pixels = photo()
    found = drawn(replace(NOTHING, flip=flip))
    counts = [sum(np.array_equal(view, pixels[::rows, ::columns]) for view in found) for rows, columns in allowed]
    assert sum(counts) == 200
    assert min(counts) > 200 / len(allowed) * 0.6


def test_what_comes_in_from_outside_is_the_reflection_and_never_black() -> None:
    bright = np.full((32, 32, 3), 200, np.uint8)
    for view in drawn(replace(NOTHING, rotation=0.9, zoom=0.9, shift=0.9), bright):
        assert (view == 200).all()


def test_a_shift_moves_by_at_most_its_fraction_of_the_side() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[45:55, 45:55] = 255
    centres = np.array([_centre(view) for view in drawn(replace(NOTHING, shift=0.2), pixels)])
    assert np.abs(centres - 49.5).max() <= 20.1
    assert np.abs(centres - 49.5).max(axis=0).min() > 18
    assert np.abs(centres.mean(axis=0) - 49.5).max() < 3


def test_a_rotation_turns_by_at_most_its_fraction_of_a_turn() -> None:
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[48:53, 65:75] = 255
    centres = np.array([_centre(view) for view in drawn(replace(NOTHING, rotation=0.1), pixels)]) - 50
    angles = np.arctan2(centres[:, 0], centres[:, 1]) / (2 * np.pi)
    assert 0.095 < np.abs(angles).max() <= 0.101
    assert np.linalg.norm(centres, axis=1) == pytest.approx(19.5, abs=1)


def test_a_zoom_changes_the_size_by_at_most_its_fraction() -> None:
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[80:120, 80:120] = 255
    sides = np.sqrt([(view[..., 0] > 127).sum() for view in drawn(replace(NOTHING, zoom=0.2), pixels)])
    assert 40 / 1.2 - 1 <= sides.min() < 34.5
    assert 48 < sides.max() <= 40 / 0.8 + 1


def test_brightness_adds_at_most_its_fraction_of_white() -> None:
    grey = np.full((8, 8, 3), 128, np.uint8)
    levels = np.array([view[0, 0, 0] for view in drawn(replace(NOTHING, brightness=0.1), grey)], int) - 128
    assert np.abs(levels).max() == pytest.approx(25, abs=1)


def test_contrast_stretches_about_the_mean_of_each_channel() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0], pixels[1] = (90, 100, 110), (110, 120, 130)
    for view in drawn(replace(NOTHING, contrast=0.5), pixels):
        np.testing.assert_allclose(view.mean(axis=(0, 1)), [100, 110, 120], atol=0.6)
        assert 4 <= (view[1].astype(int) - view[0]).max() / 2 <= 16


class OfOneSeed(Policy):
    """A policy whose random numbers do not depend on its factors."""

    identity = NOTHING.identity  # type: ignore[assignment]


def test_a_factor_set_to_zero_leaves_the_others_as_they_were() -> None:
    alone = OfOneSeed(flip="none", rotation=0.0, zoom=0.0, shift=0.0, brightness=0.1, contrast=0.0)
    grey = np.full((8, 8, 3), 128, np.uint8)
    among = replace(alone, flip="both", rotation=0.2, zoom=0.3, shift=0.1)
    assert [view[4, 4, 0] for view in drawn(alone, grey)] == [view[4, 4, 0] for view in drawn(among, grey)]
    assert len({view[4, 4, 0] for view in drawn(alone, grey)}) > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rotation": 1.0}, "`rotation`: .* received 1.0"), ({"zoom": -0.1}, "`zoom`: "), ({"flip": "left"}, "`flip`: ")],
)
def test_a_factor_out_of_range_is_an_error_that_names_it(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(replace(ALL, **change))  # type: ignore[arg-type]


def test_views_of_an_empty_policy_are_an_error_that_names_the_remedy() -> None:
    augmentation.check_views(1, NOTHING)
    augmentation.check_views(5, ALL)
    with pytest.raises(InputError, match=r"`views`: 3 views .* give `flip`, `rotation`"):
        augmentation.check_views(3, NOTHING)


def test_rows_of_a_view_are_kept_under_its_policy_and_view_0_under_none() -> None:
    assert augmentation.view_key(ALL, 0) == augmentation.view_key(NOTHING, 0) == "0"
    assert augmentation.view_key(ALL, 2) == f"2-{ALL.identity[:16]}"
    assert augmentation.view_key(ALL, 2) != augmentation.view_key(replace(ALL, zoom=0.1), 2)


def _centre(view: np.ndarray) -> np.ndarray:
    weights = view[..., 0].astype(float)
    rows, columns = np.indices(weights.shape)
    return np.array([(rows * weights).sum(), (columns * weights).sum()]) / weights.sum()
