"""Blocks of live audio, and the queue between the thread that captures them and the thread that tags them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Block", "BoundedAudioQueue"]


class Block(NamedTuple):
    """A piece of a stream, of any length.

    Attributes:
        samples: Samples in [-1, 1], float32, of shape (samples,) or (samples, channels).
        sample_rate: Sample rate, Hz.
        captured_at: Time at which the first sample was captured, in seconds as `read_clock` counts them; None if the
            audio is not live.
        lost_samples: Number of samples, at the same rate, that are missing right before this block.
    """

    samples: np.ndarray
    sample_rate: int
    captured_at: float | None = None
    lost_samples: int = 0

    @property
    def seconds(self) -> float:
        """Duration, seconds."""
        return len(self.samples) / self.sample_rate


class BoundedAudioQueue:
    """A thread-safe queue of blocks that drops the oldest audio when it is full, or makes the writer wait.

    The block after a dropped one counts its samples as lost, so that time stamps stay right. Iterating yields the
    blocks until `close` is called, and then those that are still waiting.

    Args:
        capacity_seconds: Maximum duration of the waiting audio, seconds, above 0. A single block may be longer.
        waits: Whether `put` waits while the queue is full, and nothing is dropped.

    >>> import numpy as np
    >>> queue = BoundedAudioQueue(capacity_seconds=2.0)
    >>> for _ in range(3):
    ...     queue.put(Block(np.zeros(16_000, np.float32), 16_000))
    >>> queue.close()
    >>> [block.lost_samples for block in queue], queue.dropped_seconds
    ([16000, 0], 1.0)
    """

    def __init__(self, capacity_seconds: float = 10.0, waits: bool = False) -> None:
        if not capacity_seconds > 0:
            raise ValueError(f"`capacity_seconds` must be above 0; received: {capacity_seconds!r}")
        self.capacity_seconds, self._waits = capacity_seconds, waits
        self.dropped_seconds = 0.0
        """Duration of the audio that was dropped so far, seconds."""
        self._blocks: deque[Block] = deque()
        self._seconds = 0.0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, block: Block) -> None:
        """Add a block, and drop the oldest ones, or wait, if too much audio is waiting.

        Raises:
            ValueError: The queue is closed, perhaps while this waits.
        """
        with self._changed:
            if self._waits:
                self._changed.wait_for(lambda: self._closed or self._seconds < self.capacity_seconds)
            if self._closed:
                raise ValueError("`put`: the queue is closed")
            self._blocks.append(block)
            self._seconds += block.seconds
            while not self._waits and self._seconds > self.capacity_seconds and len(self._blocks) > 1:
                dropped, following = self._blocks.popleft(), self._blocks[0]
                self._seconds -= dropped.seconds
                self.dropped_seconds += dropped.seconds
                lost = (len(dropped.samples) + dropped.lost_samples) * following.sample_rate / dropped.sample_rate
                self._blocks[0] = following._replace(lost_samples=following.lost_samples + round(lost))
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Block | None:
        """Take the oldest block, or None if none comes within `timeout` seconds or the queue is closed and empty."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._blocks or self._closed, timeout) or not self._blocks:
                return None
            block = self._blocks.popleft()
            self._seconds = self._seconds - block.seconds if self._blocks else 0.0  # Rounding errors do not add up.
            self._changed.notify_all()
            return block

    def read(self, timeout: float) -> Iterator[Block | None]:
        """Yield the blocks like `__iter__`, and None whenever nothing has come for `timeout` seconds."""
        while (block := self.get(timeout)) is not None or self._blocks or not self._closed:
            yield block

    def close(self) -> None:
        """Declare that no more blocks follow."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Block]:
        while (block := self.get()) is not None:
            yield block
