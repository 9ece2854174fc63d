"""An embedder and a head in two files: whether they match, and both as one model of windows."""

from __future__ import annotations

import numpy as np

from kerastag.edge.runtime import LiteRTModel

__all__ = ["EmbedderAndHead", "check_pair", "embeds_frames"]

_NUM_FRAME_AXES = 3  # batch, output frames, features


class EmbedderAndHead:
    """An embedder of the output frames of a window and a head, as one model that predicts the window.

    The embedder takes a window and returns `embedding` (1, frames, features), which is the input of the head.

    Args:
        embedder: Model from audio to the embeddings of its output frames.
        head: Model from embeddings to `clipwise` and, if it has them, `framewise`.

    Raises:
        ValueError: The models do not match.
    """

    def __init__(self, embedder: LiteRTModel, head: LiteRTModel) -> None:
        self._embedder, self._head = embedder, head
        self.path, self.shape, self.length = embedder.path, embedder.shape, embedder.length
        self.card, self.outputs, self.output_shapes = head.card, head.outputs, head.output_shapes
        self.replace_head(head)

    def replace_head(self, head: LiteRTModel) -> None:
        """Use another head from the next window on.

        Raises:
            ValueError: The head does not match the embedder.
        """
        check_pair(self._embedder, head)
        shape = self._embedder.output_shapes["embedding"]
        if head.shape != shape:
            raise ValueError(
                f"{head.path}: must take `embedding` {shape}, which {self._embedder.path} returns; received: "
                f"{head.shape}"
            )
        self._head = head

    def __call__(self, window: np.ndarray) -> dict[str, np.ndarray]:
        """Predict a window of shape (1, ...), and return the outputs of the head by name."""
        return self._head(self._embedder(window)["embedding"])


def embeds_frames(embedder: LiteRTModel) -> bool:
    """Return whether an embedder returns an embedding of each output frame, instead of one of all its input."""
    return len(embedder.output_shapes.get("embedding", ())) == _NUM_FRAME_AXES


def check_pair(embedder: LiteRTModel, head: LiteRTModel) -> None:
    """Raise a ValueError if a head was not trained on what an embedder returns."""
    if "embedding" not in embedder.outputs:
        raise ValueError(f"{embedder.path}: must return `embedding` for a head; received: {embedder.outputs}")
    front_ends = [model.card.front_end.get("name") for model in (embedder, head)]
    if None not in front_ends and front_ends[0] != front_ends[1]:
        raise ValueError(
            f"{embedder.path}: must have the front end that {head.path} was trained with, {front_ends[1]}; "
            f"received: {front_ends[0]}"
        )
    features = embedder.output_shapes["embedding"][-1]
    if len(head.shape) != _NUM_FRAME_AXES or head.shape[2] != features:
        raise ValueError(
            f"{head.path}: must take `embedding` (1, segments, {features}), which {embedder.path} returns; "
            f"received: {head.shape}"
        )
    weights = [model.card.versions.get("embedder") for model in (embedder, head)]
    if None not in weights and weights[0] != weights[1]:
        raise ValueError(
            f"{embedder.path}: must have the weights whose embeddings {head.path} was trained on ({weights[1]}); "
            f"received: {weights[0]}. Export both from one run"
        )
