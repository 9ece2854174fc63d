"""The devices that training runs on, and determinism."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

__all__ = ["build_scope", "enable_determinism", "model_scope"]


def build_scope() -> AbstractContextManager:
    """Return the context to build a model in: mirrored on the visible GPUs, or none for a single device.

    On TensorFlow this is `tf.distribute.MirroredStrategy`; on JAX, `keras.distribution.DataParallel` is switched on for
    the process. Each GPU gets its share of every batch.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if len(tf.config.list_physical_devices("GPU")) > 1:
            return tf.distribute.MirroredStrategy().scope()
    elif backend == "jax" and len(keras.distribution.list_devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    return nullcontext()


def model_scope(model: Any) -> AbstractContextManager[object]:
    """Return the context that a model was built in, for variables that belong with its own."""
    return model.distribute_strategy.scope() if keras.backend.backend() == "tensorflow" else nullcontext()


def enable_determinism() -> None:
    """Make operations return the same bits every time, which an exact resume needs."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
