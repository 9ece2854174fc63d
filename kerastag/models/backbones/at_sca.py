"""AT-SCA, CNN10 with spatial and channel-wise attention, after the abstract of Hong et al., 2020."""

from functools import partial

import keras

from kerastag.layers.spatial_channel_attention import SpatialChannelAttention
from kerastag.models.backbones import cnn10
from kerastag.models.backbones._panns import build_max_mean_head
from kerastag.models.backbones.backbone import Backbone


def _attention(block: int) -> keras.layers.Layer:
    return SpatialChannelAttention(name=f"attention{block}")


build_features = partial(cnn10.build_features, after_block=_attention)
BACKBONE = Backbone("panns", 16, build_features, build_max_mean_head)


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
    """Build AT-SCA: CNN10 with a `SpatialChannelAttention` after the pooling of each of its four blocks.

    It takes `(batch, frames, 64)` with at least 16 frames, or waveforms at 32 kHz, and has the output frames and
    `512 * width` channels of `cnn10`. Arguments and outputs are described in `kerastag.models.backbones`.

    >>> at_sca(num_classes=10, width=0.125).output["embedding"].shape
    (None, 64)

    Reference: Hong, Wang, Zou and Cao, "Weakly labelled audio tagging via convolutional networks with spatial and
    channel-wise attention", 2020, of which our sources have the abstract only. It says that spatial attention has a
    global part, for the regions of an event, and a local one, for its onset and offset; that channels have attention
    too; and that any CNN can be the trunk. The rest is a guess: CNN10 as the trunk, the place of the attention, its
    layers and their formula. Results do not carry over to the published system.
    """
    head = {"dropout": dropout}
    return BACKBONE.build(num_classes, input, name, head, width=width, block_dropout=block_dropout, augment=augment)
