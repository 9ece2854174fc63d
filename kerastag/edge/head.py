"""Attention heads in a stream: what is computed once per segment, and what is computed for each bag of segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["SPLIT_SIGNATURES", "SplitHead", "WholeHead"]

SPLIT_SIGNATURES = ("segment", "bag")
"""Signatures of a split head: the layers that see one segment, and those that see all segments of a bag."""


class WholeHead(NamedTuple):
    """A head that processes the embeddings of all segments of a bag each time; a bag is (1, segments, features)."""

    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    bag_shape: tuple[int, ...]

    def process_segment(self, embedding: np.ndarray) -> np.ndarray:
        return embedding

    def predict(self, bag: np.ndarray, newest: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of a bag, zero after its last segment, and those of its newest segment."""
        outputs = self.run(bag)
        clipwise = outputs["clipwise"][0]
        return clipwise, outputs["framewise"][0, newest] if "framewise" in outputs else clipwise


class SplitHead:
    """A head with the signatures `SPLIT_SIGNATURES`, whose segment layers process each segment once.

    `segment` computes `values` (1, 1, values) from `embedding` (1, 1, features); `bag` computes `clipwise` from
    `values` (1, segments, values). The probabilities of a segment are those of a bag that holds only this segment.
    A split head can be called like the runner of a signature that takes whole clips.
    """

    def __init__(self, segment: Any, bag: Any) -> None:
        self._segment, self._bag = segment, bag
        (values,) = bag.get_input_details().values()
        self.bag_shape = tuple(int(size) for size in values["shape"])

    def process_segment(self, embedding: np.ndarray) -> np.ndarray:
        """Return the values of a segment in a bag, zero for an embedding of zeros, which is padding."""
        return self._compute_values(embedding) if embedding.any() else np.zeros(self.bag_shape[-1], np.float32)

    def predict(self, bag: np.ndarray, newest: int) -> tuple[np.ndarray, np.ndarray]:
        return self._predict_bag(bag), self._predict_bag(self._make_bag(bag[0, newest]))

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        ((name, detail),) = self._segment.get_input_details().items()
        return {name: {**detail, "shape": (1, self.bag_shape[1], int(detail["shape"][-1]))}}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        details = self._bag.get_output_details()
        clipwise = details["clipwise"]
        return {**details, "framewise": {**clipwise, "shape": (1, self.bag_shape[1], int(clipwise["shape"][-1]))}}

    def __call__(self, embedding: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for a clip of shape (1, segments, features); segments of zeros are padding."""
        values = np.stack([self._compute_values(segment) for segment in embedding[0]])
        framewise = np.stack([self._predict_bag(self._make_bag(segment_values)) for segment_values in values])
        is_padding = ~embedding[0].any(axis=-1, keepdims=True)
        clipwise = self._predict_bag(np.where(is_padding, np.float32(0), values)[None])
        return {"clipwise": clipwise[None], "framewise": framewise[None]}

    def _compute_values(self, embedding: np.ndarray) -> np.ndarray:
        return self._segment(embedding=embedding[None, None])["values"][0, 0]

    def _make_bag(self, values: np.ndarray) -> np.ndarray:
        bag = np.zeros(self.bag_shape, np.float32)
        bag[0, 0] = values
        return bag

    def _predict_bag(self, bag: np.ndarray) -> np.ndarray:
        return self._bag(values=bag)["clipwise"][0]
