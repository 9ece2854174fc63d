"""Pipes that are read without getting stuck, and standard input as a source."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator

from kerastag.edge.blocks import Block
from kerastag.edge.clock import read_clock
from kerastag.edge.sources.pcm import PcmFormat, read_pcm_blocks

__all__ = ["InterruptibleReader", "StalledError", "StandardInputSource"]

_TIMEOUT_SECONDS = 10.0


class StalledError(Exception):
    """An error for a pipe from which nothing came in time."""


class InterruptibleReader:
    """A reader of a file descriptor that another thread can stop, and that detects when nothing comes.

    Args:
        descriptor: Descriptor of a pipe, a socket, a terminal or a file; closing the reader does not close it.
        timeout_seconds: Maximum time to wait for the next byte, seconds, above 0; None waits forever.

    >>> source, sink = os.pipe()
    >>> os.write(sink, b"abcd"), os.close(sink)
    (4, None)
    >>> with contextlib.closing(InterruptibleReader(source)) as reader:
    ...     reader.read(3), reader.read(3), reader.read(3)
    (b'abc', b'd', b'')
    >>> os.close(source)
    """

    def __init__(self, descriptor: int, timeout_seconds: float | None = None) -> None:
        self._descriptor = descriptor
        self._timeout_seconds = timeout_seconds
        self._wake_reader, self._wake_writer = os.pipe()  # A byte in this pipe ends the waiting.
        self._buffer = bytearray()
        self.stopped = False

    def read(self, size: int) -> bytes:
        """Read `size` bytes, fewer at the end of the stream, and none after `stop`.

        Raises:
            StalledError: Nothing came within `timeout_seconds`; what came before is kept for the next call.
        """
        while len(self._buffer) < size and not self.stopped:
            ready = select.select([self._descriptor, self._wake_reader], [], [], self._timeout_seconds)[0]
            if self._wake_reader in ready:
                break
            if not ready:
                raise StalledError(f"nothing came for {self._timeout_seconds:g} s")
            data = os.read(self._descriptor, size - len(self._buffer))
            if not data:
                break
            self._buffer += data
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return b"" if self.stopped else data

    def stop(self) -> None:
        """End the reading; a signal handler or another thread may call this."""
        self.stopped = True
        with contextlib.suppress(OSError):  # The reader is closed already.
            os.write(self._wake_writer, b".")

    def close(self) -> None:
        """Close what the reader itself has opened."""
        if self._wake_reader >= 0:
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            self._wake_reader = self._wake_writer = -1


class StandardInputSource:
    """A source that reads raw PCM or WAV from a pipe.

    If the tagger is too slow, the writer has to wait; `arecord` then loses audio and says so itself. With `realtime`
    nobody waits: the stream drops the oldest audio and counts it.

    Args:
        pcm: Format of the bytes if they do not begin with a WAV header.
        log: Function that takes one line of text for the user.
        realtime: Whether the source is live.
        descriptor: Descriptor of the pipe; 0 is standard input.
        timeout_seconds: Time after which a silent pipe is reported, seconds, above 0.

    Raises:
        ValueError: The descriptor is a terminal. While iterating: the bytes are neither PCM nor WAV, or end before the
            first sample.
    """

    name = "standard input"

    def __init__(
        self,
        pcm: PcmFormat,
        log: Callable[[str], None],
        *,
        realtime: bool = False,
        descriptor: int = 0,
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> None:
        if os.isatty(descriptor):
            raise ValueError("standard input: must be a pipe of raw PCM or WAV; received: a terminal")
        self.live = realtime
        self._pcm = pcm
        self._log = log
        self._reader = InterruptibleReader(descriptor, timeout_seconds)

    def __iter__(self) -> Iterator[Block]:
        is_empty = True
        for rate, samples in read_pcm_blocks(self._read_patiently, self._pcm, self.name):
            is_empty = False
            yield Block(samples, rate, read_clock() - len(samples) / rate if self.live else None)
        if is_empty and not self._reader.stopped:
            raise ValueError("standard input: must have at least one sample; received: none")

    def _read_patiently(self, size: int) -> bytes:
        is_silent = False
        while True:
            try:
                data = self._reader.read(size)
            except StalledError as error:
                if not is_silent:
                    self._log(f"{self.name}: {error}; still waiting")
                is_silent = True
                continue
            if is_silent:
                self._log(f"{self.name}: continues")
            return data

    def stop(self) -> None:
        self._reader.stop()

    def close(self) -> None:
        """Close the reader; standard input stays open."""
        self._reader.close()
