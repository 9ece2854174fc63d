"""What the two streaming modes share: rows are collected, and a model predicts at regular positions in the stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kerastag.edge.rows import RowBuffer

__all__ = ["Prediction", "StreamingMode"]


class Prediction(NamedTuple):
    """A prediction; positions are counted in rows of the stream.

    Attributes:
        start: First row that the model processed.
        end: Row after the last one that the model processed.
        probabilities: Probabilities of these rows together, of shape (classes,).
        framewise: Probabilities over time of the rows that are new, of shape (frames, classes).
        framewise_start: Row at which the first of the frames begins.
    """

    start: int
    end: int
    probabilities: np.ndarray
    framewise: np.ndarray
    framewise_start: int


class StreamingMode(ABC):
    """The schedule of a streaming mode.

    A prediction is due at the rows `first`, `first + hop`, and so on. It is made if at least half of the last
    `new_rows` rows are audio. These positions depend neither on how the stream is cut into blocks nor on what is
    missing in it.

    Args:
        silence: Row that fills gaps.
        capacity: Number of rows to remember.
        new_rows: Number of rows that are new in a prediction.
        first: Position of the first prediction, rows.
        hop: Number of rows from one prediction to the next, at least 1.
    """

    frame_rows: int
    """Number of rows from one frame of `Prediction.framewise` to the next."""
    window_rows: int
    """Number of rows that the model processes together."""

    def __init__(self, silence: np.ndarray, capacity: int, new_rows: int, first: int, hop: int) -> None:
        self._buffer = RowBuffer(capacity, silence.shape)
        self._silence = np.broadcast_to(silence, (capacity, *silence.shape))
        self._new_rows, self._first, self._hop = new_rows, first, hop
        self.hop_rows = hop
        self.position = 0
        """Position of the next row."""
        self._due = first
        self._has_predicted = False

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
            self._due += self._hop

    def skip(self, count: int) -> Iterator[Prediction]:
        """Fill a gap of `count` rows with silence, and yield the predictions that are still made in it."""
        filled = min(count, self._buffer.capacity)
        yield from self.add(self._silence[:filled], is_audio=False)
        if count >= self._buffer.capacity:
            self.position += count - filled
            self._due = self._first + ((self.position - self._first) // self._hop + 1) * self._hop
            self._reset()

    def finish(self) -> Iterator[Prediction]:
        """Yield the last prediction, at the end of the stream, if audio is left."""
        has_audio = self._buffer.count_audio(self._buffer.capacity) > 0
        if self._has_remainder() or (has_audio and not self._has_predicted):
            yield self._predict_last()

    @abstractmethod
    def _predict(self) -> Prediction:
        """Predict at a position that is due."""

    @abstractmethod
    def _predict_last(self) -> Prediction:
        """Predict at the end of the stream, which may be anywhere."""

    @abstractmethod
    def _has_remainder(self) -> bool:
        """Return whether there is audio that no prediction covers yet."""

    def _reset(self) -> None:  # noqa: B027 - Most modes have nothing to do here.
        """Handle a gap after which no audio is left in the buffer."""
