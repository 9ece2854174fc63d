"""The blocks that PANNs' networks share: input normalization, a pair of convolutions, the classifier."""

from typing import Any

import keras
from keras import layers, ops

from kerastag.layers.fused_batch_normalization import FusedBatchNormalization
from kerastag.models.backbone import check_rate

# PyTorch's defaults, under which the published weights were trained. Keras's 1e-3 makes them silently wrong.
EPSILON = 1e-5
MOMENTUM = 0.9


def normalize_input(log_mel: Any, augment: keras.layers.Layer | None = None) -> Any:
    """Log-mel `(batch, frames, mel_bins)` -> normalized by bin, augmented, as an image of one channel."""
    x = FusedBatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, dtype="float32", name="bn0")(log_mel)
    if augment is not None:
        x = augment(x)
    return layers.Reshape((-1, log_mel.shape[-1], 1), name="image")(x)  # (batch, frames, mel_bins, 1)


def convolve(
    x: Any, channels: int, *, name: str, bn_name: str, size: int = 3, relu: bool = True, gamma: str = "ones"
) -> Any:
    """Convolution without bias -> BatchNorm -> ReLU, at stride 1."""
    x = layers.Conv2D(channels, size, padding="same", use_bias=False, name=name)(x)
    x = FusedBatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, gamma_initializer=gamma, name=bn_name)(x)
    return layers.ReLU(name=f"{bn_name}_relu")(x) if relu else x


def conv_block(x: Any, channels: int, *, name: str, pool: bool = True) -> Any:
    """Two 3×3 convolutions to `channels`, then 2×2 average pooling."""
    for part in (1, 2):
        x = convolve(x, channels, name=f"{name}_conv{part}", bn_name=f"{name}_bn{part}")
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x) if pool else x


def mean_over_frequency(x: Any) -> Any:
    """`(batch, frames, bins, channels)` -> `(batch, frames, channels)`, in float32."""
    return ops.mean(ops.cast(x, "float32"), axis=2)


def max_mean_head(features: Any, num_classes: int, *, dropout: float = 0.5) -> dict[str, Any]:
    """Frame features -> maximum plus mean over time -> two dense layers; the same two on every frame.

    Dropout is for the clip alone: no loss reads the frames, but windows are chosen by them, in training too.
    """
    check_rate("dropout", dropout)
    hidden = layers.Dense(features.shape[-1], activation="relu", name="fc1")
    classify = layers.Dense(num_classes, name="fc_audioset")
    maximum = layers.GlobalMaxPooling1D(dtype="float32", name="time_maximum")(features)
    mean = layers.GlobalAveragePooling1D(dtype="float32", name="time_mean")(features)
    by_clip = layers.Add(dtype="float32", name="maximum_and_mean")([maximum, mean])
    embedding = hidden(layers.Dropout(dropout, name="drop_features")(by_clip))
    heard = layers.Dropout(dropout, name="drop_hidden")(embedding)
    return {
        "clipwise": sigmoid("clipwise")(classify(heard)),
        "framewise": sigmoid("framewise")(classify(hidden(features))),
        "embedding": as_float32("embedding")(embedding),
    }


def sigmoid(name: str) -> keras.layers.Layer:
    """Logits -> probabilities, in float32 under any precision."""
    return layers.Activation("sigmoid", dtype="float32", name=name)


def as_float32(name: str) -> keras.layers.Layer:
    """Any precision -> float32."""
    return layers.Activation("linear", dtype="float32", name=name)
