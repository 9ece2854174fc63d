"""Predictions of a two-stream model for given sub-clips instead of those that it selects."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from kerastag._keras import flatten_layers
from kerastag.layers.class_wise_clip_select import ClassWiseClipSelect

__all__ = ["FixedSubClipModel", "has_sub_clips"]


def has_sub_clips(model: keras.Model) -> bool:
    """Return whether a model selects sub-clips."""
    return any(isinstance(layer, ClassWiseClipSelect) for layer in flatten_layers(model))


class FixedSubClipModel:
    """A two-stream model that takes all sub-clips of a clip at one given place.

    Args:
        model: Functional model with one `ClassWiseClipSelect` layer. It is not changed, and its weights are shared.
    """

    def __init__(self, model: keras.Model) -> None:
        self._select: Any = None
        self._model = keras.models.clone_model(model, clone_function=self._replace_select, recursive=True)

    def predict(self, inputs: np.ndarray, middles: np.ndarray) -> dict[str, np.ndarray]:
        """Predict the outputs of a batch.

        Args:
            inputs: Inputs of the model, `(batch, ...)`.
            middles: Centers of the sub-clips, `(batch,)`, in output frames, multiples of one half.
        """
        self._select.middles = middles
        return {name: np.asarray(value) for name, value in self._model(inputs, training=False).items()}

    def _replace_select(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        if not isinstance(layer, ClassWiseClipSelect):
            return layer
        self._select = _FixedClipSelect.from_config(layer.get_config())
        return self._select


class _FixedClipSelect(ClassWiseClipSelect):
    """Selection of the sub-clips around `middles`, `(batch,)`, whatever the probabilities are."""

    middles: Any = 0.0

    def find_middles(self, probabilities: Any, steps: Any) -> Any:
        twice_middles = ops.cast(2 * np.atleast_1d(np.asarray(self.middles, np.float32)), "int32")[:, None]
        return ops.broadcast_to(twice_middles, ops.shape(probabilities)[:2])
