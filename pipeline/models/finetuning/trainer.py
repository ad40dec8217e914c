"""Tail and head as they learn: which weights train and at which rate, one step, and all that a checkpoint must hold.

The steps are written out, and not left to ``Model.fit``: in Keras 3.15 an outer call with ``training=True``, which
``fit`` makes, overrules an inner ``training=False``. A base that was called in inference mode would then train with the
statistics of each batch and lose those it came with. Here the tail is called with what was asked for, whatever the head
is called with.

Built within the scope of a ``tf.distribute`` strategy, a tuner deals each batch out to the strategy's devices and adds
up their gradients: the step is that of one device, up to rounding. Two things are each device's own: what dropout
draws, and the statistics of a batch where BatchNorm trains.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.backbones import layer_graph
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.cutting import require_layers
from pipeline.models.assemble import weighted_layers
from pipeline.models.finetuning.settings import TuningSettings
from pipeline.models.store import LayerState

NO_DECAY: Final = ("bias", "gamma", "beta")


class Sums(NamedTuple):
    """What a batch adds up to: the mean loss, in nats, and how many rows were given their class."""

    loss: float
    right: int


class Tuner:
    """A network whose upper part learns.

    Parameters
    ----------
    trunk : keras.Model
        From pixels to features (B, d): everything below the head.
    lower : keras.Model or None
        From pixels to the activations at the cut, frozen; None if the rows are activations.
    tail : keras.Model
        From the activations to the features; its layers are those of `trunk`.
    head : keras.Model
        From features to logits (B, 1 or K).
    distance : dict of str to int
        How many blocks below the head a layer lies; the head is 0.
    n_classes : int
    settings : TuningSettings

    Raises
    ------
    InputError
        A layer to freeze is not in the tail; the message names the nearest.
    """

    def __init__(
        self,
        trunk: Any,
        lower: Any,
        tail: Any,
        head: Any,
        *,
        distance: dict[str, int],
        n_classes: int,
        settings: TuningSettings,
    ) -> None:
        self.trunk, self.lower, self.tail, self.head = trunk, lower, tail, head
        self.n_classes, self.settings = n_classes, settings
        self._set_trainable(settings.freeze)
        self._learning = [*weighted_layers(tail), *weighted_layers(head)]
        self.trained = [variable for layer in self._learning for variable in layer.trainable_variables]
        self._share = [
            settings.layer_decay ** distance.get(layer.name, 0)
            for layer in self._learning
            for _ in layer.trainable_variables
        ]
        self._optimizer = _optimizer(settings)
        self._optimizer.build(self.trained)
        import tensorflow as tf

        self._strategy = tf.distribute.get_strategy()
        fed = lower if lower is not None else tail
        signature = [
            tf.TensorSpec(fed.input.shape, fed.input.dtype),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.float32),
        ]
        compiled = partial(tf.function, autograph=False)  # no branch depends on a tensor: no source is to be rewritten
        self._train = compiled(partial(self._on_all, self._step), input_signature=signature)
        self._judge = compiled(partial(self._on_all, self._forward), input_signature=signature)
        self._infer = compiled(lambda rows: self._logits(rows, training=False), input_signature=signature[:1])

    def begin(self, epoch: int) -> None:
        """Seed all that is random in an epoch by its number, so that a resumed run draws what another would."""
        layers = [*self.tail.layers, *self.head.layers]
        states = [
            variable
            for layer in layers
            for variable in layer.variables
            if variable.path.endswith("seed_generator_state")
        ]
        drawn = np.random.default_rng((self.settings.seed, epoch, 1)).integers(0, 2**31, len(states))
        for state, number in zip(states, drawn, strict=True):
            state.assign(np.array([number, 0], dtype=state.dtype))

    def train(self, rows: Any, codes: NDArray[np.int64], weights: NDArray[np.float32], *, rate: float) -> Sums:
        """Take one step.

        `rows` (n, …) are activations in float32, or pixels in uint8 if there is a lower part; `codes` (n,) are their
        classes, `weights` (n,) theirs in the loss. `rate` is the learning rate of the head; layers below have their
        share of it.
        """
        self._optimizer.learning_rate = rate
        loss, right = self._train(rows, codes, weights)
        return Sums(float(loss), int(right))

    def judge(self, rows: Any, codes: NDArray[np.int64], weights: NDArray[np.float32]) -> Sums:
        """Return the loss and the hits of rows (see `train`), learning nothing."""
        loss, right = self._judge(rows, codes, weights)
        return Sums(float(loss), int(right))

    def logits(self, rows: Any) -> NDArray[np.float32]:
        """Return the logits (n, 1 or K) of rows (see `train`), as a model gives them."""
        return np.asarray(self._infer(rows))

    def weights(self) -> list[NDArray[Any]]:
        """Return copies of all weights of tail and head, in the order of their layers."""
        return [np.array(variable) for variable in self._weights()]

    def set_weights(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Put back what `weights` returned."""
        for variable, array in zip(self._weights(), arrays, strict=True):
            variable.assign(array)

    def optimizer_state(self) -> list[NDArray[Any]]:
        """Return copies of the optimizer's numbers."""
        return [np.array(variable) for variable in self._optimizer.variables]

    def set_optimizer_state(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Put back what `optimizer_state` returned."""
        for variable, array in zip(self._optimizer.variables, arrays, strict=True):
            variable.assign(array)

    def frozen_digest(self) -> str:
        """Return the sha256 of all weights that no step may change, those below the cut included."""
        changing = {id(variable) for variable in self._changing()}
        digest = hashlib.sha256()
        for layer in weighted_layers(self.trunk):
            for variable in layer.weights:
                if id(variable) not in changing:
                    digest.update(np.ascontiguousarray(variable).tobytes())
        return digest.hexdigest()

    def table(self) -> list[LayerState]:
        """List all layers with weights, from below, and how many of their numbers train."""
        return layer_states(self.trunk, self.head, learning={layer.name for layer in weighted_layers(self.tail)})

    def _set_trainable(self, freeze: Sequence[str]) -> None:
        tail = {layer.name: layer for layer in weighted_layers(self.tail)}
        require_layers("freeze", freeze, list(tail), "layers with weights above the cut")
        for layer in weighted_layers(self.trunk):
            layer.trainable = layer.name in tail and layer.name not in freeze

    def _weights(self) -> list[Any]:
        return [variable for layer in self._learning for variable in layer.weights]

    def _changing(self) -> list[Any]:
        """List the variables that steps change: in training mode, the moving statistics of what learns as well."""
        if self.settings.batch_norm == "inference":
            return self.trained
        return [variable for layer in self._learning if layer.trainable for variable in layer.weights]

    def _logits(self, rows: Any, *, training: bool) -> Any:
        if self.lower is not None:
            rows = self.lower(rows, training=False)
        features = self.tail(rows, training=training and self.settings.batch_norm == "train")
        return self.head(features, training=training)

    def _losses(self, logits: Any, codes: Any) -> Any:
        import tensorflow as tf

        keep = 1.0 - self.settings.label_smoothing
        if self.n_classes == 2:
            targets = keep * tf.cast(codes[:, None], tf.float32) + self.settings.label_smoothing / 2
            return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)[:, 0]
        targets = keep * tf.one_hot(codes, self.n_classes) + self.settings.label_smoothing / self.n_classes
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    def _right(self, logits: Any, codes: Any) -> Any:
        import tensorflow as tf

        return (
            tf.cast(logits[:, 0] > 0, tf.int64) == codes if self.n_classes == 2 else tf.argmax(logits, axis=1) == codes
        )

    def _on_all(self, function: Callable[..., tuple[Any, Any]], rows: Any, codes: Any, weights: Any) -> tuple[Any, Any]:
        """Run a function on every device, each with its share of the rows, and add up what they return."""
        import tensorflow as tf

        each = 1.0 / tf.cast(tf.shape(codes)[0], tf.float32)
        here = tf.ones_like(weights)
        devices = self._strategy.num_replicas_in_sync
        if devices == 1:
            return function(rows, codes, weights, here, each)
        # Rows that fill up the last round are repeated and count nothing.
        count = tf.shape(codes)[0]
        places = tf.range(-(-count // devices) * devices)
        here = tf.cast(places < count, tf.float32)

        def mine() -> tuple[Any, Any]:
            own = places[tf.distribute.get_replica_context().replica_id_in_sync_group :: devices]
            dealt = (tf.gather(whole, own % count) for whole in (rows, codes, weights))
            return function(*dealt, tf.gather(here, own), each)

        loss, right = self._strategy.run(mine)
        add = tf.distribute.ReduceOp.SUM
        return self._strategy.reduce(add, loss, axis=None), self._strategy.reduce(add, right, axis=None)

    def _sums(self, logits: Any, codes: Any, weights: Any, here: Any, each: Any) -> tuple[Any, Any]:
        """Return a device's part of the mean loss, penalties of the head included, and its hits."""
        import tensorflow as tf

        # The head's penalties count, as they did when it was trained.
        penalty = sum(self.head.losses, start=tf.constant(0.0)) / self._strategy.num_replicas_in_sync
        loss = each * tf.reduce_sum(here * weights * self._losses(logits, codes)) + penalty
        return loss, tf.reduce_sum(here * tf.cast(self._right(logits, codes), tf.float32))

    def _forward(self, rows: Any, codes: Any, weights: Any, here: Any, each: Any) -> tuple[Any, Any]:
        return self._sums(self._logits(rows, training=False), codes, weights, here, each)

    def _step(self, rows: Any, codes: Any, weights: Any, here: Any, each: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, right = self._sums(self._logits(rows, training=True), codes, weights, here, each)
        values = [variable.value for variable in self.trained]
        # Every optimizer's step is proportional to its rate: a smaller rate is a share of the step.
        slowed = [(variable, share) for variable, share in zip(self.trained, self._share, strict=True) if share != 1.0]
        before = [tf.identity(variable.value) for variable, _ in slowed]
        self._optimizer.apply(tape.gradient(loss, values), self.trained)  # of all devices: the optimizer adds them up
        for (variable, share), old in zip(slowed, before, strict=True):
            variable.assign(old + share * (variable.value - old))
        return loss, right


def distances(backbone: Backbone, trunk: Any) -> dict[str, int]:
    """Count for each layer of a trunk the blocks from the head down to its own: 1 for those of the topmost block.

    Blocks are those of the backbone's table, between two of its words for cuts.
    """
    ends = {layer for word, layer in backbone.cuts.items() if word.startswith("block-")}
    found, block = {}, 0
    for step in layer_graph.steps(trunk):
        found[step.name] = block
        block += step.name in ends
    return {name: block + 1 - place for name, place in found.items()}


def _optimizer(settings: TuningSettings) -> Any:
    from keras import optimizers

    kinds = {"adam": optimizers.Adam, "rmsprop": optimizers.RMSprop, "sgd": optimizers.SGD}
    kind = kinds[settings.optimizer]
    optimizer = kind(learning_rate=settings.learning_rate, weight_decay=settings.weight_decay or None)
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=list(NO_DECAY))
    return optimizer


def layer_states(trunk: Any, head: Any, *, learning: Collection[str]) -> list[LayerState]:
    """List all layers with weights of a trunk and a head, from below; `learning` names those of the trunk's tail."""
    states = [_state(layer, "tail" if layer.name in learning else "trunk") for layer in weighted_layers(trunk)]
    return [*states, *(_state(layer, "head") for layer in weighted_layers(head))]


def _state(layer: Any, place: str) -> LayerState:
    sizes = {id(variable): int(np.prod(variable.shape)) for variable in layer.weights}
    trained = sum(sizes[id(variable)] for variable in layer.trainable_weights)
    return LayerState(layer.name, layer_graph.kind(layer), place, sum(sizes.values()), trained)
