"""Every row is judged by a fit that did not see it, and that is exact: refitting without the row says the same."""

import numpy as np
import pytest

from pipeline.stats import loo_ridge


def rows(n: int, d: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % classes
    return rng.normal(size=(n, d)) + 0.8 * rng.normal(size=(classes, d))[y], y


def by_refitting(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out each row in turn and solve the normal equations, the intercept not penalised."""
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    targets = np.eye(y.max() + 1)[y]
    squares = np.linalg.eigvalsh(X.T @ X if X.shape[1] < len(X) else X @ X.T)
    mean = squares[squares > 1e-6 * squares.max()].mean()
    fits = []
    for strength in loo_ridge.STRENGTHS:
        fit = np.empty_like(targets)
        for row in range(len(X)):
            kept = np.arange(len(X)) != row
            centre, level = X[kept].mean(axis=0), targets[kept].mean(axis=0)
            A = X[kept] - centre
            coef = np.linalg.solve(A.T @ A + strength * mean * np.eye(X.shape[1]), A.T @ (targets[kept] - level))
            fit[row] = (X[row] - centre) @ coef + level
        fits.append(fit)
    best = min(fits, key=lambda fit: np.sum((fit - targets) ** 2))
    return best.argmax(axis=1), np.sum((best - targets) ** 2, axis=1)


@pytest.mark.parametrize(("n", "d"), [(60, 5), (60, 59), (60, 60), (40, 150)])
def test_leaving_out_in_closed_form_is_refitting_without_the_row(n: int, d: int) -> None:
    X, y = rows(n, d)
    given, errors = loo_ridge.left_out(X, y)
    expected, expected_errors = by_refitting(X, y)
    assert given.tolist() == expected.tolist()
    assert len(set(given)) > 1
    np.testing.assert_allclose(errors, expected_errors, rtol=1e-3, atol=1e-4)


def test_noise_is_not_learnt_by_heart() -> None:
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(300, 900)), rng.integers(0, 2, 300)
    assert 0.35 < np.mean(loo_ridge.left_out(X, y)[0] == y) < 0.65


def test_columns_that_are_constant_say_nothing() -> None:
    X, y = rows(50, 4)
    with_constants = np.hstack([np.full((50, 1), 7.0), X, np.zeros((50, 2))])
    assert loo_ridge.left_out(with_constants, y)[0].tolist() == loo_ridge.left_out(X, y)[0].tolist()


def test_features_without_any_difference_give_the_commonest_class() -> None:
    y = np.array([0, 1, 1, 1, 0, 1])
    assert loo_ridge.left_out(np.ones((6, 3), np.float16), y)[0].tolist() == [1] * 6


def test_scales_of_the_columns_do_not_matter() -> None:
    X, y = rows(50, 6)
    assert loo_ridge.left_out(X * [1, 10, 100, 0.1, 1, 5], y)[0].tolist() == loo_ridge.left_out(X, y)[0].tolist()


@pytest.mark.parametrize("rows", [4, 600])
def test_what_is_not_finite_is_refused(rows: int) -> None:
    with pytest.raises(np.linalg.LinAlgError, match="did not converge"):
        loo_ridge.left_out(np.full((rows, rows), np.nan, np.float32), np.arange(rows) % 2)


def test_small_tables_that_are_nearly_collinear_are_decomposed_as_in_exact_arithmetic() -> None:
    rng = np.random.default_rng(5)
    X = (rng.normal(size=(60, 4)) @ rng.normal(size=(4, 40)) + 3e-3 * rng.normal(size=(60, 40))).astype(np.float32)
    y = rng.integers(0, 2, 60)
    X[:, 0] += y
    given, errors = loo_ridge.left_out(X, y)
    expected, expected_errors = by_refitting(X.astype(np.float64), y)
    assert given.tolist() == expected.tolist()
    assert errors.sum() == pytest.approx(expected_errors.sum(), rel=1e-2)
