"""A pipe that can be waited for without getting stuck: reading ends when one says so, and a silence is noticed."""

from __future__ import annotations

import contextlib
import os
import select

__all__ = ["InterruptibleReader", "Stalled"]


class Stalled(Exception):
    """Nothing came for longer than one was ready to wait."""


class InterruptibleReader:
    """A file descriptor -> its bytes, for as long as nobody stops it.

    Args:
        descriptor: Of a pipe, a socket, a terminal or a file; it stays open when the reader is closed.
        patience_seconds: How long to wait for the next byte, above 0; None waits for ever.

    >>> source, sink = os.pipe()
    >>> os.write(sink, b"abcd"), os.close(sink)
    (4, None)
    >>> with contextlib.closing(InterruptibleReader(source)) as reader:
    ...     reader.read(3), reader.read(3), reader.read(3)
    (b'abc', b'd', b'')
    >>> os.close(source)
    """

    def __init__(self, descriptor: int, patience_seconds: float | None = None) -> None:
        self._descriptor = descriptor
        self._patience = patience_seconds
        self._wake, self._waker = os.pipe()
        self._waiting = bytearray()
        self.stopped = False

    def read(self, size: int) -> bytes:
        """That many bytes; fewer at the end of the stream, and none once it is stopped.

        Raises:
            Stalled: Nothing came within `patience_seconds`; what came before is kept for the next call.
        """
        while len(self._waiting) < size and not self.stopped:
            ready = select.select([self._descriptor, self._wake], [], [], self._patience)[0]
            if self._wake in ready:
                break
            if not ready:
                raise Stalled(f"nothing came for {self._patience:g} s")
            data = os.read(self._descriptor, size - len(self._waiting))
            if not data:
                break
            self._waiting += data
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        return b"" if self.stopped else data

    def stop(self) -> None:
        """End the reading, from a signal handler or another thread."""
        self.stopped = True
        with contextlib.suppress(OSError):  # closed already
            os.write(self._waker, b".")

    def close(self) -> None:
        """Give back what the reader itself had opened."""
        if self._wake >= 0:
            os.close(self._wake)
            os.close(self._waker)
            self._wake = self._waker = -1
