"""Batch normalization by one kernel of TensorFlow instead of a dozen operations."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastag")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over all axes but the last: `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`.

    It equals `keras.layers.BatchNormalization` in weights, arguments, masks and results, and trains faster on
    TensorFlow: one kernel computes the statistics and normalizes, and another is the gradient. The implementation of
    Keras is used with a mask, with an axis other than the last, with `renorm` or `synchronized`, in float64, outside
    training, and on other backends, whose compilers fuse by themselves. On a CPU, TensorFlow fuses the kernel with a
    ReLU that follows directly, and the result of both is 0 for NaN.

    Input shape: any, with a known last axis.
    Output shape: that of the input.

    >>> import numpy as np
    >>> y = FusedBatchNormalization(epsilon=1e-9)(np.array([[1.0], [3.0]], "float32"), training=True)
    >>> np.asarray(y).round(3).tolist()
    [[-1.0], [1.0]]

    Reference: Ioffe and Szegedy, 2015, algorithm 1.
    """

    def call(self, inputs, training=None, mask=None):
        is_plain = mask is None and not self.renorm and not self.synchronized
        is_last = self.axis in (-1, len(inputs.shape) - 1)
        if not (training and self.trainable and is_plain and is_last and has_kernel(inputs.dtype)):
            return super().call(inputs, training=training, mask=mask)
        rows = inputs if len(inputs.shape) == 4 else ops.reshape(inputs, (1, 1, -1, inputs.shape[-1]))
        normalized, mean, variance = self._normalize(rows)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return normalized if rows is inputs else ops.reshape(normalized, ops.shape(inputs))

    def _normalize(self, rows):
        """Normalize `(batch, height, width, channels)`; return the result, the mean and the variance, both float32."""
        import tensorflow as tf

        scale = tf.ones(rows.shape[-1:]) if self.gamma is None else self.gamma
        offset = tf.zeros(rows.shape[-1:]) if self.beta is None else self.beta
        normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=rows, scale=scale, offset=offset, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        # The kernel returns the unbiased variance; Keras uses the biased one.
        count = tf.cast(tf.reduce_prod(tf.shape(rows, out_type="int64")[:-1]), "float32")
        return normalized, mean, variance * (tf.maximum(count - 1, 1) / count)


def has_kernel(dtype: Any) -> bool:
    """Return whether the backend is TensorFlow and has a batch normalization kernel for `dtype`; float64 has none."""
    return keras.backend.backend() == "tensorflow" and keras.backend.standardize_dtype(dtype) != "float64"


def may_run_on_gpu() -> bool:
    """Return whether TensorFlow may run the next operation on a GPU: one of the current scope, or any that is visible.

    An operation of a function without a device of its own runs on the device where the function is called, which is not
    known when it is traced.
    """
    import tensorflow as tf

    device = tf.DeviceSpec.from_string(tf.zeros(()).device).device_type
    return device == "GPU" if device else bool(tf.config.list_logical_devices("GPU"))
