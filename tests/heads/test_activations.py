"""Activations and their derivatives, beside Keras and beside finite differences."""

import numpy as np
import pytest

from pipeline.heads.activations import ACTIVATIONS, DERIVATIVES


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_those_of_keras_far_from_zero_too(name: str) -> None:
    import keras

    x = np.linspace(-200, 200, 4001, dtype=np.float32)
    received = ACTIVATIONS[name](x)
    assert received.dtype == np.float32
    expected = np.asarray(getattr(keras.activations, name)(keras.ops.convert_to_tensor(x)))
    np.testing.assert_allclose(received, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_its_derivative_in_the_precision_that_it_is_given(name: str) -> None:
    x, step = np.linspace(-4, 4, 40), 1e-5
    numeric = (ACTIVATIONS[name](x + step) - ACTIVATIONS[name](x - step)) / (2 * step)
    found = DERIVATIVES[name](x)
    assert found == pytest.approx(numeric, rel=1e-6, abs=1e-9)
    single = DERIVATIVES[name](x.astype(np.float32))
    assert (found.dtype, single.dtype) == (np.float64, np.float32)
    assert single == pytest.approx(found, rel=1e-5, abs=1e-6)
    assert DERIVATIVES.keys() == ACTIVATIONS.keys()
