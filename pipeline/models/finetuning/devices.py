"""What a network trains on: all GPUs of this machine together, else one device; its processor has oneDNN's kernels."""

import os
from typing import Any, Final

ONEDNN: Final = "TF_ENABLE_ONEDNN_OPTS"


def import_tensorflow() -> None:
    """Import TensorFlow with oneDNN's kernels, with which a step takes half the processor's time.

    They keep the memory of a tensor for the next one, where TensorFlow's own give it back to the system in each step.
    TensorFlow decides on import, and by itself takes them only on processors with AVX-512 VNNI or what came after it.
    A choice in the environment stands, and so does that of a process that has imported TensorFlow.
    """
    chosen = os.environ.get(ONEDNN)
    os.environ[ONEDNN] = chosen or "1"
    try:
        import tensorflow  # noqa: F401
    finally:
        if chosen is None:
            del os.environ[ONEDNN]


def strategy() -> Any:
    """Return how training is spread: mirrored over the GPUs if there are several, else TensorFlow's own choice.

    Within its ``scope()`` networks are built; each device then holds a copy of every weight.
    """
    import tensorflow as tf

    several = [device.name for device in tf.config.list_logical_devices("GPU")]
    return tf.distribute.MirroredStrategy(several) if len(several) > 1 else tf.distribute.get_strategy()
