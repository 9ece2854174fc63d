"""Raw PCM or WAV on standard input -> blocks, as `arecord -t raw | kerastag stream --source -` has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from kerastag.edge.blocks import Block, now
from kerastag.edge.sources.interruptible import InterruptibleReader, Stalled
from kerastag.edge.sources.pcm import PcmFormat, pcm_blocks

__all__ = ["StandardInput"]

PATIENCE_SECONDS = 10.0


class StandardInput:
    """A pipe of samples -> blocks until it ends.

    Where the tagger is late the writer waits: `arecord` then loses audio and says so itself. With `realtime` nobody
    waits: the stream drops the oldest audio and counts it.

    Args:
        pcm: How the bytes become samples, where they do not begin with a WAV header.
        report: Takes one line for people.
        realtime: Whether what comes is live.
        descriptor: Where the bytes come from: 0 is standard input.
        patience_seconds: After how long a silent pipe is reported, above 0.

    Raises:
        ValueError: It is a terminal; while iterating, it is neither PCM nor WAV, or ends before the first sample.
    """

    name = "standard input"

    def __init__(
        self,
        pcm: PcmFormat,
        report: Callable[[str], None],
        *,
        realtime: bool = False,
        descriptor: int = 0,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        if os.isatty(descriptor):
            raise ValueError("standard input: must be a pipe of raw PCM or WAV, received a terminal")
        self.live = realtime
        self._pcm = pcm
        self._report = report
        self._reader = InterruptibleReader(descriptor, patience_seconds)

    def __iter__(self) -> Iterator[Block]:
        any_block = False
        for rate, samples in pcm_blocks(self._patiently, self._pcm, self.name):
            any_block = True
            yield Block(samples, rate, now() - len(samples) / rate if self.live else None)
        if not any_block and not self._reader.stopped:
            raise ValueError("standard input: must have at least one sample, received none")

    def _patiently(self, size: int) -> bytes:
        quiet = False
        while True:
            try:
                data = self._reader.read(size)
            except Stalled as error:
                if not quiet:
                    self._report(f"{self.name}: {error}; it is waited for")
                quiet = True
                continue
            if quiet:
                self._report(f"{self.name}: goes on")
            return data

    def stop(self) -> None:
        """End the blocks soon, from a signal handler or another thread."""
        self._reader.stop()

    def close(self) -> None:
        """Give back the reader's own pipe; standard input stays open."""
        self._reader.close()
