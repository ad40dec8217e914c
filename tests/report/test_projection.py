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
