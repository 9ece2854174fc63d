"""Between the thread that captures and the one that tags: a queue that loses the oldest audio, and counts it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from kerastag.edge.blocks import Block

__all__ = ["BoundedAudioQueue"]


class BoundedAudioQueue:
    """Blocks from one thread -> blocks for another, at most `capacity_seconds` of audio waiting.

    Where the second is late, the oldest blocks are dropped; the block after them says how many samples are missing, so
    time stamps stay right. Iterating gives the blocks until `close`, and after it those that still wait. Safe to use
    from several threads.

    Args:
        capacity_seconds: How much audio may wait, above 0. The newest block always may.

    Raises:
        ValueError: `capacity_seconds` is not above 0.

    >>> import numpy as np
    >>> queue = BoundedAudioQueue(capacity_seconds=2.0)
    >>> for _ in range(3):
    ...     queue.put(Block(np.zeros(16_000, np.float32), 16_000))
    >>> queue.close()
    >>> [block.lost_samples for block in queue], queue.dropped_seconds
    ([16000, 0], 1.0)
    """

    def __init__(self, capacity_seconds: float = 10.0) -> None:
        if not capacity_seconds > 0:
            raise ValueError(f"`capacity_seconds` must be above 0, received {capacity_seconds!r}")
        self.capacity_seconds = capacity_seconds
        self.dropped_seconds = 0.0
        """Seconds of audio that were dropped so far."""
        self._blocks: deque[Block] = deque()
        self._seconds = 0.0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, block: Block) -> None:
        """Add a block; drop the oldest ones where there are too many seconds.

        Raises:
            ValueError: The queue is closed.
        """
        with self._changed:
            if self._closed:
                raise ValueError("`put`: the queue is closed")
            self._blocks.append(block)
            self._seconds += _seconds(block)
            while self._seconds > self.capacity_seconds and len(self._blocks) > 1:
                self._drop_oldest()
            self._changed.notify()

    def get(self, timeout: float | None = None) -> Block | None:
        """The oldest block; None where there is none within `timeout` seconds, or none and the queue is closed."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._blocks or self._closed, timeout) or not self._blocks:
                return None
            block = self._blocks.popleft()
            self._seconds = self._seconds - _seconds(block) if self._blocks else 0.0  # no rounding adds up
            return block

    def close(self) -> None:
        """No more blocks come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called; blocks may still wait."""
        return self._closed

    @property
    def waiting_seconds(self) -> float:
        """Seconds of audio that wait."""
        return self._seconds

    def __iter__(self) -> Iterator[Block]:
        while (block := self.get()) is not None:
            yield block

    def _drop_oldest(self) -> None:
        dropped, after = self._blocks.popleft(), self._blocks[0]
        self._seconds -= _seconds(dropped)
        self.dropped_seconds += _seconds(dropped)
        lost = (len(dropped.samples) + dropped.lost_samples) * after.sample_rate / dropped.sample_rate
        self._blocks[0] = after._replace(lost_samples=after.lost_samples + round(lost))


def _seconds(block: Block) -> float:
    return len(block.samples) / block.sample_rate
