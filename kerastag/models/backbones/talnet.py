"""TALNet of Wang, Li and Metze, "A comparison of five multiple instance learning pooling functions", 2019."""

from typing import Any

import keras
from keras import layers, ops

from kerastag.layers._arguments import check_rate
from kerastag.layers.linear_softmax_pooling import LinearSoftmaxPooling
from kerastag.models.backbones._panns import convolve, float32_activation, normalize_log_mel
from kerastag.models.backbones.backbone import Backbone, check_width, scale_channels

# Channels of both convolutions, and pooling over (frames, bins).
BLOCKS = ((32, (2, 2)), (64, (2, 2)), (128, (1, 2)), (256, (1, 2)), (512, (1, 2)))
GRU_UNITS = 512


def build_features(
    log_mel: Any, *, width: float = 1.0, dropout: float = 0.0, augment: keras.layers.Layer | None = None
) -> Any:
    """Compute the features of TALNet, `(batch, frames // 4, 1024 * width)`, from log-mel."""
    check_width(width)
    check_rate("dropout", dropout)
    x = normalize_log_mel(log_mel, augment)
    for block, (channels, pool) in enumerate(BLOCKS, start=1):
        for part in (1, 2):
            name, bn_name = f"block{block}_conv{part}", f"block{block}_bn{part}"
            x = convolve(x, scale_channels(channels, width), name=name, bn_name=bn_name)
        x = layers.MaxPooling2D(pool, name=f"block{block}_pool")(x)
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]), name="flatten")(x)  # (batch, output_frames, bins * channels)
    x = layers.Dropout(dropout, name="drop")(x)
    recurrent = layers.GRU(scale_channels(GRU_UNITS, width), return_sequences=True)
    return layers.Bidirectional(recurrent, name="recurrent")(x)


def build_head(features: Any, num_classes: int) -> dict[str, Any]:
    """Classify every frame by a dense layer, and pool the probabilities over time."""
    framewise = float32_activation("sigmoid", "framewise")(layers.Dense(num_classes, name="classifier")(features))
    return {
        "clipwise": LinearSoftmaxPooling(name="clipwise")(framewise),
        "framewise": framewise,
        "embedding": float32_activation("linear", "embedding")(ops.mean(ops.cast(features, "float32"), axis=1)),
    }


BACKBONE = Backbone("talnet", 4, build_features, build_head)


def talnet(
    num_classes: int = 527,
    *,
    width: float = 1.0,
    input: str = "log_mel",
    dropout: float = 0.0,
    augment: keras.layers.Layer | None = None,
    name: str = "talnet",
) -> keras.Model:
    """Build TALNet: ten convolutions, a bidirectional GRU with outputs `g_t`, and linear softmax pooling.

        framewise_t = p_t = sigmoid(W g_t),  clipwise = sum_t p_t^2 / sum_t p_t

    Max pooling follows every second convolution. The model takes `(batch, frames, 64)` with at least 4 frames, or
    waveforms at 16 kHz, and has `frames // 4` output frames (0.1 s) of `1024 * width` channels. The embedding is the
    mean of `g_t` over time.

    Arguments and outputs are described in `kerastag.models.backbones`.

    >>> talnet(num_classes=10, width=0.125).output["clipwise"].shape
    (None, 10)

    Reference: Wang, Li and Metze, 2019, figure 2, and their public code. Deviations: batch normalization over the mel
    bins replaces a fixed normalization; convolutions have no bias, which the following batch normalization would
    remove; the front end reflects the ends of the waveform, which affects two frames at either end; and ten seconds
    have 401 frames instead of 400, which become as many output frames.
    """
    return BACKBONE.build(num_classes, input, name, {}, width=width, dropout=dropout, augment=augment)
