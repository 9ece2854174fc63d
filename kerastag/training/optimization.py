"""Optimizer and loss of a run, and the moving averages of weights and of batch normalization."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerastag._keras import flatten_layers, get_averaged_variables
from kerastag.training.config import TrainingConfig
from kerastag.training.devices import model_scope
from kerastag.training.stream_loss import StreamLoss

__all__ = [
    "PLATEAU_INTERVALS",
    "averaged_weights",
    "averaging_steps",
    "compile_model",
    "compute_plateau_factor",
    "has_finite_averages",
]

PLATEAU_INTERVALS = 30
"""Number of equal intervals of a run whose mean losses the schedule `plateau` compares."""
_PLATEAU_FACTOR, _PLATEAU_PATIENCE, _PLATEAU_THRESHOLD = 0.8, 3, 1e-4


def compile_model(model: keras.Model, config: TrainingConfig) -> keras.Model:
    """Compile a model with Adam and the binary cross-entropy of the clip, or of each of its streams.

    Args:
        model: Model from `select_training_outputs`.
        config: Configuration of the run.

    Returns:
        `model`.

    Reference: Kong et al., 2019, equations 2 and 8, and section VI-A.
    """
    if config.batch_norm_momentum is not None:
        for layer in _find_batch_norms(model):
            layer.momentum = config.batch_norm_momentum
    learning_rate: Any = config.learning_rate
    if config.schedule == "cosine":
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0 if config.warmup_steps else learning_rate,
            config.steps - config.warmup_steps,
            warmup_target=learning_rate if config.warmup_steps else None,
            warmup_steps=config.warmup_steps,
        )
    elif config.warmup_steps:
        learning_rate = keras.optimizers.schedules.PolynomialDecay(
            learning_rate / config.warmup_steps, config.warmup_steps, learning_rate
        )
    average = {"use_ema": True, "ema_momentum": config.ema} if config.ema else {}
    with model_scope(model):  # an optimizer belongs to the devices on which it is created
        optimizer = keras.optimizers.Adam(
            learning_rate, weight_decay=config.weight_decay or None, amsgrad=config.amsgrad, **average
        )
        model.compile(optimizer, StreamLoss(label_smoothing=config.label_smoothing))
    return model


def compute_plateau_factor(losses: Sequence[float]) -> float:
    """Compute the factor on the learning rate after intervals with these mean losses.

    It falls to 0.8 of its value in every interval that is the fourth in a row without a loss below the lowest so far.

    >>> compute_plateau_factor([3.0, 2.0, 2.0, 2.0, 2.0]), compute_plateau_factor([3.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    (1.0, 0.8)

    Reference: Wang, Li and Metze, 2019, in their public code, with the mAP of held-out clips instead of the loss.
    """
    factor, lowest, waited = 1.0, float("inf"), 0
    for loss in losses:
        if loss < lowest * (1 - _PLATEAU_THRESHOLD):
            lowest, waited = loss, 0
        elif waited == _PLATEAU_PATIENCE:
            factor, waited = factor * _PLATEAU_FACTOR, 0
        else:
            waited += 1
    return factor


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Give a model the moving average of its weights within the block, where its optimizer keeps one."""
    averages = get_averaged_variables(model.optimizer)
    if not averages:
        yield
        return
    weights = [np.array(variable) for variable in model.trainable_variables]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(np.array(average))  # a copy: JAX may donate the buffers of what it predicts with
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            variable.assign(value)


def averaging_steps(model: keras.Model) -> float:
    """Return over how many steps the slowest moving average of a trainable batch normalization reaches; 0 for none."""
    return max((1 / (1 - layer.momentum) for layer in _find_batch_norms(model) if layer.trainable), default=0.0)


def has_finite_averages(model: keras.Model) -> bool:
    """Return whether the moving averages of every batch normalization are finite.

    The loss may be finite where they are not: TensorFlow fuses ReLU with the operation before it, and its fused
    kernels turn NaN into 0 on a CPU.
    """
    layers = _find_batch_norms(model)
    averages = (average for layer in layers for average in (layer.moving_mean, layer.moving_variance))
    return all(np.isfinite(np.asarray(average)).all() for average in averages)


def _find_batch_norms(model: keras.Model) -> list[Any]:
    return [layer for layer in flatten_layers(model) if hasattr(layer, "moving_variance")]
