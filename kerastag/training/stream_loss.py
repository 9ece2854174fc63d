"""The loss of a clip, for one stream or several."""

from typing import Any

import keras

__all__ = ["StreamLoss"]


class StreamLoss(keras.losses.BinaryCrossentropy):
    """Binary cross-entropy of the clip, summed over the streams of a model that has several.

    `L = L_global + L_local`, each the mean over clips and classes.

    Args:
        label_smoothing: Fraction of a target that is spread evenly, in [0, 1).

    Input shape: Targets `(batch, classes)`, and probabilities `(batch, classes)` or `(batch, classes, 1 + streams)`,
    of which the first column is the combined probability, which has no loss of its own.

    >>> p = keras.ops.convert_to_tensor([[0.5, 0.5]])
    >>> both = keras.ops.stack([0.0 * p, p, p], axis=-1)
    >>> round(float(StreamLoss()(p, p)), 3), round(float(StreamLoss()(p, both)), 3)
    (0.693, 1.386)

    Reference: Kong et al., 2019, equations 2 and 8; Wang et al., 2021, equations 4 to 6, which lack the minus sign.
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        if len(y_pred.shape) == 2:
            return super().call(y_true, y_pred)
        return sum(super(StreamLoss, self).call(y_true, y_pred[..., i]) for i in range(1, y_pred.shape[-1]))
