"""Average, maximum and minimum over the segments of a clip."""

from typing import Any

import keras
from keras import ops


class SegmentPooling(keras.layers.Layer):
    """Base of the layers from `(batch, segments, features)` to `(batch, features)`.

    Masked segments have no influence, and the result of a clip without valid segments is zero. The output has no mask.
    Subclasses define `pool`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def pool(self, inputs: Any, mask: Any) -> Any:
        """Pool over the segments; `mask` is None or float, `(batch, segments, 1)`, 1 for a valid segment."""
        raise NotImplementedError(f"{type(self).__name__} must define `pool(inputs, mask)`")

    def call(self, inputs, mask=None):
        return self.pool(inputs, None if mask is None else ops.expand_dims(ops.cast(mask, inputs.dtype), axis=-1))

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])


@keras.saving.register_keras_serializable(package="kerastag")
class AveragePooling(SegmentPooling):
    """Average of the segments of a clip: `h = 1/|B| * sum over x in B of x`.

    Input shape: `(batch, segments, features)`.
    Output shape: `(batch, features)`.
    Mask: `(batch, segments)`; masked segments are not in `B`. The result of a clip without valid segments is zero.

    >>> ops.convert_to_numpy(AveragePooling()(ops.array([[[1.0], [3.0]]]))).tolist()
    [[2.0]]

    Reference: Kong et al., 2019, equation 10 (of probabilities, the collective assumption) and 14 (of embeddings).
    """

    def pool(self, inputs: Any, mask: Any) -> Any:
        if mask is None:
            return ops.mean(inputs, axis=1)
        return ops.sum(inputs * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1)


@keras.saving.register_keras_serializable(package="kerastag")
class MaxPooling(SegmentPooling):
    """Maximum of each feature over the segments of a clip: `a_m = max over x in B of x_m`.

    Shapes and mask are those of `AveragePooling`.

    >>> ops.convert_to_numpy(MaxPooling()(ops.array([[[1.0], [3.0]]]))).tolist()
    [[3.0]]

    Reference: Kong et al., 2019, equation 9 (of probabilities, the standard assumption) and 15 (of embeddings).
    """

    def pool(self, inputs: Any, mask: Any) -> Any:
        return _compute_extreme(inputs, mask, 1)


@keras.saving.register_keras_serializable(package="kerastag")
class MinPooling(SegmentPooling):
    """Minimum of each feature over the segments of a clip: `b_m = min over x in B of x_m`.

    Shapes and mask are those of `AveragePooling`.

    >>> ops.convert_to_numpy(MinPooling()(ops.array([[[1.0], [3.0]]]))).tolist()
    [[1.0]]

    Reference: Kong et al., 2019, equation 15.
    """

    def pool(self, inputs: Any, mask: Any) -> Any:
        return _compute_extreme(inputs, mask, -1)


def _compute_extreme(inputs: Any, mask: Any, sign: int) -> Any:
    """Compute the maximum (`sign` 1) or minimum (`sign` -1) of each feature over the valid segments."""
    largest = ops.max if sign > 0 else ops.min
    if mask is None:
        return largest(inputs, axis=1)
    # A bound that is finite in the dtype of every mixed policy.
    outside = ops.where(mask > 0, inputs, ops.cast(-sign * 3e4, inputs.dtype))
    return ops.where(ops.any(mask > 0, axis=1), largest(outside, axis=1), ops.cast(0, inputs.dtype))
