"""tf.data pipelines over the samplers: the next batches are made while the model trains on this one."""

import tensorflow as tf

from kerastag.data.batches import Batches

_PREFETCHED = 4


def training_dataset(batches: Batches, start: int, stop: int) -> tf.data.Dataset:
    """Batches -> a tf.data pipeline over batches `start` to `stop - 1`, prefetched.

    Args:
        batches: what makes batch i.
        start: first batch, so that an interrupted run goes on with the very batch that came next.
        stop: one past the last.

    Returns:
        Dataset of `(embedding, target)`, float32 `(batch, segments, features)` and `(batch, classes)`.
    """
    # Not from_generator, which makes TensorFlow return freed memory to the system at every step: 20 % slower.
    shapes = [array.shape for array in batches.batch(start)]

    def batch(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        made = tf.numpy_function(batches.batch, [index], [tf.float32] * len(shapes))
        return tuple(tf.ensure_shape(array, shape) for array, shape in zip(made, shapes, strict=True))

    return tf.data.Dataset.range(start, stop).map(batch).prefetch(_PREFETCHED)
