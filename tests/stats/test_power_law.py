"""A power law that was put in comes out, and what cannot fall is flat."""

import numpy as np
import pytest

from pipeline.stats import power_law

SIZES = np.array([10, 20, 40, 80, 160])


def fitted(errors):
    return power_law.fit(SIZES, np.atleast_2d(errors), np.ones(len(SIZES)))


@pytest.mark.parametrize(("a", "b", "c"), [(0.8, 0.5, 0.05), (2.0, 1.0, 0.0), (0.5, 0.3, 0.1)])
def test_a_curve_without_noise_is_carried_on(a, b, c):
    law = fitted(a * SIZES**-b + c)
    assert law.at(320)[0] == pytest.approx(a * 320**-b + c, rel=1e-9)
    assert law.b[0] == pytest.approx(b)


def test_many_curves_are_fitted_as_each_alone():
    curves = np.random.default_rng(0).random((6, 5))
    together = fitted(curves).at(1000)
    assert together == pytest.approx([fitted(curve).at(1000)[0] for curve in curves])


def test_errors_that_rise_are_forecast_flat_and_none_is_below_zero():
    assert fitted([0.1, 0.1, 0.1, 0.2, 0.2]).at(1e6)[0] == pytest.approx(0.14)
    assert fitted([0.5, 0.1, 0.0, 0.0, 0.0]).at(1e9)[0] >= 0
    assert fitted(np.zeros(5)).at(320)[0] == 0


def test_heavy_points_count_more():
    errors = np.array([[0.5, 0.4, 0.3, 0.2, 0.1]])
    weights = np.array([1.0, 1, 1, 1, 1e9])
    assert power_law.fit(SIZES, errors, weights).at(160)[0] == pytest.approx(0.1, abs=1e-6)
