"""Linear softmax pooling over the frames of a clip."""

from typing import Any

import keras
from keras import ops

_SMALLEST = 1e-7


@keras.saving.register_keras_serializable(package="kerastag")
class LinearSoftmaxPooling(keras.layers.Layer):
    """Mean of the probabilities of the frames, each frame weighted by its own probability.

    `y_k = sum_t p_tk^2 / sum_t p_tk`, computed in float32 under every dtype policy.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, classes)`, in [0, 1].
    Output shape: `(batch, classes)`, float32.
    Mask: `(batch, frames)`; masked frames are ignored, and the output has no mask.

    >>> round(float(LinearSoftmaxPooling()(ops.array([[[0.5], [1.0], [0.0]]]))[0, 0]), 3)
    0.833

    Reference: Wang, Li and Metze, A comparison of five multiple instance learning pooling functions, 2019,
    table 1. Deviation: the divisor is at least 1e-7, so that the result of zeros is zero.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        probabilities = ops.cast(inputs, keras.backend.result_type(self.compute_dtype, "float32"))
        if mask is not None:
            probabilities = ops.where(ops.expand_dims(mask, -1), probabilities, 0.0)
        total = ops.sum(probabilities, axis=1)
        return ops.sum(ops.square(probabilities), axis=1) / ops.maximum(total, _SMALLEST)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None

    def compute_output_spec(self, inputs: Any, mask: Any = None) -> keras.KerasTensor:
        if len(inputs.shape) != 3:
            raise ValueError(f"`inputs` must have shape (batch, frames, classes); received: {tuple(inputs.shape)}")
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        return keras.KerasTensor((inputs.shape[0], inputs.shape[2]), dtype=dtype)
