"""A new pooling layer, a system with it, and its test: log-sum-exp pooling, between the average and the maximum.

    python examples/new_pooling_layer.py [--steps 200]

The arguments are those of `kerastag train`: without `--data-dir`, the system is trained on synthetic clips. To add a
system to kerastag itself, see "Add a system" in CONTRIBUTING.md.
"""

# %% The layer: a subclass of `SegmentPooling`, which checks shapes and masks, in `keras.ops`.
import sys

import keras
import numpy as np
from keras import ops

from kerastag.layers import MaskedBatchNormalization, SegmentPooling


@keras.saving.register_keras_serializable(package="examples")
class LogSumExpPooling(SegmentPooling):
    """Smooth maximum over the segments of a clip: `h = log(mean over x in B of exp(r x)) / r`.

    Args:
        sharpness: The factor `r`, above 0: near 0 the result is the average, and for large values the maximum.

    Reference: Pinheiro and Collobert, From image-level to pixel-level labeling with convolutional networks, 2015.
    """

    def __init__(self, sharpness: float = 5.0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.sharpness = sharpness

    def pool(self, inputs, mask):
        valid = ops.ones_like(inputs[:, :, :1]) if mask is None else mask
        scores = ops.where(valid > 0, self.sharpness * inputs, -1e4)
        return (ops.logsumexp(scores, axis=1) - ops.log(ops.maximum(ops.sum(valid, axis=1), 1))) / self.sharpness

    def get_config(self):
        return {**super().get_config(), "sharpness": self.sharpness}


# %% The model: embeddings `(batch, segments, features)` to the probabilities of clips and of segments.
def build_model(num_classes: int, num_features: int, units: int) -> keras.Model:
    """Build a classifier of hidden features that are pooled over the segments."""
    embedding = keras.Input((None, num_features), name="embedding")
    x = MaskedBatchNormalization()(keras.layers.Masking(0.0)(embedding))
    hidden = keras.layers.Dense(units, activation="relu")(x)
    classifier = keras.layers.Dense(num_classes, activation="sigmoid", dtype="float32")
    clipwise, framewise = classifier(LogSumExpPooling()(hidden)), classifier(hidden)
    return keras.Model(embedding, {"clipwise": clipwise, "framewise": framewise})


# %% The recipe: batches, checkpoints, metrics and the run folder are those of every system of paper 1.
from kerastag.recipes._embeddings import EmbeddingConfig, EmbeddingTask  # noqa: E402
from kerastag.recipes._recipe import Recipe  # noqa: E402
from kerastag.recipes._synthetic import run_without_baseline  # noqa: E402


class LogSumExpTask(EmbeddingTask):
    """Training of the model above."""

    def build_model(self, config, data):
        return build_model(data.train.num_classes, data.num_features, config.units)


RECIPE = Recipe(
    "log_sum_exp", __doc__, "embeddings", EmbeddingConfig, run_without_baseline, LogSumExpTask("log_sum_exp")
)


# %% The test: the formula in float64, the limits, and segments that are masked.
def test_log_sum_exp_pooling() -> None:
    """Compare the layer with its formula."""
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    expected = np.log(np.exp(5 * x).mean(axis=1)) / 5
    np.testing.assert_allclose(LogSumExpPooling()(x.astype(np.float32)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(LogSumExpPooling(1e-3)(x.astype(np.float32)), x.mean(axis=1), atol=2e-3)
    np.testing.assert_allclose(LogSumExpPooling(1e3)(x.astype(np.float32)), x.max(axis=1), atol=2e-3)
    mask = np.array([[True] * 4, [True, True, False, False]])
    masked = LogSumExpPooling()(x.astype(np.float32), mask=mask)
    np.testing.assert_allclose(masked[1], np.log(np.exp(5 * x[1, :2]).mean(axis=0)) / 5, rtol=1e-5, atol=1e-6)


# %% Train.
if __name__ == "__main__":
    test_log_sum_exp_pooling()
    sys.exit(RECIPE.main())
