"""A network of bags in two: what each segment goes through alone, and what hears the segments together."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import keras
from keras import ops

from kerastag.layers.attention_pooling import AttentionPooling
from kerastag.layers.segment_pooling import SegmentPooling

__all__ = ["Halves", "halves"]

_AXES = 3  # batch, segments, values


class Halves(NamedTuple):
    """A network cut before its poolings.

    Args:
        segment: `embedding` (batch, segments, features) -> `values` (batch, segments, values): all that the poolings
            read, side by side.
        pooled: Those tensors, each for itself, and then the masks that the poolings read as tensors, -> `clipwise`.
        widths: How many of the values each of those tensors has.
        masks: How many masks there are.
    """

    segment: keras.Model
    pooled: keras.Model
    widths: tuple[int, ...]
    masks: int

    def bag(self, values: Any) -> dict[str, Any]:
        """`values` of segments (batch, segments, values) -> `clipwise`; segments of zeros are padding."""
        mask = ops.any(ops.not_equal(values, 0), axis=-1)
        ends = [sum(self.widths[:index]) for index in range(len(self.widths) + 1)]
        parts = [values[..., begin:end] for begin, end in itertools.pairwise(ends)]
        heard = [*parts, *[mask] * self.masks]
        return {"clipwise": self.pooled(heard, training=False, mask=[mask] * len(parts) + [None] * self.masks)}


def halves(network: keras.Model) -> Halves:
    """A network from `embedding` to `clipwise` -> its two halves, with the same weights.

    Raises:
        ValueError: nothing that has weights stands before a pooling over segments, or something passes it by.
    """
    kinds = (AttentionPooling, SegmentPooling)
    poolings = [layer for layer in network.layers if isinstance(layer, kinds)]
    read = {id(tensor): tensor for layer in poolings for tensor in keras.tree.flatten(layer.input)}
    tensors = [tensor for tensor in read.values() if len(tensor.shape) == _AXES]
    masks = [tensor for tensor in read.values() if len(tensor.shape) < _AXES]  # of layers that read one tensor
    refused = f"`split` needs a model whose segments go through layers of their own before a pooling: {network.name}"
    if network.inputs[0].name != "embedding" or "clipwise" not in network.output or not tensors:
        raise ValueError(refused)
    values = tensors[0] if len(tensors) == 1 else ops.concatenate([ops.cast(x, "float32") for x in tensors], axis=-1)
    segment = keras.Model(network.input, {"values": values}, name=f"{network.name}_segment")
    if not any(isinstance(layer, keras.layers.Dense) for layer in segment.layers):
        raise ValueError(refused)
    try:
        pooled = keras.Model([*tensors, *masks], network.output["clipwise"], name=f"{network.name}_bag")
    except ValueError:  # the graph is not connected
        raise ValueError(f"`split`: something in {network.name} passes the pooling over segments by") from None
    pooled.supports_masking = True  # its first layers, the poolings, do
    return Halves(segment, pooled, tuple(int(tensor.shape[-1]) for tensor in tensors), len(masks))
