"""What is joined computes what its parts compute."""

import numpy as np
import pytest

from pipeline.backbones import cutting, weights
from pipeline.heads.dense_layers import Stack
from pipeline.heads.registry import HEADS
from pipeline.heads.standardise import probabilities
from pipeline.models import assemble
from tests import fakes
from tests.heads.test_heads import blobs, fitted


@pytest.mark.parametrize("name", [name for name in HEADS if name != "knn"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_head_as_keras_layers_gives_its_probabilities(name: str, n_classes: int) -> None:
    head = fitted(name, n_classes)
    X, _ = blobs(n_classes, seed=5)
    network = assemble.head_network(head.stack())
    np.testing.assert_allclose(probabilities(np.array(network(X))), head.predict_proba(X), atol=2e-6)
    assert next(layer.name for layer in assemble.weighted_layers(network)) == "head_dense_0"


def test_a_renewed_stack_has_random_kernels_and_keeps_the_standardisation_of_the_same_features() -> None:
    stack = fitted("dense", 3).stack()
    again = stack.renewed(12, seed=1)
    assert np.array_equal(again.mean, stack.mean)
    assert [kernel.shape for kernel in again.kernels] == [(12, 8), (8, 3)]
    assert not any(np.array_equal(new, old) for new, old in zip(again.kernels, stack.kernels, strict=True))
    assert all(not bias.any() for bias in again.biases)
    assert np.array_equal(stack.renewed(12, seed=1).kernels[0], again.kernels[0])
    other = stack.renewed(5, seed=1)
    assert (other.kernels[0].shape, other.mean.tolist(), other.scale.tolist()) == ((5, 8), [0.0] * 5, [1.0] * 5)


@pytest.mark.parametrize("widths", [(1,), (3,)])
def test_the_joined_network_gives_probabilities_and_has_no_nested_layers(widths: tuple[int, ...]) -> None:
    fakes.register_tiny()
    plan = fakes.plan(size=32, backbone="tiny")
    base = weights.load(plan.backbone, size=32, alpha=1.0, weights=plan.weights)
    trunk = assemble.flat(cutting.trunk(plan.backbone, base, cut="block-1", pooling="none"))
    draw = np.random.default_rng(0)
    stack = Stack(
        mean=np.zeros(512),
        scale=np.ones(512),
        kernels=[draw.normal(size=(512, widths[0])).astype(np.float32)],
        biases=[draw.normal(size=widths).astype(np.float32)],
        activation="linear",
        dropout=0.0,
        l1=0.0,
        l2=0.0,
    )
    head = assemble.head_network(stack)
    pixels = draw.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    expected = probabilities(np.array(head(trunk(pixels))))
    network = assemble.join(trunk, head)
    np.testing.assert_allclose(np.array(network(pixels)), expected, atol=1e-6)
    assert not any(hasattr(layer, "layers") for layer in network.layers)
    names = [layer.name for layer in network.layers]
    assert len(set(names)) == len(names)
