"""Batch normalization in one operation of TensorFlow instead of a dozen."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastag")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Features -> the same with zero mean and unit variance over the batch and all axes but the last.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`

    `keras.layers.BatchNormalization` in every respect: weights, arguments, masks, results. On TensorFlow, Keras
    composes it and its gradient of a dozen elementwise operations, each of which reads all features again; here one
    kernel takes the statistics and normalizes, and one is the gradient. With a mask, with an axis that is not the last,
    with `renorm` or `synchronized`, in float64, outside training and on another backend, whose compiler fuses by
    itself, Keras's own is what runs. On a CPU, TensorFlow joins the kernel with a ReLU that follows at once, and both
    together make 0 of NaN.

    Args:
        **kwargs: of `keras.layers.BatchNormalization`.

    Input shape: any, with a known last axis.
    Output shape: the same.

    >>> import numpy as np
    >>> y = FusedBatchNormalization(epsilon=1e-9)(np.array([[1.0], [3.0]], "float32"), training=True)
    >>> np.asarray(y).round(3).tolist()
    [[-1.0], [1.0]]

    Reference: Ioffe and Szegedy, 2015, algorithm 1.
    """

    def call(self, inputs, training=None, mask=None):
        learns = training and self.trainable
        if not learns or mask is not None or self.renorm or self.synchronized or not self._has_kernel(inputs):
            return super().call(inputs, training=training, mask=mask)
        rows = inputs if len(inputs.shape) == 4 else ops.reshape(inputs, (1, 1, -1, inputs.shape[-1]))
        normal, mean, variance = self._normalize(rows)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return normal if rows is inputs else ops.reshape(normal, ops.shape(inputs))

    def _has_kernel(self, inputs):
        return self.axis in (-1, len(inputs.shape) - 1) and has_kernel(inputs.dtype)

    def _normalize(self, rows):
        """`(batch, height, width, channels)` -> normalized, mean, variance; the latter two in float32."""
        import tensorflow as tf

        scale = tf.ones(rows.shape[-1:]) if self.gamma is None else self.gamma
        offset = tf.zeros(rows.shape[-1:]) if self.beta is None else self.beta
        normal, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=rows, scale=scale, offset=offset, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        # The operation's variance is the unbiased one, Keras's is not.
        count = tf.cast(tf.reduce_prod(tf.shape(rows, out_type="int64")[:-1]), "float32")
        return normal, mean, variance * (tf.maximum(count - 1, 1) / count)


def has_kernel(dtype: Any) -> bool:
    """Whether the backend has TensorFlow's kernel for batch normalization of numbers of that type; float64 has none."""
    return keras.backend.backend() == "tensorflow" and keras.backend.standardize_dtype(dtype) != "float64"
