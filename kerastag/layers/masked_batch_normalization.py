"""Batch normalization that leaves padding out of its statistics and is cheap on a CPU."""

from typing import Any

import keras
from keras import ops

from kerastag.layers.fused_batch_normalization import has_kernel


@keras.saving.register_keras_serializable(package="kerastag")
class MaskedBatchNormalization(keras.layers.Layer):
    """Features of segments or clips -> the same with zero mean and unit variance over the valid ones of the batch.

    `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`

    The same model as `keras.layers.BatchNormalization`, with the mean and the mean square taken as products of the
    mask with the features: one matrix product each, several times faster than a masked reduction. In training the
    statistics are those of the batch, and the gradient is written out; otherwise they are the moving averages.

    Args:
        momentum: share of the moving average that one batch leaves in place, in [0, 1].
        epsilon: added to the variance, above 0.

    Input shape: `(batch, features)` or `(batch, segments, features)`.
    Output shape: the same.

    Masked segments are normalized like the others but do not enter the statistics.

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
        if not training:
            scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
            shift = self.beta - self.moving_mean * scale
            return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))  # (batch * segments, features)
        valid = ops.ones_like(rows[:, :1]) if mask is None else ops.reshape(ops.cast(mask, rows.dtype), (-1, 1))
        mean, variance = _statistics(ops.stop_gradient(rows), valid)
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        inverse = ops.rsqrt(variance + self.epsilon)
        scale = self.gamma * inverse
        normal = _normalize(rows, scale, self.beta - mean * scale, valid, mean, inverse)
        return ops.reshape(normal, ops.shape(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


def _affine(rows, scale, shift):
    """`scale * rows + shift`, for which TensorFlow has a kernel that passes over the rows once and not twice."""
    if not has_kernel(rows.dtype):
        return rows * ops.cast(scale, rows.dtype) + ops.cast(shift, rows.dtype)
    import tensorflow as tf

    zeros, ones = tf.zeros_like(shift), tf.ones_like(scale)
    normal, *_ = tf.raw_ops.FusedBatchNormV3(
        x=_images(rows), scale=scale, offset=shift, mean=zeros, variance=ones, epsilon=0.0, is_training=False
    )
    return ops.reshape(normal, ops.shape(rows))


def _affine_gradient(upstream, rows, scale):
    """The gradients of the rows, the scale and the shift of `_affine`, the latter two in float32."""
    if not has_kernel(rows.dtype):
        every = ops.ones_like(rows[:, :1])
        return upstream * ops.cast(scale, rows.dtype), _sums(every, upstream * rows), _sums(every, upstream)
    import tensorflow as tf

    d_rows, d_scale, d_shift, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=_images(upstream),
        x=_images(rows),
        scale=scale,
        reserve_space_1=tf.zeros_like(scale),  # the mean
        reserve_space_2=tf.ones_like(scale),  # the variance
        reserve_space_3=[],
        epsilon=0.0,
        is_training=False,
    )
    return ops.reshape(d_rows, ops.shape(rows)), d_scale, d_shift


def _images(rows):
    """`(rows, features)` -> `(rows, height, width, features)`, which TensorFlow's kernels take."""
    return ops.reshape(rows, (-1, 1, 1, rows.shape[-1]))


def _sums(column, rows):
    """`(rows, 1)` and `(rows, features)` -> the sums of the rows weighted by the column, `(features,)` in float32."""
    return ops.cast(ops.matmul(ops.transpose(column), rows), "float32")[0]


def _count(valid):
    return ops.maximum(ops.sum(ops.cast(valid, "float32")), 1)


def _statistics(rows, valid):
    """Mean and variance of the valid rows."""
    count = _count(valid)
    mean, mean_square = _sums(valid, rows) / count, _sums(valid, ops.square(rows)) / count
    return mean, ops.maximum(mean_square - ops.square(mean), 0)


@ops.custom_gradient
def _normalize(rows, scale, shift, valid, mean, inverse):
    """`scale * rows + shift`, whose gradient knows that both are functions of the valid rows' mean and deviation.

    With `d` the gradient of the output and `x'` the rows less their mean, times the inverse of their deviation,

        d_rows = scale * (d - valid * (sum(d) + x' * sum(d * x')) / count)

    which passes over the features fewer times than a gradient taken step by step. The other arguments are constants.
    """

    def gradient(upstream):
        d_rows, d_scale, d_shift = _affine_gradient(upstream, rows, scale)
        per_row = scale / _count(valid)
        slope = per_row * ops.square(inverse) * (d_scale - mean * d_shift)
        of_statistics = _affine(rows, slope, per_row * d_shift - slope * mean) * valid
        return (
            d_rows - of_statistics,
            d_scale,
            d_shift,
            ops.zeros_like(valid),
            ops.zeros_like(mean),
            ops.zeros_like(inverse),
        )

    return _affine(rows, scale, shift), gradient
