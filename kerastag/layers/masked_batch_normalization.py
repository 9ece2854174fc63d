"""Batch normalization whose statistics exclude padding, and which is fast on a CPU."""

from typing import Any

import keras
from keras import ops

from kerastag.layers.fused_batch_normalization import has_kernel, may_run_on_gpu


@keras.saving.register_keras_serializable(package="kerastag")
class MaskedBatchNormalization(keras.layers.Layer):
    """Batch normalization over the valid segments: `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`.

    The model is that of `keras.layers.BatchNormalization`. The mean and the mean square are products of the mask with
    the features, one matrix product each, which is several times faster than a masked reduction, and the layer has a
    custom gradient. In training the statistics are those of the batch, otherwise the moving averages.

    Args:
        momentum: Weight of the former moving average when a batch updates it, in [0, 1].
        epsilon: Number added to the variance, above 0.

    Input shape: `(batch, features)` or `(batch, segments, features)`.
    Output shape: that of the input.
    Mask: `(batch, segments)`; masked segments are normalized like the others but are not part of the statistics.

    Raises:
        ValueError: `momentum` or `epsilon` is outside its range.

    >>> import numpy as np
    >>> y = MaskedBatchNormalization(epsilon=1e-9)(np.array([[1.0], [3.0]]), training=True)
    >>> np.asarray(y).round(3).tolist()
    [[-1.0], [1.0]]

    Reference: Ioffe and Szegedy, 2015, algorithm 1. Deviation: the variance is the mean square minus the squared mean,
    which in bfloat16 is accurate to one percent where the mean does not far exceed the standard deviation.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs: Any) -> None:
        if not 0 <= momentum <= 1:
            raise ValueError(f"`momentum` must be in [0, 1]; received: {momentum!r}")
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be above 0; received: {epsilon!r}")
        super().__init__(**kwargs)
        self.momentum, self.epsilon = momentum, epsilon
        self.supports_masking = True

    def build(self, input_shape):
        common = {"shape": (input_shape[-1],), "dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **common)
        self.beta = self.add_weight(name="beta", initializer="zeros", **common)
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", trainable=False, **common)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", trainable=False, **common)

    def call(self, inputs, training=False, mask=None):
        if not training:
            scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
            shift = self.beta - self.moving_mean * scale
            return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))  # (batch * segments, features)
        valid = ops.ones_like(rows[:, :1]) if mask is None else ops.reshape(ops.cast(mask, rows.dtype), (-1, 1))
        mean, variance = _compute_statistics(ops.stop_gradient(rows), valid)
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        inverse = ops.rsqrt(variance + self.epsilon)
        scale = self.gamma * inverse
        normalized = _normalize(rows, scale, self.beta - mean * scale, valid, mean, inverse)
        return ops.reshape(normalized, ops.shape(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


def _transform(rows, scale, shift):
    """Compute `scale * rows + shift`, on TensorFlow with one kernel that reads the rows once."""
    if not has_kernel(rows.dtype):
        return rows * ops.cast(scale, rows.dtype) + ops.cast(shift, rows.dtype)
    import tensorflow as tf

    zeros, ones = tf.zeros_like(shift), tf.ones_like(scale)
    result, *_ = tf.raw_ops.FusedBatchNormV3(
        x=_as_images(rows), scale=scale, offset=shift, mean=zeros, variance=ones, epsilon=0.0, is_training=False
    )
    return ops.reshape(result, ops.shape(rows))


def _transform_gradient(upstream, rows, scale):
    """Compute the gradients of the rows, the scale and the shift of `_transform`, the latter two in float32."""
    if not has_kernel(rows.dtype) or may_run_on_gpu():
        # Without statistics of a batch, the kernel for GPUs has no deterministic gradient, and refuses to compute one.
        ones = ops.ones_like(rows[:, :1])
        return upstream * ops.cast(scale, rows.dtype), _sum_rows(ones, upstream * rows), _sum_rows(ones, upstream)
    import tensorflow as tf

    d_rows, d_scale, d_shift, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=_as_images(upstream),
        x=_as_images(rows),
        scale=scale,
        reserve_space_1=tf.zeros_like(scale),  # the mean
        reserve_space_2=tf.ones_like(scale),  # the variance
        reserve_space_3=[],
        epsilon=0.0,
        is_training=False,
    )
    return ops.reshape(d_rows, ops.shape(rows)), d_scale, d_shift


def _as_images(rows):
    """Reshape `(rows, features)` to `(rows, height, width, features)`, as TensorFlow's kernels require."""
    return ops.reshape(rows, (-1, 1, 1, rows.shape[-1]))


def _sum_rows(weights, rows):
    """Sum `(rows, features)` weighted by `(rows, 1)`; return `(features,)` in float32."""
    return ops.cast(ops.matmul(ops.transpose(weights), rows), "float32")[0]


def _count(valid):
    return ops.maximum(ops.sum(ops.cast(valid, "float32")), 1)


def _compute_statistics(rows, valid):
    """Compute the mean and the variance of the valid rows."""
    count = _count(valid)
    mean, mean_square = _sum_rows(valid, rows) / count, _sum_rows(valid, ops.square(rows)) / count
    return mean, ops.maximum(mean_square - ops.square(mean), 0)


@ops.custom_gradient
def _normalize(rows, scale, shift, valid, mean, inverse):
    """Compute `scale * rows + shift`, where both depend on the mean and the deviation of the valid rows.

    With the gradient `d` of the output and the normalized rows `x' = (rows - mean) * inverse`,

        d_rows = scale * (d - valid * (sum(d) + x' * sum(d * x')) / count)

    which reads the features fewer times than automatic differentiation. `valid`, `mean` and `inverse` are constants.
    """

    def gradient(upstream):
        d_rows, d_scale, d_shift = _transform_gradient(upstream, rows, scale)
        per_row = scale / _count(valid)
        slope = per_row * ops.square(inverse) * (d_scale - mean * d_shift)
        d_statistics = _transform(rows, slope, per_row * d_shift - slope * mean) * valid
        return d_rows - d_statistics, d_scale, d_shift, *map(ops.zeros_like, (valid, mean, inverse))

    return _transform(rows, scale, shift), gradient
