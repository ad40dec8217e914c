"""All against all by tiles gives what a plain comparison of everything gives."""

import numpy as np
import pytest

from pipeline.stats import nearest_neighbours


@pytest.fixture(params=[(2048, 8192), (7, 5)], ids=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    monkeypatch.setattr(nearest_neighbours, "TILE_ROWS", request.param[0])
    monkeypatch.setattr(nearest_neighbours, "TILE_COLUMNS", request.param[1])


def silent(done, total):
    assert 0 < done <= total


def vectors(n=40, d=6):
    return nearest_neighbours.directions(np.random.default_rng(0).normal(size=(n, d)).astype(np.float32))


def test_pairs_are_those_of_a_plain_comparison(tiles):
    X = vectors()
    i, j, products = nearest_neighbours.close_pairs(X, X, least=0.5, progress=silent)
    expected = [(a, b) for a in range(40) for b in range(a + 1, 40) if X[a] @ X[b] >= 0.5]
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == expected
    np.testing.assert_allclose(products, [X[a] @ X[b] for a, b in expected], rtol=1e-5)


def test_without_pairs_there_are_none(tiles):
    found = nearest_neighbours.close_pairs(vectors(), vectors(), least=1.5, progress=silent)
    assert [len(part) for part in found] == [0, 0, 0]
    assert len(nearest_neighbours.close_pairs(vectors(1), vectors(1), least=0.0, progress=silent)[0]) == 0


def test_a_crowd_keeps_its_closest_partners_and_stays_connected():
    X = np.ones((100, 1), np.float32)
    i, j, _ = nearest_neighbours.close_pairs(X, X, least=1.0, progress=silent)
    assert np.bincount(i).max() == nearest_neighbours.PARTNERS
    assert set(zip(range(99), range(1, 100), strict=True)) <= set(zip(i.tolist(), j.tolist(), strict=True))


def test_nearest_are_those_of_a_plain_comparison(tiles):
    X = vectors()
    products = X @ X.T
    np.fill_diagonal(products, -np.inf)
    expected = -np.sort(-products, axis=1)
    np.testing.assert_allclose(nearest_neighbours.nearest(X, 3), expected[:, :3], rtol=1e-5)
    assert nearest_neighbours.nearest(X[:3], 10).shape == (3, 2)
    assert nearest_neighbours.nearest(X[:1], 10).shape == (1, 0)


def test_directions_are_of_length_one_around_the_mean_and_the_mean_itself_is_zero():
    X = np.array([[1, 2], [3, 2], [2, 2]], np.float32)
    assert nearest_neighbours.directions(X).tolist() == [[-1, 0], [1, 0], [0, 0]]
