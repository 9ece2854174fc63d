"""The last rows of a stream, in memory that does not grow."""

from __future__ import annotations

import numpy as np

__all__ = ["Ring"]


class Ring:
    """Rows as they come -> the last `capacity` of them, as one array without a copy.

    A row is a sample () or a log-mel frame (mel_bins,). With each stands whether it was heard: what fills a gap is not.
    Memory is twice the capacity, taken at once: rows are written one after the other, and the last of them are moved to
    the front where the end is reached.

    Args:
        capacity: Rows to keep, at least 1.
        row_shape: Shape of a row.

    >>> ring = Ring(3, ())
    >>> for value in range(8):
    ...     ring.append(np.float32([value]))
    >>> ring.last(2).tolist(), ring.heard(3)
    ([6.0, 7.0], 3)
    """

    def __init__(self, capacity: int, row_shape: tuple[int, ...]) -> None:
        self.capacity = capacity
        self._rows = np.zeros((2 * capacity, *row_shape), np.float32)
        self._heard = np.zeros(2 * capacity, bool)
        self._end = capacity  # silence that nobody heard stands before the first row

    def append(self, rows: np.ndarray, heard: bool = True) -> None:
        """Add rows (n, ...), any number; only the last `capacity` of them count."""
        rows = rows[-self.capacity :]
        if self._end + len(rows) > len(self._rows):
            kept = self.capacity - len(rows)
            self._rows[:kept] = self._rows[self._end - kept : self._end]
            self._heard[:kept] = self._heard[self._end - kept : self._end]
            self._end = kept
        self._rows[self._end : self._end + len(rows)] = rows
        self._heard[self._end : self._end + len(rows)] = heard
        self._end += len(rows)

    def last(self, count: int) -> np.ndarray:
        """The last rows (count, ...), at most `capacity`: a view that the next `append` changes."""
        return self._rows[self._end - count : self._end]

    def heard(self, count: int) -> int:
        """How many of the last rows were heard."""
        return int(np.count_nonzero(self._heard[self._end - count : self._end]))
