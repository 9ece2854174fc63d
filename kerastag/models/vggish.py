"""VGGish, and the step that makes its embeddings AudioSet's."""

import keras
import numpy as np
from keras import layers, ops

from kerastag.dsp import FRONT_ENDS
from kerastag.layers.patchwise import Patchwise
from kerastag.layers.vggish_postprocessor import LARGEST, SMALLEST, STEPS, VGGishPostprocessor
from kerastag.models._panns import as_float32, sigmoid
from kerastag.models.backbone import check_count, check_width, log_mel_input, scaled

PATCH_FRAMES = 96
EMBEDDING_SIZE = 128
FRONT_END = "vggish"
SECONDS_PER_PATCH = PATCH_FRAMES / FRONT_ENDS[FRONT_END].frames_per_second
# Names as in the published checkpoint; "pool" is 2×2 maximum pooling.
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
    """Log-mel or waveform at 16 kHz -> AudioSet's embeddings, one for each patch of 96 frames (0.96 s).

    Six convolutions with ReLU, maximum pooling after 1, 2, 4 and 6, two dense layers with ReLU, one of 128 without;
    then what `postprocess` says. With `num_classes`, a dense layer on the raw embedding gives
    `framewise = sigmoid(W relu(e_n))`, and `clipwise` is its mean over patches. 72,141,184 trainable parameters at
    full width without classes.

    Args:
        num_classes: Whole number above zero, or None for embeddings alone.
        width: Factor on every number of channels and hidden units, above 0; the embedding keeps its 128 features.
        input: `"log_mel"`, shape `(batch, frames, 64)` with at least 96 frames, or `"waveform"`, `(batch, samples)`.
        postprocess: `"raw"`, the network's own output; `"pca"`, whitened and clipped to [-2, 2]; `"uint8"`, quantized
            to 0 … 255 as well (whole numbers as float32): what AudioSet's released features hold.
        name: The model's name.

    Returns:
        Model with a dict of outputs: `segments` `(batch, patches, 128)`, which the embedding models read,
        `embedding` `(batch, 128)`, the mean of them, and with classes `clipwise` and `framewise`.

    Raises:
        ValueError: An argument is outside its range.

    >>> sorted(vggish(num_classes=10, width=0.0625).output)
    ['clipwise', 'embedding', 'framewise', 'segments']

    Reference: Hershey et al., CNN architectures for large-scale audio classification, 2017. Deviation: the classes,
    which are ours; the published network ends in the embedding.
    """
    check_width(width)
    if num_classes is not None:
        check_count("num_classes", num_classes)
    if postprocess not in POSTPROCESSING:
        raise ValueError(f"`postprocess` must be one of {', '.join(POSTPROCESSING)}, received {postprocess!r}")
    inputs, log_mel = log_mel_input(FRONT_ENDS[FRONT_END], input)
    raw = Patchwise(patch_network(log_mel.shape[-1], width), PATCH_FRAMES, name="patches")(log_mel)
    if postprocess == "raw":
        segments = as_float32("segments")(raw)
    else:
        segments = VGGishPostprocessor(quantize=postprocess == "uint8", name="segments")(raw)
    outputs = {"segments": segments, "embedding": ops.mean(segments, axis=1)}
    if num_classes is not None:
        logits = layers.Dense(num_classes, name="classifier")(layers.ReLU(name="relu")(raw))
        outputs["framewise"] = sigmoid("framewise")(logits)
        outputs["clipwise"] = ops.mean(outputs["framewise"], axis=1)
    return keras.Model(inputs, outputs, name=name)


def patch_network(num_mel_bins: int, width: float) -> keras.Model:
    """One patch `(batch, 96, mel_bins)` -> raw embedding `(batch, 128)`."""
    inputs = keras.Input((PATCH_FRAMES, num_mel_bins), name="patch")
    x = layers.Reshape((PATCH_FRAMES, num_mel_bins, 1), name="image")(inputs)
    for layer, size in CONVOLUTIONS:
        if layer == "pool":
            x = layers.MaxPooling2D(2, name=f"pool{size}")(x)
        else:
            x = layers.Conv2D(scaled(size, width), 3, padding="same", activation="relu", name=layer)(x)
    x = layers.Flatten(name="flatten")(x)
    for layer in ("fc1_1", "fc1_2"):
        x = layers.Dense(scaled(4096, width), activation="relu", name=layer)(x)
    return keras.Model(inputs, layers.Dense(EMBEDDING_SIZE, name="fc2")(x), name="patch_network")


def quantize(embedding: np.ndarray) -> np.ndarray:
    """Whitened embedding -> AudioSet's 8 bits: `floor((clip(y, -2, 2) + 2) * 255 / 4)`.

    Args:
        embedding: Floats of any shape.

    Returns:
        uint8, same shape.

    Raises:
        ValueError: A value is not a number.

    >>> quantize(np.array([-5.0, 0.0, 2.0]))
    array([  0, 127, 255], dtype=uint8)
    """
    embedding = np.asarray(embedding)
    if np.isnan(embedding).any():
        raise ValueError("`embedding` must hold numbers, received NaN")
    return ((np.clip(embedding, SMALLEST, LARGEST) - SMALLEST) * (STEPS / (LARGEST - SMALLEST))).astype(np.uint8)
