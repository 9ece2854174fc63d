"""Attention over the positions and the channels of a feature map."""

from typing import Any

import keras
from keras import layers, ops

from kerastag.layers._arguments import check_integer

_FEWEST_UNITS = 4


@keras.saving.register_keras_serializable(package="kerastag")
class SpatialChannelAttention(keras.layers.Layer):
    """Amplification of a feature map by three sigmoid gates: `y = x * (1 + g * l * c)`.

    - The global spatial gate `g = sigmoid(conv([mean_c x, max_c x]))`, `(batch, frames, bins, 1)`, finds the region of
      an event.
    - The local gate along time `l = sigmoid(conv_t(mean_f x))`, `(batch, frames, 1, 1)`, finds its onset and offset.
    - The channel gate is `c = sigmoid(W2 relu(W1 mean_tf x))`, `(batch, 1, 1, channels)`.

    The gates are computed in float32 under every dtype policy.

    Args:
        reduction: Divisor of the number of channels, at least 1, that gives the number of hidden units of the channel
            gate, at least 4.
        kernel_size: Side of the convolution of the global gate, an odd number.
        time_kernel_size: Length of the convolution of the local gate in frames, an odd number.

    Input shape: `(batch, frames, bins, channels)`.
    Output shape: that of the input.

    Raises:
        ValueError: An argument is outside its range.

    >>> tuple(SpatialChannelAttention()(ops.ones((2, 5, 8, 16))).shape)
    (2, 5, 8, 16)

    Reference: Hong et al., "Weakly labelled audio tagging via convolutional networks with spatial and channel-wise
    attention", 2020: spatial attention in a global and a local part, with channel-wise attention. Deviation: our
    sources have its abstract only, which does not state the layers; those above are a guess.
    """

    def __init__(self, reduction: int = 16, kernel_size: int = 7, time_kernel_size: int = 3, **kwargs: Any):
        super().__init__(**kwargs)
        self.reduction = check_integer("reduction", reduction)
        self.kernel_size = check_integer("kernel_size", kernel_size, odd=True)
        self.time_kernel_size = check_integer("time_kernel_size", time_kernel_size, odd=True)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise ValueError(f"`inputs` must have shape (batch, frames, bins, channels); received: {input_shape}")
        channels = input_shape[-1]
        hidden = max(_FEWEST_UNITS, channels // self.reduction)
        self.region = layers.Conv2D(1, self.kernel_size, padding="same", dtype="float32", name="region")
        self.boundary = layers.Conv1D(1, self.time_kernel_size, padding="same", dtype="float32", name="boundary")
        self.squeeze = layers.Dense(hidden, activation="relu", dtype="float32", name="squeeze")
        self.excite = layers.Dense(channels, dtype="float32", name="excite")
        self.region.build((None, None, None, 2))
        self.boundary.build((None, None, channels))
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, "float32")
        over_channels = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
        g = ops.sigmoid(self.region(ops.concatenate(over_channels, axis=-1)))  # (batch, frames, bins, 1)
        l = ops.sigmoid(self.boundary(ops.mean(x, axis=2)))  # noqa: E741 - letter of the formula; (batch, frames, 1)
        c = ops.sigmoid(self.excite(self.squeeze(ops.mean(x, axis=(1, 2)))))  # (batch, channels)
        gate = g * ops.expand_dims(l, 2) * ops.expand_dims(c, (1, 2))
        return ops.cast(x * (1.0 + gate), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        names = ("reduction", "kernel_size", "time_kernel_size")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
