"""The head of a tagger: feature-level attention over the embeddings of a clip's segments."""

from typing import Any

import keras
import numpy as np

from kerastag.custom.config import CustomConfig
from kerastag.custom.memory import Bags
from kerastag.data.batches import BalancedSampler, Batches, EmbeddingBatches
from kerastag.layers.masked_batch_normalization import MaskedBatchNormalization
from kerastag.models.embedding_models import feature_attention
from kerastag.training.config import TrainingConfig
from kerastag.training.evaluation import predict
from kerastag.training.optimization import compile_model
from kerastag.training.outputs import select_training_outputs
from kerastag.training.state import build_optimizer
from kerastag.training.trainer import make_dataset

__all__ = ["AttentionHead", "fit_model"]

_BATCH_NORM_MOMENTUM = 0.9  # Moving averages over a hundred steps would not converge within a few hundred.


class AttentionHead:
    """Feature-level attention over embeddings, which can be trained many times.

    `h_j = sum over segments of q(x)_j u(x)_j` and a classifier of `h`. The head is compiled once, since compiling takes
    longer than training.

    Args:
        config: Configuration of the run.
        num_classes: Number of classes.
        num_features: Number of features of an embedding.

    Attributes:
        model: Model that takes bags `(batch, segments, features)` and predicts `clipwise` and `framewise`.

    Reference: Kong et al., 2019, equations 20 to 24.
    """

    def __init__(self, config: CustomConfig, num_classes: int, num_features: int) -> None:
        self.config = config
        self.model = feature_attention(
            num_classes=num_classes,
            num_features=num_features,
            units=config.units,
            depth=config.depth,
            dropout=config.dropout,
        )
        self._trained_model = select_training_outputs(self.model)
        training_config = TrainingConfig(
            steps=config.steps,
            learning_rate=config.learning_rate,
            schedule="cosine",
            batch_norm_momentum=_BATCH_NORM_MOMENTUM,
        )
        build_optimizer(compile_model(self._trained_model, training_config))

    def train(self, bags: Bags, rows: np.ndarray, seed: int) -> None:
        """Initialize the head and train it.

        Args:
            bags: Bags of embeddings.
            rows: Row numbers of the clips to train on.
            seed: Seed of weights, dropout and batches.

        Raises:
            FloatingPointError: The loss is no longer finite.
        """
        self._initialize(seed)
        self._set_input_statistics(bags.x[rows])
        sampler = BalancedSampler(bags.targets[rows], self.config.batch_size, balance=0.0, seed=seed)
        batches = EmbeddingBatches(bags, sampler, rows, mixup=self.config.mixup)
        fit_model(self._trained_model, batches, self.config.steps, "learning_rate")

    def predict(self, bags: Bags, rows: np.ndarray) -> np.ndarray:
        """Predict the probabilities of clips, float32 `(rows, classes)`."""
        return predict(self._trained_model, bags, rows)

    def _initialize(self, seed: int) -> None:
        """Set all variables to those of a new model and a new optimizer."""
        keras.utils.set_random_seed(seed)
        new_model = keras.models.clone_model(self.model)
        for variable, new_variable in zip(self.model.variables, new_model.variables, strict=True):
            variable.assign(new_variable)
        for variable in self._trained_model.optimizer.variables:  # the learning rate is a schedule, not a variable
            variable.assign(keras.ops.zeros_like(variable))

    def _set_input_statistics(self, x: np.ndarray) -> None:
        """Start the first normalization with the statistics of the embeddings, which a few steps would not reach."""
        segments = x[x.any(axis=2)]
        normalization = next(layer for layer in self.model.layers if isinstance(layer, MaskedBatchNormalization))
        normalization.moving_mean.assign(segments.mean(axis=0))
        normalization.moving_variance.assign(segments.var(axis=0))


def fit_model(model: Any, batches: Batches, steps: int, rate_name: str) -> None:
    """Train a compiled model with `model.fit`.

    Args:
        model: Model with one output, compiled.
        batches: Training batches.
        steps: Number of mini-batches.
        rate_name: Name of the configuration field of the learning rate, for the error.

    Raises:
        FloatingPointError: The loss is no longer finite.
    """
    dataset = make_dataset(batches, 0, steps)
    history = model.fit(
        dataset, steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[keras.callbacks.TerminateOnNaN()]
    )
    if not np.isfinite(history.history["loss"][-1]):
        raise FloatingPointError(f"the loss is not finite: decrease `{rate_name}`")
