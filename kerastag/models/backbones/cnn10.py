"""CNN10 of Kong et al., "PANNs: large-scale pretrained audio neural networks", 2020."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from kerastag.layers._arguments import check_rate
from kerastag.models.backbones._panns import apply_conv_block, average_frequency, build_max_mean_head, normalize_log_mel
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

    `framewise` is `sigmoid(W2 relu(W1 M_t))` for each of the `frames // 16` output frames (0.16 s). The model takes
    `(batch, frames, 64)` with at least 16 frames, or waveforms at 32 kHz, and has `512 * width` channels; at full width
    and with 527 classes it has 5,219,279 trainable parameters.

    Arguments and outputs are described in `kerastag.models.backbones`.

    >>> cnn10(num_classes=10, width=0.125).output["framewise"].shape
    (None, None, 10)

    Reference: Kong et al., 2020, table 1. Deviation: PANNs returns the embedding after dropout, here it has none.
    """
    head = {"dropout": dropout}
    return BACKBONE.build(num_classes, input, name, head, width=width, block_dropout=block_dropout, augment=augment)
