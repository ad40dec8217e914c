"""The trainer of dense heads beside Keras' and beside finite differences."""

from typing import Any

import numpy as np
import pytest

from pipeline.heads.activations import ACTIVATIONS
from pipeline.heads.dense_layers import Stack, glorot
from pipeline.heads.solvers import dense_network
from pipeline.heads.solvers.dense_network import OPTIMIZERS, Network
from pipeline.heads.standardise import class_weights
from pipeline.models.assemble import head_network
from tests.heads.test_heads import blobs

PLAIN: dict[str, Any] = {"activation": "relu", "dropout": 0.0, "l1": 0.0, "l2": 0.0, "optimizer": "adam", "rate": 0.01}


def network(widths: tuple[int, ...] = (12, 8, 1), dtype: Any = np.float32, **changes: Any) -> Network:
    kernels = [kernel.astype(dtype) for kernel in glorot(widths, np.random.default_rng(0))]
    return Network(kernels, draw=np.random.default_rng(1), **(PLAIN | changes))


def keras_network(own: Network, **changes: Any) -> Any:
    """The same weights in Keras' layers, compiled as it would be by hand."""
    import keras

    chosen = PLAIN | changes
    width = len(own.kernels[0])
    described = {name: chosen[name] for name in ("activation", "dropout", "l1", "l2")}
    arrays = {"kernels": [one.copy() for one in own.kernels], "biases": [one.copy() for one in own.biases]}
    model = head_network(Stack(mean=np.zeros(width), scale=np.ones(width), **arrays, **described))
    found = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop, "sgd": keras.optimizers.SGD}
    if own.kernels[-1].shape[1] == 1:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    # Eagerly: to compile so many networks would take longer than to train them.
    model.compile(found[chosen["optimizer"]](chosen["rate"]), loss, metrics=[accuracy], run_eagerly=True)
    return model


@pytest.mark.parametrize(
    ("optimizer", "activation", "widths", "weighted", "l1", "l2"),
    [
        ("adam", "relu", (12, 8, 1), None, 0.0, 0.0),
        ("adam", "gelu", (12, 8, 5, 3), "balanced", 0.01, 0.02),
        ("adam", "selu", (12, 3), None, 0.0, 0.02),
        ("rmsprop", "tanh", (12, 8, 1), "balanced", 0.01, 0.0),
        ("rmsprop", "sigmoid", (12, 8, 3), None, 0.0, 0.02),
        ("sgd", "silu", (12, 1), "balanced", 0.0, 0.0),
        ("sgd", "elu", (12, 8, 5, 3), None, 0.01, 0.0),
    ],
)
def test_losses_and_accuracies_of_each_epoch_are_those_of_keras(
    optimizer: str,
    activation: str,
    widths: tuple[int, ...],
    weighted: Any,
    l1: float,
    l2: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dense_network, "PIECE", 40)  # five rows of a kernel at a time; the last piece is smaller
    n_classes = max(2, widths[-1])
    X, y = blobs(n_classes, n=90, separation=0.3)
    kept = (y == 0) | (np.arange(90) % 4 > 0)  # of the first class there are more
    X, y = X[kept] - 5, y[kept]
    weights = class_weights(y, weighted).astype(np.float32)[y]
    changes = {"optimizer": optimizer, "activation": activation, "l1": l1, "l2": l2}
    ours = network(widths, **changes)
    theirs = keras_network(ours, **changes)
    order, means = np.random.default_rng(2), []
    for _ in range(3):
        batches = np.split(order.permutation(len(X)), range(32, len(X), 32))
        means.append(np.mean([ours.train_on_batch(X[rows], y[rows], weights[rows]) for rows in batches], axis=0))
        expected = []
        for rows in batches:
            targets = y[rows][:, None].astype(np.float32) if n_classes == 2 else y[rows]
            log = theirs.train_on_batch(X[rows], targets, sample_weight=weights[rows], return_dict=True)
            expected.append((log["loss"], log["accuracy"]))
        np.testing.assert_allclose(means[-1], np.mean(expected, axis=0), rtol=1e-5)
    log = theirs.test_on_batch(X, y[:, None] if n_classes == 2 else y, sample_weight=weights, return_dict=True)
    np.testing.assert_allclose(ours.test_on_batch(X, y, weights), (log["loss"], log["accuracy"]), rtol=1e-5)
    assert abs(means[-1][0] - means[0][0]) > 1e-3 * means[0][0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(5, 1), (5, 4, 1), (5, 4, 3, 3)])
