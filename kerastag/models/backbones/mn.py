"""MN of EfficientAT: Schmid, Koutini and Widmer, "Efficient large-scale audio tagging", 2023."""

from typing import Any, NamedTuple

import keras
from keras import layers, ops

from kerastag.layers._arguments import check_rate
from kerastag.layers.fused_batch_normalization import FusedBatchNormalization
from kerastag.models.backbones._panns import average_frequency, float32_activation
from kerastag.models.backbones.backbone import Backbone, check_width

EPSILON = 1e-3
MOMENTUM = 0.99
REDUCTION = 4
HIDDEN_UNITS = 1280


class InvertedResidual(NamedTuple):
    """Numbers of channels at width 1 and other hyperparameters of an inverted residual block."""

    inputs: int
    kernel_size: int  # of the depthwise convolution, like the stride
    expanded: int
    outputs: int
    squeeze_excite: bool
    activation: str
    stride: int


# Howard et al., 2019, table 1: MobileNetV3-Large.
BLOCKS = (
    InvertedResidual(16, 3, 16, 16, False, "relu", 1),
    InvertedResidual(16, 3, 64, 24, False, "relu", 2),
    InvertedResidual(24, 3, 72, 24, False, "relu", 1),
    InvertedResidual(24, 5, 72, 40, True, "relu", 2),
    InvertedResidual(40, 5, 120, 40, True, "relu", 1),
    InvertedResidual(40, 5, 120, 40, True, "relu", 1),
    InvertedResidual(40, 3, 240, 80, False, "hard_silu", 2),
    InvertedResidual(80, 3, 200, 80, False, "hard_silu", 1),
    InvertedResidual(80, 3, 184, 80, False, "hard_silu", 1),
    InvertedResidual(80, 3, 184, 80, False, "hard_silu", 1),
    InvertedResidual(80, 3, 480, 112, True, "hard_silu", 1),
    InvertedResidual(112, 3, 672, 112, True, "hard_silu", 1),
    InvertedResidual(112, 5, 672, 160, True, "hard_silu", 2),
    InvertedResidual(160, 5, 960, 160, True, "hard_silu", 1),
    InvertedResidual(160, 5, 960, 160, True, "hard_silu", 1),
)


def round_channels(channels: float) -> int:
    """Round a number of channels to a multiple of 8, at least 8 and at most 10 % less."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def build_features(log_mel: Any, *, width: float = 1.0, augment: keras.layers.Layer | None = None) -> Any:
    """Compute the features of MN, `(batch, ceil(frames / 32), 960 * width)`, from log-mel."""
    check_width(width)
    x = log_mel if augment is None else augment(log_mel)
    x = layers.Reshape((-1, log_mel.shape[-1], 1), name="image")(x)  # (batch, frames, mel_bins, 1)
    x = _convolve(x, round_channels(16 * width), 3, stride=2, activation="hard_silu", name="stem")
    for index, block in enumerate(BLOCKS, start=1):
        x = _apply_inverted_residual(x, block, width, name=f"block{index}")
    x = _convolve(x, 6 * round_channels(BLOCKS[-1].outputs * width), 1, activation="hard_silu", name="last")
    return average_frequency(x)


def _apply_inverted_residual(x: Any, block: InvertedResidual, width: float, *, name: str) -> Any:
    shortcut, channels, expanded = x, round_channels(block.inputs * width), round_channels(block.expanded * width)
    if expanded != channels:
        x = _convolve(x, expanded, 1, activation=block.activation, name=f"{name}_expand")
    x = _convolve(
        x, None, block.kernel_size, activation=block.activation, name=f"{name}_depthwise", stride=block.stride
    )
    if block.squeeze_excite:
        x = _apply_squeeze_excite(x, name=f"{name}_squeeze_excite")
    x = _convolve(x, round_channels(block.outputs * width), 1, activation=None, name=f"{name}_project")
    if block.stride == 1 and x.shape[-1] == channels:
        x = layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _convolve(x: Any, channels: int | None, size: int, *, activation: str | None, name: str, stride: int = 1) -> Any:
    """Apply a convolution without bias (depthwise if `channels` is None), batch normalization and the activation."""
    if stride > 1:
        # "same" at stride 2 pads an even input on one side only; the published weights need padding on both sides.
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_padding")(x)
    padding = "same" if stride == 1 else "valid"
    options = {"strides": stride, "padding": padding, "use_bias": False, "name": f"{name}_conv"}
    x = (layers.DepthwiseConv2D(size, **options) if channels is None else layers.Conv2D(channels, size, **options))(x)
    x = FusedBatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name=f"{name}_bn")(x)
    return x if activation is None else layers.Activation(activation, name=f"{name}_{activation}")(x)


def _apply_squeeze_excite(x: Any, *, name: str) -> Any:
    channels = x.shape[-1]
    # One axis after the other: TFLite sums sequentially, and a sum of thousands of values loses its last digits.
    gate = ops.mean(ops.mean(ops.cast(x, "float32"), axis=2, keepdims=True), axis=1, keepdims=True)
    gate = layers.Dense(round_channels(channels // REDUCTION), activation="relu", name=f"{name}_fc1")(gate)
    gate = layers.Dense(channels, name=f"{name}_fc2")(gate)
    return layers.Multiply(name=f"{name}_scale")([x, float32_activation("sigmoid", f"{name}_gate")(gate)])


def build_head(features: Any, num_classes: int, *, hidden_units: int, dropout: float = 0.2) -> dict[str, Any]:
    """Classify the mean over time by two dense layers, and every frame by the same two."""
    check_rate("dropout", dropout)
    hidden = layers.Dense(hidden_units, activation="hard_silu", name="hidden")
    classify = layers.Dense(num_classes, name="classifier")
    embedding = ops.mean(ops.cast(features, "float32"), axis=1)  # (batch, channels)
    return {
        "clipwise": float32_activation("sigmoid", "clipwise")(
            classify(layers.Dropout(dropout, name="drop")(hidden(embedding)))
        ),
        "framewise": float32_activation("sigmoid", "framewise")(classify(hidden(features))),
        "embedding": float32_activation("linear", "embedding")(embedding),
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
    """Build MN: MobileNetV3-Large over (frames, bins), small enough for a device.

        M = mean over frequency,  clipwise = sigmoid(W2 hswish(W1 mean_t M))

    `framewise` is `sigmoid(W2 hswish(W1 M_t))` for each of the `ceil(frames / 32)` output frames (0.32 s); the
    embedding is `mean_t M`, `(batch, 960 * width)` with channels rounded to a multiple of 8. The model takes
    `(batch, frames, 128)`, or waveforms at 32 kHz. Width 0.4 is mn04 (983,599 trainable parameters with 527 classes),
    1.0 mn10, 4.0 mn40.

    Arguments and outputs are described in `kerastag.models.backbones`.

    >>> mn(num_classes=10, width=0.4).output["embedding"].shape
    (None, 384)

    Reference: Schmid, Koutini and Widmer, 2023; Howard et al., Searching for MobileNetV3, 2019, table 1. Deviation:
    `framewise` is ours.
    """
    check_width(width)
    head = {"hidden_units": round_channels(HIDDEN_UNITS * width), "dropout": dropout}
    return BACKBONE.build(num_classes, input, name, head, width=width, augment=augment)
