"""Attention over the segments of a clip: a weighted sum whose weights are learned for each feature or class."""

from typing import Any

import keras
from keras import ops

SMALLEST_WEIGHT = 1e-7


def _exponential(scores, valid):
    """`e^z`, divided by its largest value in the clip, which the normalization cancels: no overflow."""
    if valid is not None:
        scores = ops.where(valid > 0, scores, -1e9)
    return ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=1, keepdims=True)))


# The non-negative functions of table V; network-in-network is two dense layers before a sigmoid.
PHI = {
    "relu": lambda scores, valid: ops.relu(scores),
    "exp": _exponential,
    "sigmoid": lambda scores, valid: ops.sigmoid(scores),
    "softmax": lambda scores, valid: ops.softmax(scores, axis=-1),
}


@keras.saving.register_keras_serializable(package="kerastag")
class AttentionPooling(keras.layers.Layer):
    """Values and scores of the segments of a clip -> the sum of the values weighted by attention.

    `p_t = phi(z_t) / sum over t of phi(z_t)`, `h = sum over t of p_t * u_t`, for each feature or class alone.

    With values `f(x)` in [0, 1], one for each class, this is decision-level attention; with features `u(x)` it is
    feature-level attention. The weights are computed in float32 under every dtype policy.

    Args:
        phi: `"relu"`, `"exp"`, `"sigmoid"` or `"softmax"` (over the outputs of one segment, not over time).

    Input shape: a pair `[values, scores]`, each `(batch, segments, features)`; scores are before `phi`.
    Output shape: `(batch, features)`, float32.

    A masked segment has weight zero. The mask ends here. A clip without valid segments gives zeros.

    Raises:
        ValueError: `phi` is none of the four.

    >>> import numpy as np
    >>> values, scores = np.array([[[1.0], [3.0]]]), np.array([[[-9.0], [9.0]]])
    >>> np.asarray(AttentionPooling("sigmoid")([values, scores])).round(2).tolist()
    [[3.0]]

    Reference: Kong et al., 2019, equations 5, 16 and 19 (decision level), 20, 22 and 24 (feature level), 25 to 28
    (phi). 1e-7 is added to a weight before it is normalized, so that a clip whose scores are all negative under
    ReLU is averaged; there is no upper bound. `exp` is taken of the score less the clip's largest
    one, which leaves the weights as they are.
    """

    def __init__(self, phi: str = "sigmoid", **kwargs: Any) -> None:
        if phi not in PHI:
            raise ValueError(f"`phi` must be one of {', '.join(PHI)}; received {phi!r}")
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.phi = phi
        self.supports_masking = True

    def weights_over_segments(self, scores: Any, mask: Any = None) -> Any:
        """Scores `(batch, segments, features)` -> attention `p`, which sums to one over the valid segments."""
        scores, valid = self._exactly(scores), self._valid(mask)
        weights = self._unnormalized(scores, valid)
        return weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), SMALLEST_WEIGHT)

    def _exactly(self, tensor):
        """In float32, or in float64 where that is the layer's type."""
        return ops.cast(tensor, keras.backend.result_type(self.compute_dtype, "float32"))

    def _valid(self, mask):
        return None if mask is None else ops.expand_dims(self._exactly(mask), axis=-1)

    def _unnormalized(self, scores, valid):
        weights = PHI[self.phi](scores, valid) + SMALLEST_WEIGHT
        return weights if valid is None else weights * valid

    def call(self, inputs, mask=None, training=False):
        values, scores = inputs
        if isinstance(mask, list | tuple):
            mask = next((given for given in mask if given is not None), None)
        weights = self._unnormalized(scores, self._valid(mask))
        # A SavedModel cannot hold a gradient that is written out, and what it serves does not train.
        return _trained_mean(weights, values) if training else _weighted_mean(weights, values)[0]

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        values, _ = input_shape
        return (values[0], values[2])

    def get_config(self):
        return {**super().get_config(), "phi": self.phi}


def _weighted_mean(weights, values):
    """Weights and values of the segments -> `(batch, features)`, their mean, and the sum of the weights.

    One division a clip, not one a segment.
    """
    total = ops.maximum(ops.sum(weights, axis=1), SMALLEST_WEIGHT)
    return ops.sum(weights * values, axis=1) / total, total


@ops.custom_gradient
def _trained_mean(weights, values):
    """The weighted mean, whose gradient is written out: with `d` that of the mean and `w` the weights,

        d_values = w * d / sum(w),  d_weights = (values - mean) * d / sum(w)

    which, taken step by step, writes what the clip has once, once a segment.
    """
    mean, total = _weighted_mean(weights, values)

    def gradient(upstream):
        share = ops.expand_dims(upstream / total, axis=1)
        return (values - ops.expand_dims(mean, axis=1)) * share, weights * share

    return mean, gradient
