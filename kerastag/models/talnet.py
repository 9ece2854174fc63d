"""TALNet: convolutions, a recurrent layer, linear softmax pooling."""

from typing import Any

import keras
from keras import layers, ops

from kerastag.layers.linear_softmax_pooling import LinearSoftmaxPooling
from kerastag.models._panns import as_float32, convolve, normalize_input, sigmoid
from kerastag.models.backbone import Backbone, check_rate, check_width, scaled

# (channels of both convolutions, pooling over (frames, bins))
BLOCKS = ((32, (2, 2)), (64, (2, 2)), (128, (1, 2)), (256, (1, 2)), (512, (1, 2)))
GRU_UNITS = 512


def build_features(
    log_mel: Any,
    *,
    width: float = 1.0,
    dropout: float = 0.0,
    augment: keras.layers.Layer | None = None,
) -> Any:
    """Log-mel -> the features of TALNet: `(batch, frames // 4, 1024 · width)`."""
    check_width(width)
    check_rate("dropout", dropout)
    x = normalize_input(log_mel, augment)
    for block, (channels, pool) in enumerate(BLOCKS, start=1):
        for part in (1, 2):
            x = convolve(x, scaled(channels, width), name=f"block{block}_conv{part}", bn_name=f"block{block}_bn{part}")
        x = layers.MaxPooling2D(pool, name=f"block{block}_pool")(x)
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]), name="flatten")(x)  # (batch, output_frames, bins * channels)
    x = layers.Dropout(dropout, name="drop")(x)
    recurrent = layers.GRU(scaled(GRU_UNITS, width), return_sequences=True)
    return layers.Bidirectional(recurrent, name="recurrent")(x)


def build_head(features: Any, num_classes: int) -> dict[str, Any]:
    """Frame features -> Dense and sigmoid a frame, pooled over time."""
    framewise = sigmoid("framewise")(layers.Dense(num_classes, name="classifier")(features))
    return {
        "clipwise": LinearSoftmaxPooling(name="clipwise")(framewise),
        "framewise": framewise,
        "embedding": as_float32("embedding")(ops.mean(ops.cast(features, "float32"), axis=1)),
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
    """Log-mel or waveform at 16 kHz -> clip and frame probabilities and an embedding, ten output frames a second.

    Ten convolutions (BatchNorm, ReLU), max pooling after every second one, a bidirectional GRU,
    `framewise = sigmoid(W g_t)`, `clipwise = sum_t p_t^2 / sum_t p_t`. The embedding is the mean of g_t over time.

    Args:
        num_classes: Whole number above zero.
        width: Factor on every number of channels and units, above 0.
        input: `"log_mel"`, shape `(batch, frames, 64)` with at least 4 frames, or `"waveform"`, `(batch, samples)`.
        dropout: Rate before the recurrent layer, in [0, 1).
        augment: Layer on the normalized log-mel, such as `SpecAugment`; None for none.
        name: The model's name.

    Returns:
        Model with a dict of outputs: `clipwise` `(batch, num_classes)`, `framewise`
        `(batch, frames // 4, num_classes)` and `embedding` `(batch, 1024 · width)`, float32.

    Raises:
        ValueError: An argument is outside its range.

    >>> talnet(num_classes=10, width=0.125).output["clipwise"].shape
    (None, 10)

    Reference: Wang, Li and Metze, 2019, figure 2 (TALNet). Deviations: its front end is not in our sources; ours is
    stated in `kerastag.dsp`, with BatchNorm over the mel bins.
    """
    return BACKBONE.build(
        num_classes,
        input=input,
        name=name,
        features={"width": width, "dropout": dropout, "augment": augment},
        head={},
    )
