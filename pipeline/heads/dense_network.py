"""The Keras model of a dense head, in training; what is kept of it is arrays."""

from typing import Any, Literal, Protocol

import numpy as np

from pipeline.heads.standardise import outputs


class Described(Protocol):
    """The parameters of a dense head that its network is made of."""

    hidden: tuple[int, ...]
    activation: str
    dropout: float
    l1: float
    l2: float
    optimizer: Literal["adam", "rmsprop", "sgd"]
    learning_rate: float
    seed: int


def build(head: Described, n_features: int, n_classes: int) -> Any:
    """Build and compile the Keras model of a head: standardised features (n, d) float32 to logits (n, 1 or K)."""
    import keras

    widths = (*head.hidden, outputs(n_classes))
    # Keras' global seed would let what the process did before change the result: each layer gets its own seeds.
    seeds = np.random.SeedSequence(head.seed).generate_state(2 * len(widths)).tolist()
    layers: list[Any] = [keras.Input((n_features,))]
    for i, width in enumerate(widths):
        last = i == len(head.hidden)
        if head.dropout and (i > 0 or last):
            layers.append(keras.layers.Dropout(head.dropout, seed=seeds[2 * i], dtype="float32"))
        layers.append(
            keras.layers.Dense(
                width,
                activation=None if last else head.activation,
                kernel_initializer=keras.initializers.GlorotUniform(seed=seeds[2 * i + 1]),
                kernel_regularizer=keras.regularizers.L1L2(l1=head.l1, l2=head.l2),
                dtype="float32",
            )
        )
    network = keras.Sequential(layers)
    optimizers = {"adam": keras.optimizers.Adam, "rmsprop": keras.optimizers.RMSprop, "sgd": keras.optimizers.SGD}
    if n_classes == 2:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    # Compiling with XLA would take longer than the training of so small a network.
    network.compile(
        optimizers[head.optimizer](learning_rate=head.learning_rate), loss, metrics=[accuracy], jit_compile=False
    )
    return network
