"""What the poolings over segments share: the mask, and one vector a clip out."""

from typing import Any

import keras
from keras import ops


class SegmentPooling(keras.layers.Layer):
    """Base of the layers that turn `(batch, segments, features)` into `(batch, features)`.

    A masked segment has no influence; a clip without a single valid segment gives zeros. The mask ends here: what
    follows sees one vector a clip. Subclasses write `pool(inputs, mask)`, where `mask` is None or float
    `(batch, segments, 1)`, 1 for a valid segment.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def pool(self, inputs: Any, mask: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must write `pool(inputs, mask)`")

    def call(self, inputs, mask=None):
        return self.pool(inputs, None if mask is None else ops.expand_dims(ops.cast(mask, inputs.dtype), axis=-1))

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2])


def extreme(inputs: Any, mask: Any, sign: int) -> Any:
    """The largest (`sign` 1) or smallest (`sign` -1) value of each feature over the valid segments."""
    largest = ops.max if sign > 0 else ops.min
    if mask is None:
        return largest(inputs, axis=1)
    # A bound that every number type of a mixed policy can hold.
    outside = ops.where(mask > 0, inputs, ops.cast(-sign * 3e4, inputs.dtype))
    return ops.where(ops.any(mask > 0, axis=1), largest(outside, axis=1), ops.cast(0, inputs.dtype))
