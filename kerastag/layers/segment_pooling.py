"""Base of the poolings over the segments of a clip."""

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


def compute_extreme(inputs: Any, mask: Any, sign: int) -> Any:
    """Compute the maximum (`sign` 1) or minimum (`sign` -1) of each feature over the valid segments."""
    largest = ops.max if sign > 0 else ops.min
    if mask is None:
        return largest(inputs, axis=1)
    # A bound that is finite in the dtype of every mixed policy.
    outside = ops.where(mask > 0, inputs, ops.cast(-sign * 3e4, inputs.dtype))
    return ops.where(ops.any(mask > 0, axis=1), largest(outside, axis=1), ops.cast(0, inputs.dtype))
