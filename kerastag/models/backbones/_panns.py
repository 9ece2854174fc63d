"""Blocks that the networks of PANNs share: input normalization, a pair of convolutions, the classifier."""

from typing import Any

import keras
from keras import layers, ops

from kerastag.layers._arguments import check_rate
from kerastag.layers.fused_batch_normalization import FusedBatchNormalization

# The defaults of PyTorch, with which the published weights were trained; the defaults of Keras change the predictions.
EPSILON = 1e-5
MOMENTUM = 0.9


def normalize_log_mel(log_mel: Any, augment: keras.layers.Layer | None = None) -> Any:
    """Normalize each mel bin and augment; return an image of one channel, `(batch, frames, mel_bins, 1)`."""
    x = FusedBatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, dtype="float32", name="bn0")(log_mel)
    if augment is not None:
        x = augment(x)
    return layers.Reshape((-1, log_mel.shape[-1], 1), name="image")(x)


def convolve(
    x: Any, channels: int, *, name: str, bn_name: str, size: int = 3, relu: bool = True, gamma: str = "ones"
) -> Any:
    """Apply a convolution without bias at stride 1, batch normalization and, with `relu`, ReLU."""
    x = layers.Conv2D(channels, size, padding="same", use_bias=False, name=name)(x)
    x = FusedBatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, gamma_initializer=gamma, name=bn_name)(x)
    return layers.ReLU(name=f"{bn_name}_relu")(x) if relu else x


def apply_conv_block(x: Any, channels: int, *, name: str, pool: bool = True) -> Any:
    """Apply two 3×3 convolutions and, with `pool`, 2×2 average pooling."""
    for part in (1, 2):
        x = convolve(x, channels, name=f"{name}_conv{part}", bn_name=f"{name}_bn{part}")
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x) if pool else x


def average_frequency(x: Any) -> Any:
    """Average `(batch, frames, bins, ...)` over the bins, in float32."""
    return ops.mean(ops.cast(x, "float32"), axis=2)


def build_max_mean_head(features: Any, num_classes: int, *, dropout: float = 0.5) -> dict[str, Any]:
    """Classify the maximum plus the mean over time by two dense layers, and every frame by the same two.

    As in the public code of PANNs and of GL-AT, the second layer takes the hidden units of a frame after dropout, and
    those of the clip without.
    """
    check_rate("dropout", dropout)
    hidden = layers.Dense(features.shape[-1], activation="relu", name="fc1")
    classify = layers.Dense(num_classes, name="fc_audioset")
    maximum = layers.GlobalMaxPooling1D(dtype="float32", name="time_maximum")(features)
    mean = layers.GlobalAveragePooling1D(dtype="float32", name="time_mean")(features)
    pooled = layers.Add(dtype="float32", name="maximum_and_mean")([maximum, mean])
    embedding = hidden(layers.Dropout(dropout, name="drop_features")(pooled))
    frames = layers.Dropout(dropout, name="drop_hidden")(hidden(layers.Dropout(dropout, name="drop_frames")(features)))
    return {
        "clipwise": float32_activation("sigmoid", "clipwise")(classify(embedding)),
        "framewise": float32_activation("sigmoid", "framewise")(classify(frames)),
        "embedding": float32_activation("linear", "embedding")(embedding),
    }


def float32_activation(activation: str, name: str) -> keras.layers.Layer:
    """Return an activation in float32 under every dtype policy."""
    return layers.Activation(activation, dtype="float32", name=name)
