"""SpecAugment: blank random stripes of a spectrogram while training."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kerastag")
class SpecAugment(keras.layers.Layer):
    """Log-mel (batch, frames, mel_bins) -> the same with random stripes of frames and of mel bins set to one value.

        width ~ uniform{0, ..., max_width - 1},  start ~ uniform{0, ..., size - width}
        y[t, b] = mask_value where t lies in a time stripe or b in a frequency stripe, x[t, b] elsewhere

    Every clip of a batch has stripes of its own. Only while training: otherwise the input passes unchanged.

    Args:
        num_time_stripes, num_frequency_stripes: stripes along either axis, at least 0.
        max_time_width: bound of a time stripe's width, in frames, not reached; at least 1.
        max_frequency_width: bound of a frequency stripe's width, in mel bins, not reached; at least 1.
        mask_value: what a stripe is set to; 0 is the mean after the BatchNormalization that PANNs' models begin with.
        seed: integer, or a `keras.random.SeedGenerator`; None draws one.

    Input shape:
        (batch, frames, mel_bins), float. A mask of frames passes through unchanged.

    Output shape:
        That of the input.

    Raises:
        ValueError: an argument is outside its range; the input has not three axes.

    >>> x = keras.ops.ones((4, 100, 64))
    >>> bool(keras.ops.all(SpecAugment()(x) == x)), bool(keras.ops.all(SpecAugment(seed=0)(x, training=True) == x))
    (True, False)

    Reference:
        Park et al. 2019, section 2, without time warping. Widths as in PANNs (Kong et al. 2020): 2 stripes below 64
        frames and 2 below 8 bins are the defaults. A stripe wider than the input is cut to it.
    """

    def __init__(
        self,
        num_time_stripes: int = 2,
        max_time_width: int = 64,
        num_frequency_stripes: int = 2,
        max_frequency_width: int = 8,
        mask_value: float = 0.0,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_time_stripes = _at_least(0, "num_time_stripes", num_time_stripes)
        self.max_time_width = _at_least(1, "max_time_width", max_time_width)
        self.num_frequency_stripes = _at_least(0, "num_frequency_stripes", num_frequency_stripes)
        self.max_frequency_width = _at_least(1, "max_frequency_width", max_frequency_width)
        self.mask_value = mask_value
        self.seed = seed
        is_generator = isinstance(seed, keras.random.SeedGenerator)
        self.seed_generator = seed if is_generator else keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape):
        if len(input_shape) != 3:
            raise ValueError(f"`log_mel` must have the axes (batch, frames, mel_bins). Received: {tuple(input_shape)}")
        self.built = True

    def call(self, log_mel, training=False):
        if not training:
            return log_mel
        batch, frames, mel_bins = ops.shape(log_mel)
        in_time = self._stripes(batch, frames, self.num_time_stripes, self.max_time_width)
        in_frequency = self._stripes(batch, mel_bins, self.num_frequency_stripes, self.max_frequency_width)
        blank = ops.logical_or(in_time[:, :, None], in_frequency[:, None, :])
        return ops.where(blank, ops.cast(self.mask_value, log_mel.dtype), log_mel)

    def _stripes(self, batch, size, num_stripes: int, max_width: int):
        """Whether each of `size` positions lies in a stripe, (batch, size)."""
        draw = keras.random.uniform((2, batch, num_stripes, 1), seed=self.seed_generator, dtype="float32")
        size_float = ops.cast(size, "float32")
        width = ops.minimum(ops.floor(draw[0] * max_width), size_float)
        start = ops.floor(draw[1] * (size_float - width + 1))
        position = ops.cast(ops.arange(size), "float32")
        return ops.any(ops.logical_and(position >= start, position < start + width), axis=1)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        names = ("num_time_stripes", "max_time_width", "num_frequency_stripes", "max_frequency_width", "mask_value")
        seed = self.seed
        if isinstance(seed, keras.random.SeedGenerator):
            seed = keras.saving.serialize_keras_object(seed)
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "seed": seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SpecAugment:
        if isinstance(config.get("seed"), dict):
            config = {**config, "seed": keras.saving.deserialize_keras_object(config["seed"])}
        return cls(**config)


def _at_least(least: int, name: str, value: int) -> int:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {value!r}")
    return value
