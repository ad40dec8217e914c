"""On which devices a network trains: all GPUs of this machine together, else one device."""

from typing import Any


def strategy() -> Any:
    """Return how training is spread: mirrored over the GPUs if there are several, else TensorFlow's own choice.

    Returns
    -------
    tf.distribute.Strategy
        Within its ``scope()`` networks are built; each device then holds a copy of every weight.
    """
    import tensorflow as tf

    several = [device.name for device in tf.config.list_logical_devices("GPU")]
    return tf.distribute.MirroredStrategy(several) if len(several) > 1 else tf.distribute.get_strategy()
