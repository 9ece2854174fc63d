"""CNN10 of Kong et al., "PANNs: large-scale pretrained audio neural networks", 2020."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from kerastag.layers._arguments import check_rate
from kerastag.models.backbones._panns import (
    apply_conv_block,
    average_frequency,
    build_max_mean_head,
    normalize_log_mel,
)
from kerastag.models.backbones.backbone import Backbone, check_width, scale_channels

CHANNELS = (64, 128, 256, 512)


def build_features(
    log_mel: Any,
    *,
    width: float = 1.0,
    block_dropout: float = 0.2,
    augment: keras.layers.Layer | None = None,
    after_block: Callable[[int], keras.layers.Layer] | None = None,
) -> Any:
    """Compute the features of CNN10, `(batch, frames // 16, 512 * width)`, from log-mel.

    `after_block` returns the layer to insert after the pooling of block 1, 2, 3 or 4.
    """
    check_width(width)
    check_rate("block_dropout", block_dropout)
    x = normalize_log_mel(log_mel, augment)
    for block, channels in enumerate(CHANNELS, start=1):
        x = apply_conv_block(x, scale_channels(channels, width), name=f"conv_block{block}")
        x = after_block(block)(x) if after_block else x
        x = layers.Dropout(block_dropout, name=f"conv_block{block}_drop")(x)
    return average_frequency(x)


BACKBONE = Backbone("panns", 16, build_features, build_max_mean_head)


def cnn10(
    num_classes: int = 527,
    *,
    width: float = 1.0,
    input: str = "log_mel",
    dropout: float = 0.5,
    block_dropout: float = 0.2,
    augment: keras.layers.Layer | None = None,
    name: str = "cnn10",
) -> keras.Model:
    """Build CNN10: four blocks of two convolutions, and a classifier of their maximum plus mean over time.

        M = mean over frequency of the last block,  h = relu(W1 (max_t M + mean_t M)),  clipwise = sigmoid(W2 h)

    `framewise` is `sigmoid(W2 relu(W1 M_t))` for every output frame t of 16 log-mel frames (0.16 s). The model has
    5,219,279 trainable parameters at full width and 527 classes.

    Args:
        num_classes: Number of classes, at least 1.
        width: Factor on the number of channels, in (0, 100].
        input: Input of the model: `log_mel`, shape `(batch, frames, 64)` with at least 16 frames, or `waveform`,
            `(batch, samples)` at 32 kHz.
        dropout: Dropout rate before either dense layer, in [0, 1).
        block_dropout: Dropout rate after each block, in [0, 1).
        augment: Layer on the normalized log-mel such as `SpecAugment`; None for none.
        name: Name of the model.

    Returns:
        Model with a dict of outputs: `clipwise`, `(batch, num_classes)`, `framewise`,
        `(batch, frames // 16, num_classes)`, and `embedding`, `(batch, 512 * width)`, float32.

    Raises:
        ValueError: An argument is outside its range.

    >>> cnn10(num_classes=10, width=0.125).output["framewise"].shape
    (None, None, 10)

    Reference: Kong et al., 2020, table 1. Deviation: the dropout after the first dense layer also acts on the input of
    the classifier, as in Wang et al. (2021) it is part of the classifier; predictions are the same.
    """
    return BACKBONE.build(
        num_classes,
        input=input,
        name=name,
        features={"width": width, "block_dropout": block_dropout, "augment": augment},
        head={"dropout": dropout},
    )
