"""Dropout with a rate of one half, from one random bit per unit."""

from typing import Any

import keras
import numpy as np
from keras import ops

_BITS = 16


@keras.saving.register_keras_serializable(package="kerastag")
class HalfDropout(keras.layers.Layer):
    """Dropout with a rate of one half: `y = 2 * b * x` in training, where `b` is a fair random bit per unit.

    The distribution is that of `keras.layers.Dropout(0.5)`, from a sixteenth of its random numbers: a random 16-bit
    word is the index into a table of all 65,536 masks of sixteen units. Outside training the input is returned.

    Args:
        seed: Integer seed; None for a random one.

    Input shape: any, with a known last axis.
    Output shape: that of the input.
    Mask: returned unchanged.

    >>> import numpy as np
    >>> y = np.asarray(HalfDropout(seed=0)(np.ones((100, 100), "float32"), training=True))
    >>> sorted(set(y.ravel().tolist())), bool(0.95 < y.mean() < 1.05)
    ([0.0, 2.0], True)

    Reference: Srivastava et al., 2014. Deviation: units are scaled in training instead of in prediction.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def call(self, inputs, training=False):
        if not training:
            return inputs
        *rows, features = ops.shape(inputs)
        words = -(-features // _BITS)
        indices = keras.random.randint((*rows, words), 0, 1 << _BITS, dtype="int32", seed=self.seed_generator)
        masks = ops.take(ops.cast(_list_masks(), inputs.dtype), indices, axis=0)  # (..., words, 16)
        return inputs * ops.reshape(masks, (*rows, words * _BITS))[..., :features]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


def _list_masks():
    """Return the table of all masks, whose row w has the bits of w as 0 or 2."""
    words = np.arange(1 << _BITS, dtype=np.int32)
    return (2 * (words[:, None] >> np.arange(_BITS) & 1)).astype(np.float32)
