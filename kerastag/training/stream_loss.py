"""Binary cross-entropy on the clip, of one stream or of several."""

from typing import Any

import keras


class StreamLoss(keras.losses.BinaryCrossentropy):
    """Targets and probabilities of the clip -> binary cross-entropy, the sum over the streams where there are several.

    `L = L_global + L_local`, each the mean over clips and classes.

    Args:
        label_smoothing: share of a target that is spread evenly, in [0, 1).

    Input shape: targets `(batch, classes)`, and probabilities `(batch, classes)` or
    `(batch, classes, 1 + streams)`, of which the first is what the streams make together and is not trained on.

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
