"""Minimum over the segments of a clip."""

from typing import Any

import keras

from kerastag.layers.segment_pooling import SegmentPooling, extreme


@keras.saving.register_keras_serializable(package="kerastag")
class MinPooling(SegmentPooling):
    """Segments of a clip -> the smallest value of each feature.

    `b_m = min over x in B of x_m`

    Input shape: `(batch, segments, features)`.
    Output shape: `(batch, features)`.

    Masked segments are never the smallest; a clip without valid segments gives zeros.

    >>> import numpy as np
    >>> np.asarray(MinPooling()(np.array([[[1.0], [3.0]]]))).tolist()
    [[1.0]]

    Reference: Kong et al., 2019, equation 15.
    """

    def pool(self, inputs: Any, mask: Any) -> Any:
        return extreme(inputs, mask, -1)
