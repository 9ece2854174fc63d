"""MN: MobileNetV3 for audio, from EfficientAT."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from kerastag.layers.fused_batch_normalization import FusedBatchNormalization
from kerastag.models._panns import as_float32, mean_over_frequency, sigmoid
from kerastag.models.backbone import Backbone, check_rate, check_width

EPSILON = 1e-3
MOMENTUM = 0.99
REDUCTION = 4
FEATURES = 960
HIDDEN_UNITS = 1280


@dataclass(frozen=True)
class Row:
    """One inverted residual block: channels in, kernel side, expanded and output channels at width 1, and the rest."""

    inputs: int
    kernel_size: int
    expanded: int
    outputs: int
    squeeze_excite: bool
    activation: str
    stride: int


# MobileNetV3-Large.
ROWS = (
    Row(16, 3, 16, 16, False, "relu", 1),
    Row(16, 3, 64, 24, False, "relu", 2),
    Row(24, 3, 72, 24, False, "relu", 1),
    Row(24, 5, 72, 40, True, "relu", 2),
    Row(40, 5, 120, 40, True, "relu", 1),
    Row(40, 5, 120, 40, True, "relu", 1),
    Row(40, 3, 240, 80, False, "hard_silu", 2),
    Row(80, 3, 200, 80, False, "hard_silu", 1),
    Row(80, 3, 184, 80, False, "hard_silu", 1),
    Row(80, 3, 184, 80, False, "hard_silu", 1),
    Row(80, 3, 480, 112, True, "hard_silu", 1),
    Row(112, 3, 672, 112, True, "hard_silu", 1),
    Row(112, 5, 672, 160, True, "hard_silu", 2),
    Row(160, 5, 960, 160, True, "hard_silu", 1),
    Row(160, 5, 960, 160, True, "hard_silu", 1),
)


def rounded(channels: float) -> int:
    """Channels -> the nearest multiple of 8, at least 8 and never more than 10 % down."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def build_features(log_mel: Any, *, width: float = 1.0, augment: keras.layers.Layer | None = None) -> Any:
    """Log-mel -> the features of MN: `(batch, ceil(frames / 32), 960 · width)`."""
    check_width(width)
    x = log_mel if augment is None else augment(log_mel)
    x = layers.Reshape((-1, log_mel.shape[-1], 1), name="image")(x)  # (batch, frames, mel_bins, 1)
    x = _convolve(x, rounded(16 * width), 3, stride=2, activation="hard_silu", name="stem")
    for index, row in enumerate(ROWS, start=1):
        x = _inverted_residual(x, row, width, name=f"block{index}")
    x = _convolve(x, 6 * rounded(ROWS[-1].outputs * width), 1, activation="hard_silu", name="last")
    return mean_over_frequency(x)


def _inverted_residual(x: Any, row: Row, width: float, *, name: str) -> Any:
    shortcut, channels, expanded = x, rounded(row.inputs * width), rounded(row.expanded * width)
    if expanded != channels:
        x = _convolve(x, expanded, 1, activation=row.activation, name=f"{name}_expand")
    x = _convolve(
        x,
        None,
        row.kernel_size,
        stride=row.stride,
        activation=row.activation,
        name=f"{name}_depthwise",
    )
    if row.squeeze_excite:
        x = _squeeze_excite(x, name=f"{name}_squeeze_excite")
    x = _convolve(x, rounded(row.outputs * width), 1, activation=None, name=f"{name}_project")
    if row.stride == 1 and x.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _convolve(x: Any, channels: int | None, size: int, *, activation: str | None, name: str, stride: int = 1) -> Any:
    """Convolution (depthwise where `channels` is None) without bias -> BatchNorm -> activation, padded on all sides."""
    padding = "same"
    if stride > 1:
        # "same" at stride 2 pads an even input on one side only; the published weights want both.
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_padding")(x)
        padding = "valid"
    settings = {"strides": stride, "padding": padding, "use_bias": False, "name": f"{name}_conv"}
    depthwise = channels is None
    x = layers.DepthwiseConv2D(size, **settings)(x) if depthwise else layers.Conv2D(channels, size, **settings)(x)
    x = FusedBatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
    return x if activation is None else layers.Activation(activation, name=f"{name}_{activation}")(x)


