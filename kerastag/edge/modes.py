"""The two streaming modes: rows are collected, and a model predicts at regular positions in the stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kerastag.edge.head import WholeHead
from kerastag.edge.pair import EmbedderAndHead, check_pair
from kerastag.edge.rows import RowBuffer, RowGrid
from kerastag.edge.runtime import LiteRTModel

__all__ = ["IncrementalMode", "Prediction", "StreamingMode", "WindowedMode"]

# Allowed difference of segment lengths, relative: a front end needs a few samples beyond the start of the last frame.
_LENGTH_TOLERANCE = 0.02


class Prediction(NamedTuple):
    """A prediction; positions are counted in rows of the stream."""

    start: int  # First row that the model processed.
    end: int  # Row after the last one that the model processed.
    probabilities: np.ndarray  # Of these rows together, of shape (classes,).
    framewise: np.ndarray  # Over time, of the rows that are new, of shape (frames, classes).
    framewise_start: int  # Row at which the first of the frames begins.


class StreamingMode(ABC):
    """The schedule of a streaming mode.

    A prediction is due at the rows `first`, `first + hop`, and so on. It is made if at least half of the last
    `new_rows` rows are audio. These positions depend neither on how the stream is cut into blocks nor on what is
    missing in it. The last `capacity` rows are remembered; `silence` is the row that fills gaps.
    """

    frame_rows: int
    """Number of rows from one frame of `Prediction.framewise` to the next."""
    window_rows: int
    """Number of rows that the model processes together."""

    def __init__(self, silence: np.ndarray, capacity: int, new_rows: int, first: int, hop: int) -> None:
        self._buffer = RowBuffer(capacity, silence.shape)
        self._silence = np.broadcast_to(silence, (capacity, *silence.shape))
        self._new_rows, self._first = new_rows, first
        self.hop_rows = hop
        self.position = 0
        """Position of the next row."""
        self._due = first
        self._has_predicted = False
        self._paused_at = 0  # Position of the last pause.

    def count_needed_rows(self) -> int:
        """Return the number of rows until the next prediction is due, at least 1."""
        return self._due - self.position

    def add(self, rows: np.ndarray, is_audio: bool = True) -> Iterator[Prediction]:
        """Add the next rows, and yield the predictions that become due."""
        while True:
            needed = self._due - self.position
            part, rows = rows[:needed], rows[needed:]
            self._buffer.append(part, is_audio)
            self.position += len(part)
            if self.position < self._due:
                return
            if 2 * self._buffer.count_audio(self._new_rows) >= self._new_rows:
                self._has_predicted = True
                yield self._predict()
            self._due += self.hop_rows

    def skip(self, count: int) -> Iterator[Prediction]:
        """Fill a gap of `count` rows with silence, and yield the predictions that are still made in it."""
        filled = min(count, self._buffer.capacity)
        yield from self.add(self._silence[:filled], is_audio=False)
        if count >= self._buffer.capacity:
            self.position += count - filled
            self._due = self._first + ((self.position - self._first) // self.hop_rows + 1) * self.hop_rows
            self._reset()

    def pause(self) -> Iterator[Prediction]:
        """Yield the prediction of the audio that is left where a source is lost; later ones do not repeat it."""
        for prediction in self.finish():
            self._due += self.hop_rows
            yield prediction
        self._paused_at = self.position

    def finish(self) -> Iterator[Prediction]:
        """Yield the last prediction, at the end of the stream, if audio is left."""
        if self.position == self._paused_at:
            return
        has_audio = self._buffer.count_audio(self._buffer.capacity) > 0
        if self._has_remainder() or (has_audio and not self._has_predicted):
            yield self._predict_last()

    def replace_head(self, head: LiteRTModel) -> None:
        """Use another head from the next prediction on, which also processes what is remembered.

        Raises:
            ValueError: There is no head; or the head does not match the embedder, or takes another number of segments.
        """
        raise ValueError(f"`head` must be None for a tagger without one; received: {str(head.path)!r}")

    @abstractmethod
    def _predict(self) -> Prediction:
        """Predict at a position that is due."""

    def _predict_last(self) -> Prediction:
        """Predict at the end of the stream, which may be anywhere."""
        return self._predict()

    @abstractmethod
    def _has_remainder(self) -> bool:
        """Return whether there is audio that no prediction covers yet."""

    def _reset(self) -> None:  # noqa: B027 - One mode has nothing to do here.
        """Handle a gap after which no audio is left in the buffer."""

    def _fill_input(self, array: np.ndarray, start: int) -> None:
        """Copy the rows from `start` to the position into the input of a model, and pad them with silence."""
        count = self.position - start
        array[0, :count] = self._buffer.get_last(count)
        array[0, count:] = self._silence[0]


class WindowedMode(StreamingMode):
    """A mode in which a model for clips predicts the last window and its newest output frames at every hop.

    A window is as long as the input of the model. Before the first one is full, it begins at the first row and is
    padded with silence, as `Tagger` pads a short recording. Windows begin at whole output frames on one regular grid,
    and the hop is a whole number of output frames, so that the new frames of all windows follow each other without a
    seam. The first window therefore waits for the part of a window that is not a whole output frame (mn: 0.08 s of
    10 s). A model without `framewise` has one frame per hop, with the probabilities of the window. The model may be an
    embedder of output frames and a head.

    Raises:
        ValueError: The outputs of the model do not match its card, or the hop is longer than the window.
    """

    def __init__(self, model: LiteRTModel | EmbedderAndHead, grid: RowGrid, hop_seconds: float) -> None:
        self._model, self._window = model, model.shape[1]
        self._has_framewise = "framewise" in model.outputs and model.card.seconds_per_frame is not None
        self._frame = max(1, grid.to_rows(model.card.seconds_per_frame or 0)) if self._has_framewise else 1
        whole_frames = self._window // self._frame * self._frame
        self._tail = self._window - whole_frames  # Rows of a window after its last whole output frame.
        hop = max(1, round(grid.to_rows(hop_seconds) / self._frame)) * self._frame
        if hop > whole_frames:
            longest = grid.to_seconds(whole_frames)
            raise ValueError(
                f"`hop_seconds` must be at most the length of the window, {longest:g}; received: {hop_seconds!r}"
            )
        num_frames = _count_frames(model) if self._has_framewise else 0
        if self._has_framewise and num_frames < whole_frames // self._frame:
            frame_seconds, window_seconds = grid.to_seconds(self._frame), grid.to_seconds(self._window)
            raise ValueError(
                f"{model.path}: `framewise` must have a frame every {frame_seconds:g} s, as the card says; "
                f"received: {num_frames} frames in {window_seconds:g} s"
            )
        super().__init__(grid.silence, self._window, hop, self._tail + hop, hop)
        self._earliest_start = 0  # No window begins before this row.
        self._input = np.zeros(model.shape, np.float32)
        self.frame_rows, self.window_rows = self._frame if self._has_framewise else hop, self._window

    def replace_head(self, head: LiteRTModel) -> None:
        if not isinstance(self._model, EmbedderAndHead):
            super().replace_head(head)
        else:
            self._model.replace_head(head)

    def _predict(self) -> Prediction:
        end = self._due - self._tail
        return self._predict_window(self._due - self._window, end - self.hop_rows, end)

    def _predict_last(self) -> Prediction:
        start = -(-(self.position - self._window) // self._frame) * self._frame
        return self._predict_window(start, self._predicted_end, self.position)

    def _has_remainder(self) -> bool:
        rest = self.position - self._predicted_end
        return rest > 0 and self._buffer.count_audio(min(self._window, rest)) > 0

    def _reset(self) -> None:
        self._earliest_start = self.position // self._frame * self._frame

    @property
    def _predicted_end(self) -> int:
        """The row up to which the frames of earlier predictions reach."""
        return self._due - self.hop_rows - self._tail

    def _predict_window(self, start: int, first: int, last: int) -> Prediction:
        """Predict the window from row `start` to the position, in which the frames from `first` to `last` are new."""
        start = max(self._earliest_start, start)
        self._fill_input(self._input, start)
        outputs = self._model(self._input)
        probabilities, first = outputs["clipwise"][0], max(first, start)
        if not self._has_framewise:
            return Prediction(start, self.position, probabilities, probabilities[None], first)
        frames = slice((first - start) // self._frame, -(-(last - start) // self._frame))
        return Prediction(start, self.position, probabilities, outputs["framewise"][0, frames], first)


class IncrementalMode(StreamingMode):
    """A mode in which each segment is embedded once, and a head predicts from the last embeddings.

    The embedding of rows `[k * hop, k * hop + segment)`, or what the first part of a split head computes from it, is
    remembered. The head processes the last ones in temporal order, as many as its input takes (ten in the paper).
    Before there are so many, zeros follow them, which the head masks. A segment of which less than half is audio is
    skipped; a rest of at least half a segment, before a gap or at the end, is padded with silence. After a gap,
    embeddings older than a bag are dropped. The default of `hop_seconds` is the hop that the head was trained with, or
    the length of a segment if its card does not have it.

    Raises:
        ValueError: The two models do not match, or the hop is longer than a segment.

    Reference:
        Kong et al., "Weakly Labelled AudioSet Tagging with Attention Neural Networks", 2019. There, the bag is a clip
        of ten seconds; here, it is the last ten seconds.
    """

    def __init__(
        self, embedder: LiteRTModel, head: LiteRTModel, grid: RowGrid, hop_seconds: float | None, eight_bit: bool
    ) -> None:
        self._embedder, self._eight_bit, self._head_shape = embedder, eight_bit, head.shape
        self._head = head.split or WholeHead(head, head.shape)
        self._segment = embedder.shape[1]
        self._segment_seconds = segment_seconds = grid.to_seconds(self._segment)
        trained_seconds = head.card.seconds_per_frame or segment_seconds
        _check_segment(embedder, head, segment_seconds)
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
        self._embeddings = np.zeros(head.shape[1:], np.float32)  # What the bag is computed from.
        self._count = 0
        self._starts = np.zeros(head.shape[1], np.int64)  # The first row of each segment in the bag.
        self._input = np.zeros(embedder.shape, np.float32)
        self.frame_rows, self.window_rows = hop, self._segment + (head.shape[1] - 1) * hop

    def replace_head(self, head: LiteRTModel) -> None:
        if head.shape != self._head_shape:
            raise ValueError(f"{head.path}: must take `embedding` {self._head_shape} as before; received: {head.shape}")
        _check_segment(self._embedder, head, self._segment_seconds)
        new_head = head.split or WholeHead(head, head.shape)
        bag = np.zeros(new_head.bag_shape, np.float32)
        for values, embedding in zip(bag[0, : self._count], self._embeddings, strict=False):
            values[:] = new_head.process_segment(embedding)
        self._head, self._bag = new_head, bag

    def _predict(self) -> Prediction:
        """Add the segment that is due, padded with silence at the end of the stream, to the bag, and predict it."""
        start = self._due - self._segment
        self._fill_input(self._input, start)
        embedding = self._embedder(self._input)["embedding"][0]
        if self._eight_bit:
            embedding = (embedding - 128) / 128
        self._add_to_bag(embedding, start)
        probabilities, framewise = self._head.predict(self._bag, self._count - 1)
        return Prediction(int(self._starts[0]), self.position, probabilities, framewise[None], start)

    def _has_remainder(self) -> bool:
        count = self.position - (self._due - self._segment)
        is_new = self.position > self._due - self.hop_rows
        return is_new and count > 0 and 2 * self._buffer.count_audio(count) >= self._segment

    def _add_to_bag(self, embedding: np.ndarray, start: int) -> None:
        size = len(self._starts)
        oldest_start = start - (size - 1) * self.hop_rows
        first = int(np.searchsorted(self._starts[: self._count], oldest_start))
        first = max(first, self._count - size + 1)
        count = self._count - first
        values = self._head.process_segment(embedding)
        for array, newest in ((self._bag[0], values), (self._embeddings, embedding), (self._starts, start)):
            array[:count] = array[first : self._count].copy()
            array[count] = newest
            array[count + 1 :] = 0
        self._count = count + 1


def _count_frames(model: LiteRTModel | EmbedderAndHead) -> int:
    """Return the number of output frames of a window; only a run shows it where the model takes any length."""
    if model.length is None:
        return len(model(np.zeros(model.shape, np.float32))["framewise"][0])
    return model.output_shapes["framewise"][1]


def _check_segment(embedder: LiteRTModel, head: LiteRTModel, segment_seconds: float) -> None:
    check_pair(embedder, head)
    trained_seconds = head.card.seconds_per_frame or segment_seconds
    if abs(segment_seconds - trained_seconds) > _LENGTH_TOLERANCE * trained_seconds:
        raise ValueError(
            f"{embedder.path}: must take segments as long as those that {head.path} was trained on, "
            f"{trained_seconds:g} s; received: {segment_seconds:g} s"
        )
