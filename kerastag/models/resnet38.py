"""ResNet38 of PANNs."""

from typing import Any

import keras
from keras import layers

from kerastag.models._panns import conv_block, convolve, max_mean_head, mean_over_frequency, normalize_input
from kerastag.models.backbone import Backbone, check_rate, check_width, scaled

# (blocks, channels, stride of the first block)
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))


def build_features(
    log_mel: Any,
    *,
    width: float = 1.0,
    block_dropout: float = 0.2,
    residual_dropout: float = 0.1,
    augment: keras.layers.Layer | None = None,
) -> Any:
    """Log-mel -> the features of ResNet38: `(batch, frames // 32, 2048 · width)`."""
    check_width(width)
    check_rate("block_dropout", block_dropout)
    check_rate("residual_dropout", residual_dropout)
    x = conv_block(normalize_input(log_mel, augment), scaled(64, width), name="conv_block1")
    x = layers.Dropout(block_dropout, name="conv_block1_drop")(x)
    for stage, (blocks, channels, stride) in enumerate(STAGES, start=1):
        for block in range(blocks):
            x = _basic_block(
                x,
                scaled(channels, width),
                halve=stride == 2 and block == 0,
                dropout=residual_dropout,
                name=f"layer{stage}_{block}",
            )
    x = layers.AveragePooling2D(2, name="resnet_pool")(x)
    x = layers.Dropout(block_dropout, name="resnet_drop")(x)
    x = conv_block(x, scaled(2048, width), name="conv_block_after1", pool=False)
    x = layers.Dropout(block_dropout, name="conv_block_after1_drop")(x)
    return mean_over_frequency(x)


def _basic_block(x: Any, channels: int, *, halve: bool, dropout: float, name: str) -> Any:
    shortcut = x
    if halve:
        x = layers.AveragePooling2D(2, name=f"{name}_pool")(x)
        shortcut = convolve(
            x, channels, name=f"{name}_shortcut_conv", bn_name=f"{name}_shortcut_bn", size=1, relu=False
        )
    x = convolve(x, channels, name=f"{name}_conv1", bn_name=f"{name}_bn1")
    x = layers.Dropout(dropout, name=f"{name}_drop")(x)
    # Scaled by zero at first: every block starts as its shortcut, and a deep stack trains.
    x = convolve(x, channels, name=f"{name}_conv2", bn_name=f"{name}_bn2", relu=False, gamma="zeros")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


BACKBONE = Backbone("panns", 32, build_features, max_mean_head)


def resnet38(
    num_classes: int = 527,
    *,
    width: float = 1.0,
    input: str = "log_mel",
    dropout: float = 0.5,
    block_dropout: float = 0.2,
    residual_dropout: float = 0.1,
    augment: keras.layers.Layer | None = None,
    name: str = "resnet38",
) -> keras.Model:
    """Log-mel or waveform at 32 kHz -> clip and frame probabilities and an embedding, through 16 residual blocks.

    A residual block is `relu(shortcut(x) + bn(conv(dropout(relu(bn(conv(x)))))))`; the first of stages 2 to 4 halves
    frames and bins by average pooling. Head as in `cnn10`; an output frame is 32 log-mel frames (0.32 s).
    73,783,247 trainable parameters at full width and 527 classes.

    Args:
        num_classes: Whole number above zero.
        width: Factor on every number of channels, above 0.
        input: `"log_mel"`, shape `(batch, frames, 64)` with at least 32 frames, or `"waveform"`, `(batch, samples)`.
        dropout: Rate before either dense layer, in [0, 1).
        block_dropout: Rate after the first block, the stages and the last block, in [0, 1).
        residual_dropout: Rate inside a residual block, in [0, 1).
        augment: Layer on the normalized log-mel, such as `SpecAugment`; None for none.
        name: The model's name.

    Returns:
        Model with a dict of outputs: `clipwise` `(batch, num_classes)`, `framewise`
        `(batch, frames // 32, num_classes)` and `embedding` `(batch, 2048 · width)`, float32.

    Raises:
        ValueError: An argument is outside its range.

    >>> resnet38(num_classes=10, width=0.0625).output["embedding"].shape
    (None, 128)

    Reference: Kong et al., PANNs, 2020, section III and table 3. Deviation: the dropout after the first dense
    layer also acts on what the classifier reads, as in `cnn10`; inference is the same.
    """
    return BACKBONE.build(
        num_classes,
        input=input,
        name=name,
        features={
            "width": width,
            "block_dropout": block_dropout,
            "residual_dropout": residual_dropout,
            "augment": augment,
        },
        head={"dropout": dropout},
    )