def _squeeze_excite(x: Any, *, name: str) -> Any:
    channels = x.shape[-1]
    # One axis after the other: TFLite adds one value after the next, and a sum of thousands loses its last digits.
    gate = ops.mean(ops.mean(ops.cast(x, "float32"), axis=2, keepdims=True), axis=1, keepdims=True)
    gate = layers.Dense(rounded(channels // REDUCTION), activation="relu", name=f"{name}_fc1")(gate)
    gate = layers.Dense(channels, name=f"{name}_fc2")(gate)
    return layers.Multiply(name=f"{name}_scale")([x, sigmoid(f"{name}_gate")(gate)])


def build_head(
    features: Any, num_classes: int, *, hidden_units: int | None = None, dropout: float = 0.2
) -> dict[str, Any]:
    """Frame features -> mean over time -> two dense layers; the same two on every frame, as in `max_mean_head`."""
    check_rate("dropout", dropout)
    if hidden_units is None:
        hidden_units = rounded(features.shape[-1] * HIDDEN_UNITS / FEATURES)
    hidden = layers.Dense(hidden_units, activation="hard_silu", name="hidden")
    classify = layers.Dense(num_classes, name="classifier")
    embedding = ops.mean(ops.cast(features, "float32"), axis=1)  # (batch, channels)
    return {
        "clipwise": sigmoid("clipwise")(classify(layers.Dropout(dropout, name="drop")(hidden(embedding)))),
        "framewise": sigmoid("framewise")(classify(hidden(features))),
        "embedding": as_float32("embedding")(embedding),
    }


BACKBONE = Backbone("efficientat", 32, build_features, build_head)


def mn(
    num_classes: int = 527,
    *,
    width: float = 1.0,
    input: str = "log_mel",
    dropout: float = 0.2,
    augment: keras.layers.Layer | None = None,
    name: str = "mn",
) -> keras.Model:
    """Log-mel or waveform at 32 kHz -> clip and frame probabilities and an embedding, small enough for a device.

    MobileNetV3-Large over (frames, bins): `M = mean over frequency`, `clipwise = sigmoid(W2 hswish(W1 mean_t M))`,
    `framewise` is `sigmoid(W2 hswish(W1 M_t))` for each output frame t of 32 log-mel frames (0.32 s); the embedding
    is `mean_t M`. Width 0.4 is mn04 (983 thousand parameters with 527 classes), 1.0 mn10, 4.0 mn40.

    Args:
        num_classes: Whole number above zero.
        width: Factor on every number of channels, rounded to multiples of 8, above 0.
        input: `"log_mel"`, shape `(batch, frames, 128)`, or `"waveform"`, `(batch, samples)`.
        dropout: Rate before the classifier, in [0, 1).
        augment: Layer on the log-mel, such as `SpecAugment`; None for none.
        name: The model's name.

    Returns:
        Model with a dict of outputs: `clipwise` `(batch, num_classes)`, `framewise`
        `(batch, ceil(frames / 32), num_classes)` and `embedding` `(batch, 960 · width)`, float32.

    Raises:
        ValueError: An argument is outside its range.

    >>> mn(num_classes=10, width=0.4).output["embedding"].shape
    (None, 384)

    Reference: Schmid, Koutini and Widmer, Efficient large-scale audio tagging, 2023 (MN); Howard et al., Searching
    for MobileNetV3, 2019, table 1. Deviation: `framewise`, which is ours.
    """
    check_width(width)
    return BACKBONE.build(
        num_classes,
        input=input,
        name=name,
        features={"width": width, "augment": augment},
        head={"hidden_units": rounded(HIDDEN_UNITS * width), "dropout": dropout},
    )
