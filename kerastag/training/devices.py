"""The devices that training runs on, and determinism."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

__all__ = ["build_scope", "enable_determinism", "model_scope"]


def build_scope(batch_size: int) -> AbstractContextManager:
    """Return the context to build a model in: mirrored on the visible GPUs, or none for a single device.

    On TensorFlow this is `tf.distribute.MirroredStrategy`; on JAX, `keras.distribution.DataParallel` is switched on for
    the process. Each GPU gets its share of every batch.

    Args:
        batch_size: Number of clips in a batch.

    Raises:
        ValueError: On JAX, a batch does not divide into as many shares as there are devices in all processes.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        if len(tf.config.list_physical_devices("GPU")) > 1:
            return tf.distribute.MirroredStrategy().scope()
    elif backend == "jax" and (num_devices := len(keras.distribution.list_devices())) > 1:
        if batch_size % num_devices:
            raise ValueError(f"`batch_size` must be a multiple of {num_devices}, the devices; received: {batch_size}")
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
