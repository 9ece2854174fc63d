"""VGGish of Hershey et al., "CNN architectures for large-scale audio classification", 2017."""

import keras
from keras import layers, ops

from kerastag.dsp import FRONT_ENDS
from kerastag.layers._arguments import check_choice, check_integer
from kerastag.layers.patchwise import Patchwise
from kerastag.layers.vggish_postprocessor import VGGishPostprocessor
from kerastag.models.backbones._panns import float32_activation
from kerastag.models.backbones.backbone import build_input, check_width, scale_channels

PATCH_FRAMES = 96
EMBEDDING_SIZE = 128
FRONT_END = "vggish"
SECONDS_PER_PATCH = PATCH_FRAMES / FRONT_ENDS[FRONT_END].frames_per_second
# Names of layers in the published checkpoint with their channels; "pool" is 2×2 max pooling with its number.
CONVOLUTIONS = (
    ("conv1", 64),
    ("pool", 1),
    ("conv2", 128),
    ("pool", 2),
    ("conv3_1", 256),
    ("conv3_2", 256),
    ("pool", 3),
    ("conv4_1", 512),
    ("conv4_2", 512),
    ("pool", 4),
)
POSTPROCESSING = ("raw", "pca", "uint8")


def vggish(
    num_classes: int | None = None,
    *,
    width: float = 1.0,
    input: str = "log_mel",
    postprocess: str = "uint8",
    name: str = "vggish",
) -> keras.Model:
    """Build VGGish: embeddings as released with AudioSet, one per patch of 96 frames (0.96 s).

    Six convolutions with ReLU, max pooling after 1, 2, 4 and 6, two dense layers with ReLU and one of 128 units without
    make the raw embedding `e_n` of patch n. With `num_classes`, a dense layer on it gives
    `framewise = sigmoid(W relu(e_n))`, and `clipwise` is the mean over the patches. The model has 72,141,184 trainable
    parameters at full width without classes.

    Args:
        num_classes: Number of classes, at least 1; None for embeddings only.
        width: Factor on the number of channels and hidden units, in (0, 100]. The embedding always has 128 features.
        input: Input of the model: `log_mel`, shape `(batch, frames, 64)` with at least 96 frames, or `waveform`,
            `(batch, samples)` at 16 kHz.
        postprocess: Form of the embeddings: `raw`, the output of the network; `pca`, whitened and clipped to [-2, 2];
            `uint8`, also quantized to integers from 0 to 255 (as float32), as in AudioSet's released features.
        name: Name of the model.

    Returns:
        Model with a dict of outputs: `segments`, `(batch, patches, 128)`, the input of the embedding models,
        `embedding`, `(batch, 128)`, their mean, and with classes `clipwise` and `framewise`.

    Raises:
        ValueError: An argument is outside its range.

    >>> sorted(vggish(num_classes=10, width=0.0625).output)
    ['clipwise', 'embedding', 'framewise', 'segments']

    Reference: Hershey et al., 2017. Deviation: the classes are ours; the published network ends with the embedding.
    """
    check_width(width)
    if num_classes is not None:
        check_integer("num_classes", num_classes)
    check_choice("postprocess", postprocess, POSTPROCESSING)
    inputs, log_mel = build_input(FRONT_ENDS[FRONT_END], input)
    raw = Patchwise(build_patch_network(log_mel.shape[-1], width), PATCH_FRAMES, name="patches")(log_mel)
    if postprocess == "raw":
        segments = float32_activation("linear", "segments")(raw)
    else:
        segments = VGGishPostprocessor(quantize=postprocess == "uint8", name="segments")(raw)
    outputs = {"segments": segments, "embedding": ops.mean(segments, axis=1)}
    if num_classes is not None:
        logits = layers.Dense(num_classes, name="classifier")(layers.ReLU(name="relu")(raw))
        outputs["framewise"] = float32_activation("sigmoid", "framewise")(logits)
        outputs["clipwise"] = ops.mean(outputs["framewise"], axis=1)
    return keras.Model(inputs, outputs, name=name)


def build_patch_network(num_mel_bins: int, width: float) -> keras.Model:
    """Build the network from a patch, `(batch, 96, mel_bins)`, to its raw embedding, `(batch, 128)`."""
    inputs = keras.Input((PATCH_FRAMES, num_mel_bins), name="patch")
    x = layers.Reshape((PATCH_FRAMES, num_mel_bins, 1), name="image")(inputs)
    for layer, size in CONVOLUTIONS:
        if layer == "pool":
            x = layers.MaxPooling2D(2, name=f"pool{size}")(x)
        else:
            x = layers.Conv2D(scale_channels(size, width), 3, padding="same", activation="relu", name=layer)(x)
    x = layers.Flatten(name="flatten")(x)
    for layer in ("fc1_1", "fc1_2"):
        x = layers.Dense(scale_channels(4096, width), activation="relu", name=layer)(x)
    return keras.Model(inputs, layers.Dense(EMBEDDING_SIZE, name="fc2")(x), name="patch_network")
