"""Attention pooling over the segments of a clip."""

from typing import Any

import keras
from keras import ops

from kerastag.layers._arguments import check_choice

_SMALLEST_WEIGHT = 1e-7


def _exponential(scores, valid):
    """Compute `e^z` divided by its maximum over the clip, which prevents overflow and cancels in the weights."""
    if valid is not None:
        scores = ops.where(valid > 0, scores, -1e9)
    return ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=1, keepdims=True)))


# The non-negative functions of table V; network in network is two dense layers before a sigmoid.
PHI = {
    "relu": lambda scores, valid: ops.relu(scores),
    "exp": _exponential,
    "sigmoid": lambda scores, valid: ops.sigmoid(scores),
    "softmax": lambda scores, valid: ops.softmax(scores, axis=-1),
}


@keras.saving.register_keras_serializable(package="kerastag")
class AttentionPooling(keras.layers.Layer):
    """Sum of the values of the segments, weighted by attention.

    `p_t = phi(z_t) / sum over t of phi(z_t)`, `h = sum over t of p_t * u_t`, independently for each feature or class.
    With probabilities of the classes as values, this is decision-level attention; with features, feature-level
    attention. Everything is computed in float32.

    Args:
        phi: Non-negative function of the scores: `relu`, `exp`, `sigmoid`, or `softmax` (over the features of one
            segment, not over time).

    Input shape: a pair `[values, scores]`, each `(batch, segments, features)`; scores are the input of `phi`.
    Output shape: `(batch, features)`, float32.
    Mask: `(batch, segments)`; masked segments have weight zero. The result of a clip without valid segments is zero.

    Raises:
        ValueError: `phi` is not one of the four.

    >>> import numpy as np
    >>> values, scores = np.array([[[1.0], [3.0]]]), np.array([[[-9.0], [9.0]]])
    >>> np.asarray(AttentionPooling("sigmoid")([values, scores])).round(2).tolist()
    [[3.0]]

    Reference: Kong et al., 2019, equations 5, 16 and 19 (decision level), 20, 22 and 24 (feature level), 25 to 28
    (phi). Deviations: 1e-7 is added to a weight before it is normalized, so that a clip whose scores are all
    negative under ReLU is averaged, and there is no upper bound.
    """

    def __init__(self, phi: str = "sigmoid", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.phi = check_choice("phi", phi, PHI)
        self.supports_masking = True

    def compute_weights(self, scores: Any, mask: Any = None) -> Any:
        """Compute the attention `p`, which sums to one over the valid segments, from `(batch, segments, features)`."""
        weights = self._compute_unnormalized(scores, mask)
        return weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), _SMALLEST_WEIGHT)

    def _compute_unnormalized(self, scores, mask):
        valid = None if mask is None else ops.expand_dims(ops.cast(mask, "float32"), axis=-1)
        weights = PHI[self.phi](scores, valid) + _SMALLEST_WEIGHT
        return weights if valid is None else weights * valid

    def call(self, inputs, mask=None, training=False):
        values, scores = inputs
        if isinstance(mask, list | tuple):
            mask = next((each for each in mask if each is not None), None)
        weights = self._compute_unnormalized(scores, mask)
        # A SavedModel cannot hold a custom gradient, and is not trained.
        return _average_in_training(weights, values) if training else _average(weights, values)[0]

    def compute_mask(self, inputs, mask=None):
        return None

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], input_shape[0][2])

    def get_config(self):
        return {**super().get_config(), "phi": self.phi}


def _average(weights, values):
    """Compute the weighted mean of the segments and the sum of the weights, both `(batch, features)`."""
    total = ops.maximum(ops.sum(weights, axis=1), _SMALLEST_WEIGHT)
    return ops.sum(weights * values, axis=1) / total, total


@ops.custom_gradient
def _average_in_training(weights, values):
    """Compute the weighted mean with a custom gradient.

    With the gradient `d` of the mean and the weights `w`,

        d_values = w * d / sum(w),  d_weights = (values - mean) * d / sum(w)

    Automatic differentiation would broadcast quantities of a clip to its segments in memory.
    """
    mean, total = _average(weights, values)

    def gradient(upstream):
        share = ops.expand_dims(upstream / total, axis=1)
        return (values - ops.expand_dims(mean, axis=1)) * share, weights * share

    return mean, gradient
