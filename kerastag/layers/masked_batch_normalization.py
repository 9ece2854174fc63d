"""Batch normalisation that leaves padding out of its statistics and is cheap on a CPU."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastag")
class MaskedBatchNormalization(keras.layers.Layer):
    """Features of segments or clips -> the same with zero mean and unit variance over the valid ones of the batch.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`

    The same model as `keras.layers.BatchNormalization`, with the mean and the mean square taken as products of the
    mask with the features: one matrix product each, several times faster than a masked reduction. In training the
    statistics are those of the batch; otherwise the moving averages.

    Args:
        momentum: share of the moving average that one batch leaves in place, in [0, 1].
        epsilon: added to the variance, above 0.

    Input shape: `(batch, features)` or `(batch, segments, features)`.
    Output shape: the same.

    Masked segments are normalised like the others but do not enter the statistics.

    Raises:
        ValueError: `momentum` or `epsilon` out of range.

    >>> import numpy as np
    >>> y = MaskedBatchNormalization(epsilon=1e-9)(np.array([[1.0], [3.0]]), training=True)
    >>> np.asarray(y).round(3).tolist()
    [[-1.0], [1.0]]

    Reference: Ioffe and Szegedy, 2015, algorithm 1. The variance is the mean square less the squared mean, which
    in bfloat16 is good to a percent where the mean is not far above the deviation, as after a dense layer.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs: Any) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1], received {momentum!r}")
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be above 0, received {epsilon!r}")
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon
        self.supports_masking = True

    def build(self, input_shape):
        shape = (input_shape[-1],)
        in_float32 = {"shape": shape, "dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **in_float32)
        self.beta = self.add_weight(name="beta", initializer="zeros", **in_float32)
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", trainable=False, **in_float32)
        self.moving_variance = self.add_weight(
            name="moving_variance", initializer="ones", trainable=False, **in_float32
        )

    def call(self, inputs, training=False, mask=None):
        if training:
            mean, variance = self._batch_statistics(inputs, mask)
            for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + now * (1 - self.momentum))
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        shift = self.beta - mean * scale
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)

    def _batch_statistics(self, inputs, mask):
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))  # (batch * segments, features)
        if mask is None:
            valid = ops.ones_like(rows[:, :1])
        else:
            valid = ops.reshape(ops.cast(mask, rows.dtype), (-1, 1))
        count = ops.maximum(ops.sum(ops.cast(valid, "float32")), 1)
        valid = ops.transpose(valid)  # (1, batch * segments)
        mean = ops.cast(ops.matmul(valid, rows), "float32")[0] / count
        mean_square = ops.cast(ops.matmul(valid, ops.square(rows)), "float32")[0] / count
        return mean, ops.maximum(mean_square - ops.square(mean), 0)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}
