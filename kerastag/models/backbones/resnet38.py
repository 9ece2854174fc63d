"""ResNet38 of Kong et al., "PANNs: large-scale pretrained audio neural networks", 2020."""

from typing import Any

import keras
from keras import layers

from kerastag.layers._arguments import check_rate
from kerastag.models.backbones._panns import (
    apply_conv_block,
    average_frequency,
    build_max_mean_head,
    convolve,
    normalize_log_mel,
)
from kerastag.models.backbones.backbone import Backbone, check_width, scale_channels

# Number of blocks, channels, and stride of the first block.
STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))


def build_features(
    log_mel: Any,
    *,
    width: float = 1.0,
    block_dropout: float = 0.2,
    residual_dropout: float = 0.1,
    augment: keras.layers.Layer | None = None,
) -> Any:
    """Compute the features of ResNet38, `(batch, frames // 32, 2048 * width)`, from log-mel."""
    check_width(width)
    check_rate("block_dropout", block_dropout)
    check_rate("residual_dropout", residual_dropout)
    x = apply_conv_block(normalize_log_mel(log_mel, augment), scale_channels(64, width), name="conv_block1")
    x = layers.Dropout(block_dropout, name="conv_block1_drop")(x)
    for stage, (blocks, channels, stride) in enumerate(STAGES, start=1):
        for block in range(blocks):
            halve, name = stride == 2 and block == 0, f"layer{stage}_{block}"
            x = _apply_basic_block(x, scale_channels(channels, width), halve=halve, dropout=residual_dropout, name=name)
    x = layers.AveragePooling2D(2, name="resnet_pool")(x)
    x = layers.Dropout(block_dropout, name="resnet_drop")(x)
    x = apply_conv_block(x, scale_channels(2048, width), name="conv_block_after1", pool=False)
    x = layers.Dropout(block_dropout, name="conv_block_after1_drop")(x)
    return average_frequency(x)


def _apply_basic_block(x: Any, channels: int, *, halve: bool, dropout: float, name: str) -> Any:
    """Apply `relu(shortcut(x) + bn(conv(dropout(relu(bn(conv(x)))))))`, after average pooling with `halve`."""
    shortcut = x
    if halve:
        x = layers.AveragePooling2D(2, name=f"{name}_pool")(x)
        names = {"name": f"{name}_shortcut_conv", "bn_name": f"{name}_shortcut_bn"}
        shortcut = convolve(x, channels, **names, size=1, relu=False)
    x = convolve(x, channels, name=f"{name}_conv1", bn_name=f"{name}_bn1")
    x = layers.Dropout(dropout, name=f"{name}_drop")(x)
    # With a gamma of zero, every block starts as its shortcut, which makes a deep stack trainable.
    x = convolve(x, channels, name=f"{name}_conv2", bn_name=f"{name}_bn2", relu=False, gamma="zeros")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, shortcut]))


BACKBONE = Backbone("panns", 32, build_features, build_max_mean_head)


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
    """Build ResNet38: 16 residual blocks between two convolution blocks, and the classifier of `cnn10`.

    A residual block is `relu(shortcut(x) + bn(conv(dropout(relu(bn(conv(x)))))))`; the first of stages 2 to 4 halves
    frames and bins by average pooling. The model takes `(batch, frames, 64)` with at least 32 frames, or waveforms at
    32 kHz, and has `frames // 32` output frames (0.32 s) of `2048 * width` channels; at full width and with 527 classes
    it has 73,783,247 trainable parameters.

    Arguments and outputs are described in `kerastag.models.backbones`; `residual_dropout` is the dropout rate inside a
    residual block, in [0, 1).

    >>> resnet38(num_classes=10, width=0.0625).output["embedding"].shape
    (None, 128)

    Reference: Kong et al., 2020, section III and table 3. Deviation: that of `cnn10`.
    """
    return BACKBONE.build(
        num_classes,
        input,
        name,
        {"dropout": dropout},
        width=width,
        block_dropout=block_dropout,
        residual_dropout=residual_dropout,
        augment=augment,
    )
