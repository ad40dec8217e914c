"""The map lays out what there is, and says what it did."""

import numpy as np
import pytest

from pipeline.report import projection
from pipeline.report.settings import Method


@pytest.mark.parametrize("method", ["auto", "tsne", "pca"])
@pytest.mark.parametrize("rank", [0, 1])
def test_features_that_do_not_vary_are_laid_out_without_a_crash(method: Method, rank: int) -> None:
    rows = np.full((24, 6), 0.25, np.float32) + rank * np.arange(24, dtype=np.float32)[:, None]
    plane = projection.plane(rows, method=method, seed=0)
    assert plane.places.shape == (24, 2)
    assert np.isfinite(plane.places).all()
    assert ("all features are equal" in plane.method) == (rank == 0)


def test_the_map_is_the_same_to_the_bit_with_any_number_of_threads() -> None:
    from threadpoolctl import threadpool_limits

    draw = np.random.default_rng(0)
    rows = (draw.normal(size=(3, 20))[draw.integers(0, 3, 200)] + draw.normal(size=(200, 20))).astype(np.float32)
    maps = []
    for threads in (1, 3):
        with threadpool_limits(threads):
            maps.append(projection.plane(rows, method="tsne", seed=0).places)
    np.testing.assert_array_equal(maps[0], maps[1])
