"""SpecAugment: masking of random stripes of a spectrogram in training."""

from typing import Any

import keras
from keras import ops

from kerastag.layers._arguments import check_integer


@keras.saving.register_keras_serializable(package="kerastag")
class SpecAugment(keras.layers.Layer):
    """Masking of random stripes of frames and of mel bins in training.

        width ~ uniform{0, ..., max_width - 1},  start ~ uniform{0, ..., size - width}
        y[t, b] = mask_value where t lies in a time stripe or b in a frequency stripe, x[t, b] elsewhere

    Every clip of a batch has stripes of its own. Outside training the input is returned.

    Args:
        num_time_stripes: Number of stripes of frames, at least 0.
        max_time_width: Exclusive upper bound of the width of a stripe of frames, at least 1.
        num_frequency_stripes: Number of stripes of mel bins, at least 0.
        max_frequency_width: Exclusive upper bound of the width of a stripe of mel bins, at least 1.
        mask_value: Value in the stripes. 0 is the mean after the batch normalization at the input of PANNs' models.
        seed: Integer seed; None for a random one.

    Input shape: `(batch, frames, mel_bins)`, float.
    Output shape: that of the input.
    Mask: returned unchanged.

    Raises:
        ValueError: An argument is outside its range, or the input does not have three axes.

    >>> x = keras.ops.ones((4, 100, 64))
    >>> bool(keras.ops.all(SpecAugment()(x) == x)), bool(keras.ops.all(SpecAugment(seed=0)(x, training=True) == x))
    (True, False)

    Reference: Park et al., 2019, section 2, without time warping; the default numbers and widths are those of PANNs
    (Kong et al., 2020). A stripe is at most as wide as the input.
    """

    def __init__(
        self,
        num_time_stripes: int = 2,
        max_time_width: int = 64,
        num_frequency_stripes: int = 2,
        max_frequency_width: int = 8,
        mask_value: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_time_stripes = check_integer("num_time_stripes", num_time_stripes, 0)
        self.max_time_width = check_integer("max_time_width", max_time_width)
        self.num_frequency_stripes = check_integer("num_frequency_stripes", num_frequency_stripes, 0)
        self.max_frequency_width = check_integer("max_frequency_width", max_frequency_width)
        self.mask_value = mask_value
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(f"`log_mel` must have the axes (batch, frames, mel_bins); received: {tuple(input_shape)}")
        self.built = True

    def call(self, log_mel, training=False):
        if not training:
            return log_mel
        batch, frames, mel_bins = ops.shape(log_mel)
        in_time = self._draw_stripes(batch, frames, self.num_time_stripes, self.max_time_width)
        in_frequency = self._draw_stripes(batch, mel_bins, self.num_frequency_stripes, self.max_frequency_width)
        is_masked = ops.logical_or(in_time[:, :, None], in_frequency[:, None, :])
        return ops.where(is_masked, ops.cast(self.mask_value, log_mel.dtype), log_mel)

    def _draw_stripes(self, batch, size, num_stripes: int, max_width: int):
        """Return whether each of `size` positions is in a stripe, `(batch, size)`."""
        uniform = keras.random.uniform((2, batch, num_stripes, 1), seed=self.seed_generator, dtype="float32")
        size_float = ops.cast(size, "float32")
        width = ops.minimum(ops.floor(uniform[0] * max_width), size_float)
        start = ops.floor(uniform[1] * (size_float - width + 1))
        position = ops.cast(ops.arange(size), "float32")
        return ops.any(ops.logical_and(position >= start, position < start + width), axis=1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        widths = ("num_time_stripes", "max_time_width", "num_frequency_stripes", "max_frequency_width")
        return {**super().get_config(), **{name: getattr(self, name) for name in (*widths, "mask_value", "seed")}}
