import hashlib

import numpy as np
import pytest

from pipeline.storage.digests import as_keys, find, fractions


def test_keys_compare_as_the_bytes_do_even_with_zeros_at_the_end() -> None:
    digests = np.zeros((4, 32), np.uint8)
    digests[1, 31], digests[2, 0], digests[3, :] = 1, 1, 255
    keys = as_keys(digests)
    assert list(np.argsort(keys[::-1])) == [3, 2, 1, 0]
    assert len(set(keys.tolist())) == 4


def test_find_tells_where_and_whether() -> None:
    digests = np.array([list(hashlib.sha256(bytes([n])).digest()) for n in range(50)], np.uint8)
    keys = np.sort(as_keys(digests[:40]))
    places, found = find(keys, digests)
    assert found.tolist() == [True] * 40 + [False] * 10
    assert (keys[places[:40]] == as_keys(digests[:40])).all()


def test_find_in_nothing_finds_nothing() -> None:
    assert not find(np.empty(0, "S32"), np.ones((3, 32), np.uint8))[1].any()


def test_fractions_are_the_leading_bytes_and_below_one() -> None:
    digests = np.zeros((3, 32), np.uint8)
    digests[1, 0], digests[2, 0] = 0x80, 0x40
    assert fractions(digests).tolist() == [0.0, 0.5, 0.25]


def test_fractions_of_real_digests_are_even() -> None:
    digests = np.array([list(hashlib.sha256(b"%d" % n).digest()) for n in range(4000)], np.uint8)
    assert np.quantile(fractions(digests), [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.03)
