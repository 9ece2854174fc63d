"""Average over the segments of a clip."""

from typing import Any

import keras
from keras import ops

from kerastag.layers.segment_pooling import SegmentPooling


@keras.saving.register_keras_serializable(package="kerastag")
class AveragePooling(SegmentPooling):
    """Average of the segments of a clip: `h = 1/|B| * sum over x in B of x`.

    Input shape: `(batch, segments, features)`.
    Output shape: `(batch, features)`.

    Mask: `(batch, segments)`; masked segments are not in `B`. The result of a clip without valid segments is zero.

    >>> import numpy as np
    >>> np.asarray(AveragePooling()(np.array([[[1.0], [3.0]]]))).tolist()
    [[2.0]]

    Reference: Kong et al., 2019, equation 10 (of probabilities, the collective assumption) and 14 (of embeddings).
    """

    def pool(self, inputs: Any, mask: Any) -> Any:
        if mask is None:
            return ops.mean(inputs, axis=1)
        count = ops.maximum(ops.sum(mask, axis=1), 1)
        return ops.sum(inputs * mask, axis=1) / count
