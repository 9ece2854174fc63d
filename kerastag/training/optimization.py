"""Optimizer and loss of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from kerastag._keras import get_averaged_variables
from kerastag.training.batch_norm import set_momentum
from kerastag.training.config import TrainingConfig
from kerastag.training.devices import model_scope
from kerastag.training.fused_adam import FusedAdam
from kerastag.training.stream_loss import StreamLoss

__all__ = ["averaged_weights", "compile_model"]


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
        set_momentum(model, config.batch_norm_momentum)
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
        optimizer = FusedAdam(learning_rate, weight_decay=config.weight_decay or None, **average)
        model.compile(optimizer, StreamLoss(label_smoothing=config.label_smoothing))
    return model


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
