"""AT-SCA: CNN10 with spatial and channel-wise attention."""

from functools import partial

import keras

from kerastag.layers.spatial_channel_attention import SpatialChannelAttention
from kerastag.models import cnn10
from kerastag.models._panns import max_mean_head
from kerastag.models.backbone import Backbone


def _attention(block: int) -> keras.layers.Layer:
    return SpatialChannelAttention(name=f"attention{block}")


build_features = partial(cnn10.build_features, after_block=_attention)
BACKBONE = Backbone("panns", 16, build_features, max_mean_head)


def at_sca(
    num_classes: int = 527,
    *,
    width: float = 1.0,
    input: str = "log_mel",
    dropout: float = 0.5,
    block_dropout: float = 0.2,
    augment: keras.layers.Layer | None = None,
    name: str = "at_sca",
) -> keras.Model:
    """Log-mel or waveform at 32 kHz -> clip and frame probabilities and an embedding, attending where an event is.

    CNN10 with one `SpatialChannelAttention` after the pooling of each of its four blocks; head and output frames as
    in `cnn10`.

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

    >>> at_sca(num_classes=10, width=0.125).output["embedding"].shape
    (None, 64)

    Reference: AT-SCA (2020), as Zhang et al. (2021) describe it in a sentence. Its exact layers are not in our
    sources: CNN10 as the trunk, the place of the modules and their formula are ours, so its figures say little about
    the published system.
    """
    return BACKBONE.build(
        num_classes,
        input=input,
        name=name,
        features={"width": width, "block_dropout": block_dropout, "augment": augment},
        head={"dropout": dropout},
    )
