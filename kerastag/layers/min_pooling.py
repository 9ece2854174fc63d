"""Minimum over the segments of a clip."""

from typing import Any

import keras

from kerastag.layers.segment_pooling import SegmentPooling, compute_extreme


@keras.saving.register_keras_serializable(package="kerastag")
class MinPooling(SegmentPooling):
    """Minimum of each feature over the segments of a clip: `b_m = min over x in B of x_m`.

    Input shape: `(batch, segments, features)`.
    Output shape: `(batch, features)`.

    Mask: `(batch, segments)`; masked segments are not in `B`. The result of a clip without valid segments is zero.

    >>> import numpy as np
    >>> np.asarray(MinPooling()(np.array([[[1.0], [3.0]]]))).tolist()
    [[1.0]]

    Reference: Kong et al., 2019, equation 15.
    """

    def pool(self, inputs: Any, mask: Any) -> Any:
        return compute_extreme(inputs, mask, -1)
