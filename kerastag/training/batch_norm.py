"""The moving averages of batch normalization, with which a model is evaluated."""

from typing import Any

import keras
import numpy as np

from kerastag._keras import flatten_layers

__all__ = ["averaging_steps", "has_finite_averages", "set_momentum"]


def set_momentum(model: keras.Model, momentum: float) -> None:
    """Set the momentum of the moving averages of every batch normalization, in [0, 1)."""
    for layer in _batch_norms(model):
        layer.momentum = momentum


def averaging_steps(model: keras.Model) -> float:
    """Return over how many steps the slowest moving average of a trainable batch normalization reaches; 0 for none."""
    return max((1 / (1 - layer.momentum) for layer in _batch_norms(model) if layer.trainable), default=0.0)


def has_finite_averages(model: keras.Model) -> bool:
    """Return whether the moving averages of every batch normalization are finite.

    The loss may be finite where they are not: TensorFlow fuses ReLU with the operation before it, and its fused
    kernels turn NaN into 0 on a CPU.
    """
    averages = (average for layer in _batch_norms(model) for average in (layer.moving_mean, layer.moving_variance))
    return all(np.isfinite(np.asarray(average)).all() for average in averages)


def _batch_norms(model: keras.Model) -> list[Any]:
    return [layer for layer in flatten_layers(model) if hasattr(layer, "moving_variance")]
