"""Incremental streaming: each segment is embedded once, and an attention head processes the last embeddings."""

from __future__ import annotations

import numpy as np

from kerastag.edge.head import WholeHead
from kerastag.edge.mode import Prediction, StreamingMode
from kerastag.edge.rows import RowGrid
from kerastag.edge.runtime import LiteRTModel

__all__ = ["IncrementalMode"]

# Allowed difference of segment lengths, relative: a front end needs a few samples beyond the start of the last frame.
_LENGTH_TOLERANCE = 0.02


class IncrementalMode(StreamingMode):
    """A mode that embeds each segment once and predicts from the last segments.

    The embedding of rows `[k * hop, k * hop + segment)`, or what the first part of a split head computes from it, is
    remembered. The head processes the last ones in temporal order, as many as its input takes (ten in the paper).
    Before there are so many, zeros follow them, which the head masks. A segment of which less than half is audio is
    skipped; a rest of at least half a segment, before a gap or at the end, is padded with silence. After a gap,
    embeddings older than a bag are dropped.

    Args:
        embedder: Model that takes samples or log-mel frames of one segment and returns `embedding`.
        head: Model that takes `embedding` (1, segments, features) and predicts `clipwise`.
        grid: Grid of the rows.
        hop_seconds: Time from the start of one segment to the next, seconds, rounded to whole rows; None is the hop
            that the head was trained with (`seconds_per_frame` of its card), or the length of a segment if the card
            does not have it.
        eight_bit: Whether embeddings are integers from 0 to 255, like those of AudioSet, and the head was trained on
            `(x - 128) / 128`.

    Raises:
        ValueError: The two models do not match, or the hop is longer than a segment.

    Reference:
        Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", 2019. There, the bag is a clip
        of ten seconds; here, it is the last ten seconds.
    """

    def __init__(
        self, embedder: LiteRTModel, head: LiteRTModel, grid: RowGrid, hop_seconds: float | None, eight_bit: bool
    ) -> None:
        self._embedder, self._eight_bit = embedder, eight_bit
        self._head = head.split or WholeHead(head, head.shape)
        self._segment = embedder.shape[1]
        segment_seconds = grid.to_seconds(self._segment)
        trained_seconds = head.card.seconds_per_frame or segment_seconds
        _check_pair(embedder, head, segment_seconds, trained_seconds)
        if hop_seconds is None:
            hop = min(self._segment, grid.to_rows(trained_seconds))
        else:
            hop = max(1, grid.to_rows(hop_seconds))
        if hop > self._segment:
            raise ValueError(
                f"`hop_seconds` must be at most the length of a segment, {segment_seconds:g}; received: {hop_seconds!r}"
            )
        super().__init__(grid.silence, self._segment, self._segment, self._segment, hop)
        self._bag = np.zeros(self._head.bag_shape, np.float32)
        self._count = 0
        self._starts = np.zeros(head.shape[1], np.int64)  # The first row of each segment in the bag.
        self._input = np.zeros(embedder.shape, np.float32)
        self.frame_rows, self.window_rows = hop, self._segment + (head.shape[1] - 1) * hop

    def _predict(self) -> Prediction:
        return self._predict_segment(self._due - self._segment)

    def _predict_last(self) -> Prediction:
        return self._predict_segment(self._due - self._segment)

    def _has_remainder(self) -> bool:
        count = self.position - (self._due - self._segment)
        is_new = self.position > self._due - self._hop
        return is_new and count > 0 and 2 * self._buffer.count_audio(count) >= self._segment

    def _predict_segment(self, start: int) -> Prediction:
        """Add the segment from row `start` to the position, padded with silence, to the bag, and predict the bag."""
        count = self.position - start
        self._input[0, :count] = self._buffer.get_last(count)
        self._input[0, count:] = self._silence[0]
        embedding = self._embedder(self._input)["embedding"][0]
        if self._eight_bit:
            embedding = (embedding - 128) / 128
        self._add_to_bag(self._head.process_segment(embedding), start)
        probabilities, framewise = self._head.predict(self._bag, self._count - 1)
        return Prediction(int(self._starts[0]), self.position, probabilities, framewise[None], start)

    def _add_to_bag(self, values: np.ndarray, start: int) -> None:
        size = len(self._starts)
        oldest_start = start - (size - 1) * self._hop
        first = int(np.searchsorted(self._starts[: self._count], oldest_start))
        first = max(first, self._count - size + 1)
        count = self._count - first
        for array, newest in ((self._bag[0], values), (self._starts, start)):
            array[:count] = array[first : self._count].copy()
            array[count] = newest
            array[count + 1 :] = 0
        self._count = count + 1


def _check_pair(embedder: LiteRTModel, head: LiteRTModel, segment_seconds: float, trained_seconds: float) -> None:
    if "embedding" not in embedder.outputs:
        raise ValueError(f"{embedder.path}: must return `embedding` for a head; received: {embedder.outputs}")
    front_ends = [model.card.front_end.get("name") for model in (embedder, head)]
    if None not in front_ends and front_ends[0] != front_ends[1]:
        raise ValueError(
            f"{embedder.path}: must have the front end that {head.path} was trained with, {front_ends[1]}; "
            f"received: {front_ends[0]}"
        )
    if abs(segment_seconds - trained_seconds) > _LENGTH_TOLERANCE * trained_seconds:
        raise ValueError(
            f"{embedder.path}: must take segments as long as those that {head.path} was trained on, "
            f"{trained_seconds:g} s; received: {segment_seconds:g} s"
        )
    features = embedder.output_shapes["embedding"][-1]
    if len(head.shape) != 3 or head.shape[2] != features:
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
