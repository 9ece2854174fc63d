"""Maximum over the segments of a clip."""

from typing import Any

import keras

from kerastag.layers.segment_pooling import SegmentPooling, extreme


@keras.saving.register_keras_serializable(package="kerastag")
class MaxPooling(SegmentPooling):
    """Segments of a clip -> the largest value of each feature.

    `a_m = max over x in B of x_m`

    Input shape: `(batch, segments, features)`.
    Output shape: `(batch, features)`.

    Masked segments are never the largest; a clip without valid segments gives zeros.

    >>> import numpy as np
    >>> np.asarray(MaxPooling()(np.array([[[1.0], [3.0]]]))).tolist()
    [[3.0]]

    Reference: Kong et al., 2019, equation 9 (on probabilities: the standard multiple-instance assumption) and
    equation 15 (on embeddings).
    """

    def pool(self, inputs: Any, mask: Any) -> Any:
        return extreme(inputs, mask, 1)
