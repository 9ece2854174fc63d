"""An attention head in a stream: what it keeps of each segment, and what it says of those that it kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["SPLIT", "SplitHead", "WholeHead"]

SPLIT = ("segment", "bag")
"""Signatures of a head in two: the layers of one segment, and what hears the segments together."""


class WholeHead(NamedTuple):
    """A head that hears the embeddings of all its segments each time.

    Args:
        run: Bag (1, segments, features) -> `clipwise`, and `framewise` where the head has it.
        bag_shape: Of what it hears.
    """

    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    bag_shape: tuple[int, ...]

    def keep(self, embedding: np.ndarray) -> np.ndarray:
        """The embedding of a segment (features,) -> what stands for it in a bag."""
        return embedding

    def say(self, bag: np.ndarray, newest: int) -> tuple[np.ndarray, np.ndarray]:
        """Bag, zeros after its last segment, and that one's place -> its probabilities and the segment's own."""
        outputs = self.run(bag)
        clipwise = outputs["clipwise"][0]
        return clipwise, outputs["framewise"][0, newest] if "framewise" in outputs else clipwise


class SplitHead:
    """A file with the signatures `SPLIT`: a segment goes through its own layers once, not once for each bag it is in.

    `segment` makes `values` (1, 1, values) of `embedding` (1, 1, features), `bag` makes `clipwise` of them
    (1, segments, values). A segment's own probabilities are those of a bag that holds it alone. It may be called as the
    runner of a signature that takes whole clips.

    Args:
        segment, bag: Runners of the two signatures.
    """

    def __init__(self, segment: Any, bag: Any) -> None:
        self._segment, self._bag = segment, bag
        (values,) = bag.get_input_details().values()
        self.bag_shape = tuple(int(size) for size in values["shape"])

    def keep(self, embedding: np.ndarray) -> np.ndarray:
        """The embedding of a segment (features,) -> what stands for it in a bag; of one of zeros, zeros: padding."""
        return self._values(embedding) if embedding.any() else np.zeros(self.bag_shape[-1], np.float32)

    def say(self, bag: np.ndarray, newest: int) -> tuple[np.ndarray, np.ndarray]:
        """Bag, zeros after its last segment, and that one's place -> its probabilities and the segment's own."""
        return self._hear(bag), self._hear(self._alone(bag[0, newest]))

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        """As of a signature from whole clips."""
        details = self._segment.get_input_details()
        return {
            name: {**detail, "shape": (1, self.bag_shape[1], int(detail["shape"][-1]))}
            for name, detail in details.items()
        }

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """As of a signature from whole clips."""
        details = self._bag.get_output_details()
        clipwise = details["clipwise"]
        return {**details, "framewise": {**clipwise, "shape": (1, self.bag_shape[1], int(clipwise["shape"][-1]))}}

    def __call__(self, embedding: np.ndarray) -> dict[str, np.ndarray]:
        """A whole clip (1, segments, features) -> its outputs; segments of zeros are padding."""
        values = np.stack([self._values(segment) for segment in embedding[0]])
        framewise = np.stack([self._hear(self._alone(each)) for each in values])
        is_padding = ~embedding[0].any(axis=-1, keepdims=True)
        clipwise = self._hear(np.where(is_padding, np.float32(0), values)[None])
        return {"clipwise": clipwise[None], "framewise": framewise[None]}

    def _values(self, embedding: np.ndarray) -> np.ndarray:
        return self._segment(embedding=embedding[None, None])["values"][0, 0]

    def _alone(self, values: np.ndarray) -> np.ndarray:
        bag = np.zeros(self.bag_shape, np.float32)
        bag[0, 0] = values
        return bag

    def _hear(self, bag: np.ndarray) -> np.ndarray:
        return self._bag(values=bag)["clipwise"][0]
