"""What both ways of streaming share: rows come in, something is said each hop, gaps are silence that nobody heard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kerastag.edge.ring import Ring

__all__ = ["Mode", "Said"]


class Said(NamedTuple):
    """What a model says, in rows of the stream.

    Attributes:
        start, end: The rows that it heard.
        probabilities: (classes,) of them together.
        framewise: (frames, classes) of what is new in them.
        framewise_start: The row at which the first of the frames begins.
    """

    start: int
    end: int
    probabilities: np.ndarray
    framewise: np.ndarray
    framewise_start: int


class Mode(ABC):
    """Rows as they come -> what a model says of them, each `hop` rows.

    At rows `first`, `first + hop`, ... it speaks of the last rows, where it heard at least half of the last
    `listened`. These places do not depend on how the stream is cut or what is missing in it.

    Args:
        silence: The row that stands for what was not heard.
        capacity: Rows that it needs to remember.
        listened: Rows that are new, of which at least half must be heard.
        first: Where it speaks first.
        hop: Rows from one place to the next, at least 1.
    """

    frame_rows: int
    """Rows from one frame of `framewise` to the next."""
    window_rows: int
    """Rows that the model hears together."""

    def __init__(self, silence: np.ndarray, capacity: int, listened: int, first: int, hop: int) -> None:
        self._ring = Ring(capacity, silence.shape)
        self._silence = np.broadcast_to(silence, (capacity, *silence.shape))
        self._listened, self._first, self._hop = listened, first, hop
        self.hop_rows = hop
        self.position = 0
        """The next row."""
        self._due = first
        self._said_anything = False

    def needed(self) -> int:
        """Rows from the next one to the next place where something is said, at least 1."""
        return self._due - self.position

    def add(self, rows: np.ndarray, heard: bool = True) -> Iterator[Said]:
        """The next rows -> what is said on the way."""
        while True:
            now, rows = rows[: self._due - self.position], rows[self._due - self.position :]
            self._ring.append(now, heard)
            self.position += len(now)
            if self.position < self._due:
                return
            if 2 * self._ring.heard(self._listened) >= self._listened:
                self._said_anything = True
                yield self._say()
            self._due += self._hop

    def skip(self, count: int) -> Iterator[Said]:
        """The next rows were not heard: they count as silence, and what is due within them is not said."""
        filled = min(count, self._ring.capacity)
        yield from self.add(self._silence[:filled], heard=False)
        if count >= self._ring.capacity:
            self.position += count - filled
            self._due = self._first + ((self.position - self._first) // self._hop + 1) * self._hop
            self._forget()

    def finish(self) -> Iterator[Said]:
        """The stream ends here -> what is left to say."""
        if self._is_left() or (self._ring.heard(self._ring.capacity) and not self._said_anything):
            yield self._say_last()

    @abstractmethod
    def _say(self) -> Said:
        """At a place that is due."""

    @abstractmethod
    def _say_last(self) -> Said:
        """At the end, wherever that is."""

    @abstractmethod
    def _is_left(self) -> bool:
        """Whether something was heard of which nothing was said yet."""

    def _forget(self) -> None:  # noqa: B027 - most have nothing to do
        """Nothing that is remembered was heard."""
