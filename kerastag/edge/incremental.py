"""Incremental streaming: each segment is embedded once, and an attention head hears the embeddings of the last ones."""

from __future__ import annotations

import numpy as np

from kerastag.edge.head import WholeHead
from kerastag.edge.mode import Mode, Said
from kerastag.edge.rows import Grid
from kerastag.edge.runtime import LiteRTModel

__all__ = ["IncrementalMode"]

_LENGTHS_APART = 0.02  # of a segment's length: a front end hears a little beyond the last frame's begin


class IncrementalMode(Mode):
    """Rows -> embeddings of segments -> the head's probabilities of the last of them, each segment.

    What an embedder makes of rows `[k * hop, k * hop + segment)` is remembered, or what a head in two parts has made of
    it; the head hears the last ones, as many as its input takes (ten, in paper 1), in order of time. Until there are so
    many, zeros stand after them, which the head masks. A segment of which less than half was heard is none; a rest of
    half a segment or more, before a gap or at the end, is completed with silence. After a gap, embeddings older than
    the bag is long are forgotten.

    Args:
        embedder: Hears samples or log-mel frames of one segment and gives `embedding`.
        head: Hears `embedding` (1, segments, features) and gives `clipwise`.
        grid: What a row is.
        hop_seconds: From the begin of one segment to the next, rounded to whole rows; None is what the head has learned
            (`seconds_per_frame` of its card), or their length where its card does not say.
        eight_bit: Whether embeddings are whole numbers from 0 to 255, of which the head has learned
            `(x - 128) / 128`, as it is with AudioSet's.

    Raises:
        ValueError: The two do not fit each other, or the hop is longer than a segment.

    Reference: Kong et al., Weakly labelled AudioSet tagging with attention neural networks, 2019: the bag is the last
    ten seconds instead of a clip.
    """

    def __init__(
        self, embedder: LiteRTModel, head: LiteRTModel, grid: Grid, hop_seconds: float | None, eight_bit: bool
    ) -> None:
        self._embedder, self._eight_bit = embedder, eight_bit
        self._head = head.split or WholeHead(head, head.shape)
        self._segment = embedder.shape[1]
        learned = head.card.seconds_per_frame or grid.seconds(self._segment)
        _check_fit(embedder, head, grid.seconds(self._segment), learned)
        if hop_seconds is None:
            hop = min(self._segment, grid.rows(learned))
        else:
            hop = max(1, grid.rows(hop_seconds))
        if hop > self._segment:
            longest = grid.seconds(self._segment)
            raise ValueError(f"`hop_seconds` must be at most a segment, {longest:g}, received {hop_seconds!r}")
        super().__init__(grid.silence, self._segment, self._segment, self._segment, hop)
        self._bag = np.zeros(self._head.bag_shape, np.float32)
        self._count = 0
        self._starts = np.zeros(head.shape[1], np.int64)  # the first row of each segment in the bag
        self._input = np.zeros(embedder.shape, np.float32)
        self.frame_rows, self.window_rows = hop, self._segment + (head.shape[1] - 1) * hop

    def _say(self) -> Said:
        return self._hear(self._due - self._segment)

    def _say_last(self) -> Said:
        return self._hear(self._due - self._segment)

    def _is_left(self) -> bool:
        begun = self.position - (self._due - self._segment)
        is_new = self.position > self._due - self._hop
        return is_new and begun > 0 and 2 * self._ring.heard(begun) >= self._segment

    def _hear(self, start: int) -> Said:
        """The segment from row `start` to the position, silence after it where it is short."""
        count = self.position - start
        self._input[0, :count] = self._ring.last(count)
        self._input[0, count:] = self._silence[0]
        embedding = self._embedder(self._input)["embedding"][0]
        self._remember(self._head.keep((embedding - 128) / 128 if self._eight_bit else embedding), start)
        probabilities, framewise = self._head.say(self._bag, self._count - 1)
        return Said(int(self._starts[0]), self.position, probabilities, framewise[None], start)

    def _remember(self, values: np.ndarray, start: int) -> None:
        size = len(self._starts)
        oldest = start - (size - 1) * self._hop
        kept = int(np.searchsorted(self._starts[: self._count], oldest))  # those before are too old
        kept = max(kept, self._count - size + 1)
        left = self._count - kept
        for array, newest in ((self._bag[0], values), (self._starts, start)):
            array[:left] = array[kept : self._count].copy()
            array[left] = newest
            array[left + 1 :] = 0
        self._count = left + 1


def _check_fit(embedder: LiteRTModel, head: LiteRTModel, segment_seconds: float, learned_seconds: float) -> None:
    if "embedding" not in embedder.outputs:
        raise ValueError(f"{embedder.path}: must give `embedding` for a head to hear. Received: {embedder.outputs}")
    names = [model.card.front_end.get("name") for model in (embedder, head)]
    if None not in names and names[0] != names[1]:
        raise ValueError(
            f"{head.path}: was trained on embeddings from {names[1]} log-mel, {embedder.path} has {names[0]}"
        )
    if abs(segment_seconds - learned_seconds) > _LENGTHS_APART * learned_seconds:
        heard = f"{embedder.path} hears {segment_seconds:g} s"
        raise ValueError(f"{head.path}: was trained on segments of {learned_seconds:g} s, {heard}")
    features = embedder.output_shapes["embedding"][-1]
    if len(head.shape) != 3 or head.shape[2] != features:
        raise ValueError(
            f"{head.path}: must hear `embedding` (1, segments, {features}), which {embedder.path} gives. "
            f"Received: {head.shape}"
        )
    weights = [model.card.versions.get("embedder") for model in (embedder, head)]
    if None not in weights and weights[0] != weights[1]:
        raise ValueError(
            f"{head.path}: was trained on embeddings of other weights ({weights[1]}) than those of {embedder.path} "
            f"({weights[0]}); export both from one run"
        )
