"""CNN10 of PANNs."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from kerastag.models._panns import conv_block, max_mean_head, mean_over_frequency, normalize_input
from kerastag.models.backbone import Backbone, check_rate, check_width, scaled

CHANNELS = (64, 128, 256, 512)


def build_features(
    log_mel: Any,
    *,
    width: float = 1.0,
    block_dropout: float = 0.2,
    augment: keras.layers.Layer | None = None,
    after_block: Callable[[int], keras.layers.Layer] | None = None,
) -> Any:
    """Log-mel -> the features of CNN10: `(batch, frames // 16, 512 · width)`.

    `after_block` gives the layer after the pooling of block 1 to 4; None for none.
    """
    check_width(width)
    check_rate("block_dropout", block_dropout)
    x = normalize_input(log_mel, augment)
    for block, channels in enumerate(CHANNELS, start=1):
        x = conv_block(x, scaled(channels, width), name=f"conv_block{block}")
        x = after_block(block)(x) if after_block else x
        x = layers.Dropout(block_dropout, name=f"conv_block{block}_drop")(x)
    return mean_over_frequency(x)


BACKBONE = Backbone("panns", 16, build_features, max_mean_head)


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
    """Log-mel or waveform at 32 kHz -> clip and frame probabilities and an embedding, through eight convolutions.

    `M = mean over frequency of four blocks`, `h = relu(W1 (max_t M + mean_t M))`, `clipwise = sigmoid(W2 h)`;
    `framewise` is `sigmoid(W2 relu(W1 M_t))` for each output frame t of 16 log-mel frames (0.16 s).
    5,219,279 trainable parameters at full width and 527 classes.

    Args:
        num_classes: Whole number above zero.
        width: Factor on every number of channels, above 0.
        input: `"log_mel"`, shape `(batch, frames, 64)` with at least 16 frames, or `"waveform"`, `(batch, samples)`.
        dropout: Rate before either dense layer, in [0, 1).
        block_dropout: Rate after each block, in [0, 1).
        augment: Layer on the normalized log-mel, such as `SpecAugment`; None for none.
        name: The model's name.

    Returns:
        Model with a dict of outputs: `clipwise` `(batch, num_classes)`, `framewise`
        `(batch, frames // 16, num_classes)` and `embedding` `(batch, 512 · width)`, float32.

    Raises:
        ValueError: An argument is outside its range.

    >>> cnn10(num_classes=10, width=0.125).output["framewise"].shape
    (None, None, 10)

    Reference: Kong et al., PANNs, 2020, table 1. Deviation: the dropout after the first dense layer also acts on
    what the classifier reads, as in Zhang et al. (2021) it is part of the classifier; inference is the same.
    """
    return BACKBONE.build(
        num_classes,
        input=input,
        name=name,
        features={"width": width, "block_dropout": block_dropout, "augment": augment},
        head={"dropout": dropout},
    )
