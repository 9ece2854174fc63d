"""TALNet of Wang, Li and Metze, "A comparison of five multiple instance learning pooling functions", 2019."""

from typing import Any

import keras
from keras import layers, ops

from kerastag.layers._arguments import check_rate
from kerastag.layers.linear_softmax_pooling import LinearSoftmaxPooling
from kerastag.models.backbones._panns import cast_to_float32, convolve, float32_sigmoid, normalize_log_mel
from kerastag.models.backbones.backbone import Backbone, check_width, scale_channels

# Channels of both convolutions, and pooling over (frames, bins).
BLOCKS = ((32, (2, 2)), (64, (2, 2)), (128, (1, 2)), (256, (1, 2)), (512, (1, 2)))
GRU_UNITS = 512


def build_features(
    log_mel: Any,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    augment: keras.layers.Layer | None = None,
) -> Any:
    """Compute the features of TALNet, `(batch, frames // 4, 1024 * width)`, from log-mel."""
    check_width(width)
    check_rate("dropout", dropout)
    x = normalize_log_mel(log_mel, augment)
    for block, (channels, pool) in enumerate(BLOCKS, start=1):
        for part in (1, 2):
            x = convolve(
                x, scale_channels(channels, width), name=f"block{block}_conv{part}", bn_name=f"block{block}_bn{part}"
            )
        x = layers.MaxPooling2D(pool, name=f"block{block}_pool")(x)
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]), name="flatten")(x)  # (batch, output_frames, bins * channels)
    x = layers.Dropout(dropout, name="drop")(x)
    recurrent = layers.GRU(scale_channels(GRU_UNITS, width), return_sequences=True)
    return layers.Bidirectional(recurrent, name="recurrent")(x)


def build_head(features: Any, num_classes: int) -> dict[str, Any]:
    """Classify every frame by a dense layer, and pool the probabilities over time."""
    framewise = float32_sigmoid("framewise")(layers.Dense(num_classes, name="classifier")(features))
    return {
        "clipwise": LinearSoftmaxPooling(name="clipwise")(framewise),
        "framewise": framewise,
        "embedding": cast_to_float32("embedding")(ops.mean(ops.cast(features, "float32"), axis=1)),
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

    Max pooling follows every second convolution, so that there are ten output frames per second. The embedding is the
    mean of `g_t` over time.

    Args:
        num_classes: Number of classes, at least 1.
        width: Factor on the number of channels and units, in (0, 100].
        input: Input of the model: `log_mel`, shape `(batch, frames, 64)` with at least 4 frames, or `waveform`,
            `(batch, samples)` at 16 kHz.
        dropout: Dropout rate before the recurrent layer, in [0, 1).
        augment: Layer on the normalized log-mel such as `SpecAugment`; None for none.
        name: Name of the model.

    Returns:
        Model with a dict of outputs: `clipwise`, `(batch, num_classes)`, `framewise`,
        `(batch, frames // 4, num_classes)`, and `embedding`, `(batch, 1024 * width)`, float32.

    Raises:
        ValueError: An argument is outside its range.

    >>> talnet(num_classes=10, width=0.125).output["clipwise"].shape
    (None, 10)

    Reference: Wang, Li and Metze, 2019, figure 2. Deviations: the front end, which our sources do not state, is that of
    `kerastag.dsp`, followed by batch normalization over the mel bins.
    """
    return BACKBONE.build(
        num_classes,
        input=input,
        name=name,
        features={"width": width, "dropout": dropout, "augment": augment},
        head={},
    )