def test_gradients_are_those_of_finite_differences(
    activation: str, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of plain descent at rate 1 is the gradient."""
    monkeypatch.setattr(dense_network, "PIECE", 8)
    n_classes = max(2, widths[-1])
    X, y = np.random.default_rng(3).normal(size=(20, 5)), np.arange(20) % n_classes
    weights = np.linspace(0.5, 1.5, 20)
    made = {"dtype": np.float64, "activation": activation, "l1": 0.1, "l2": 0.2, "optimizer": "sgd", "rate": 1.0}
    before, after = network(widths, **made), network(widths, **made)
    for own in (before, after):
        for bias in own.biases:
            bias[:] = np.linspace(0.1, 0.2, len(bias))  # no unit is where its activation has a kink
    after.train_on_batch(X, y, weights)
    for array, stepped in zip(before.weights(), after.weights(), strict=True):
        for place in np.ndindex(array.shape):
            kept, losses = array[place], []
            for step in (1e-6, -1e-6):
                array[place] = kept + step
                losses.append(before.test_on_batch(X, y, weights)[0])
            array[place] = kept
            assert kept - stepped[place] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5, abs=1e-7)


def test_gradients_flow_through_what_dropout_left() -> None:
    """With the draws of a step repeated, its losses have the gradient that it took."""
    X, y, weights = np.random.default_rng(3).normal(size=(20, 5)), np.arange(20) % 2, np.ones(20)
    made = {"dtype": np.float64, "dropout": 0.5, "activation": "tanh", "optimizer": "sgd"}
    before, after = network((5, 4, 6, 1), **made), network((5, 4, 6, 1), **made, rate=1.0)
    after.train_on_batch(X, y, weights)
    for layer, place in ((0, (1, 2)), (1, (3, 0)), (2, (4, 0))):
        losses = []
        for step in (1e-6, -1e-6):
            moved = network((5, 4, 6, 1), **made)
            moved.kernels[layer][place] += step
            losses.append(moved.train_on_batch(X, y, weights)[0])
        taken = before.kernels[layer][place] - after.kernels[layer][place]
        assert taken == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    """One linear layer: what a step of descent adds to a kernel tells which inputs it saw."""
    own = network((20_000, 1), dropout=0.3, optimizer="sgd", rate=1.0)
    before = own.kernels[0].copy()
    own.kernels[0][:] = before[:] = 0
    own.train_on_batch(np.ones((1, 20_000), np.float32), np.array([0]), np.ones(1, np.float32))
    taken = (before - own.kernels[0])[:, 0] / 0.5
    assert (taken == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert np.unique(taken[taken != 0]) == pytest.approx([1 / 0.7])
    assert taken.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_size_of_the_pieces_changes_no_more_than_rounding(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = blobs(2)
    found = []
    for piece in (1, 30, 2**17):
        monkeypatch.setattr(dense_network, "PIECE", piece)
        own = network(optimizer=optimizer, l2=0.01)
        for _ in range(3):
            own.train_on_batch(X, y, np.ones(len(X), np.float32))
        found.append(own.kernels[0])
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], rtol=1e-4, atol=1e-6)


def test_losses_far_from_zero_neither_overflow_nor_vanish() -> None:
    for outputs, codes in (
        ([[30.0], [-30.0], [200.0]], [1, 0, 0]),
        ([[30.0, 0, 0], [0, 30, 0], [0, 200, 0]], [0, 1, 0]),
    ):
        losses, derivative, right = dense_network.cross_entropies(np.array(outputs, np.float32), np.array(codes))
        assert losses[2] == pytest.approx(200)
        assert np.isfinite(derivative).all()
        assert right == 2
        if len(outputs[0]) == 1:
            assert losses[:2] == pytest.approx(np.exp([-30.0, -30.0]), rel=1e-5, abs=0)
