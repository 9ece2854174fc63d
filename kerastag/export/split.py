"""Division of an attention head for streaming: the layers of each segment, and the pooling over segments."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import keras
from keras import ops

from kerastag.layers.attention_pooling import AttentionPooling
from kerastag.layers.segment_pooling import SegmentPooling

__all__ = ["HeadParts", "split_attention_head"]

_NUM_AXES = 3  # batch, segments, values


class HeadParts(NamedTuple):
    """The two parts of a network that is divided before its pooling layers.

    Args:
        segment: Network from `embedding` `(batch, segments, features)` to `values` `(batch, segments, values)`, the
            concatenated inputs of the pooling layers.
        pooling: Network from these inputs, each on its own, followed by the masks that the pooling layers take as
            tensors, to `clipwise`.
        widths: Number of values of each input of the pooling layers.
        num_masks: Number of masks that the pooling layers take as tensors.
    """

    segment: keras.Model
    pooling: keras.Model
    widths: tuple[int, ...]
    num_masks: int

    def pool(self, values: Any) -> dict[str, Any]:
        """Compute `clipwise` from `values` of shape `(batch, segments, values)`; segments of zeros are padding."""
        mask = ops.any(ops.not_equal(values, 0), axis=-1)
        ends = [sum(self.widths[:index]) for index in range(len(self.widths) + 1)]
        parts = [values[..., start:end] for start, end in itertools.pairwise(ends)]
        inputs, masks = [*parts, *[mask] * self.num_masks], [mask] * len(parts) + [None] * self.num_masks
        return {"clipwise": self.pooling(inputs, training=False, mask=masks)}


def split_attention_head(network: keras.Model) -> HeadParts:
    """Divide a network from `embedding` to `clipwise` before its pooling layers.

    Raises:
        ValueError: No layer with weights comes before a pooling over segments, or a layer bypasses the pooling.
    """
    poolings = [layer for layer in network.layers if isinstance(layer, AttentionPooling | SegmentPooling)]
    inputs = {id(tensor): tensor for layer in poolings for tensor in keras.tree.flatten(layer.input)}
    tensors = [tensor for tensor in inputs.values() if len(tensor.shape) == _NUM_AXES]
    masks = [tensor for tensor in inputs.values() if len(tensor.shape) < _NUM_AXES]  # of layers with one input
    message = f"`split` needs a model with layers that process each segment before a pooling; received: {network.name}"
    if network.inputs[0].name != "embedding" or "clipwise" not in network.output or not tensors:
        raise ValueError(message)
    values = tensors[0] if len(tensors) == 1 else ops.concatenate([ops.cast(x, "float32") for x in tensors], axis=-1)
    segment = keras.Model(network.input, {"values": values}, name=f"{network.name}_segment")
    if not any(isinstance(layer, keras.layers.Dense) for layer in segment.layers):
        raise ValueError(message)
    try:
        pooling = keras.Model([*tensors, *masks], network.output["clipwise"], name=f"{network.name}_bag")
    except ValueError:  # the graph is not connected
        message = f"`split` needs a model in which no layer bypasses the pooling; received: {network.name}"
        raise ValueError(message) from None
    pooling.supports_masking = True  # its first layers, the pooling layers, do
    return HeadParts(segment, pooling, tuple(int(tensor.shape[-1]) for tensor in tensors), len(masks))
