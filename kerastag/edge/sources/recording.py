"""A recording as a source: as fast as possible, or at its own speed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from kerastag import audio
from kerastag.edge.blocks import Block
from kerastag.edge.clock import read_clock
from kerastag.edge.sources.pcm import BLOCK_SECONDS

__all__ = ["RecordingSource"]


class RecordingSource:
    """A source that reads an audio file of any format.

    Args:
        path: Path of a file that `kerastag.audio.load` reads.
        sample_rate: Sample rate of the blocks, Hz. With the rate of the model, the file is resampled as by `Tagger`.
        realtime: Whether blocks come at the speed of the recording, like those of a microphone.

    Raises:
        FileNotFoundError: The file does not exist. While iterating: the errors of `kerastag.audio.load`.

    >>> import numpy as np, soundfile, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".wav") as file:
    ...     soundfile.write(file, np.zeros(4_000), 16_000, format="WAV")
    ...     [len(block.samples) for block in RecordingSource(file.name, 16_000)]
    [1600, 1600, 800]
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, *, realtime: bool = False) -> None:
        self.name = os.fspath(path)
        self.live = realtime
        self._rate = sample_rate
        self._stop = threading.Event()
        if not os.path.exists(path):  # noqa: PTH110
            raise FileNotFoundError(f"{self.name}: no such file")

    def __iter__(self) -> Iterator[Block]:
        start_time, samples_so_far = read_clock(), 0
        for samples in audio.read_blocks(self.name, self._rate, BLOCK_SECONDS):
            captured_at = start_time + samples_so_far / self._rate if self.live else None
            samples_so_far += len(samples)
            if self.live:
                self._stop.wait(max(0.0, start_time + samples_so_far / self._rate - read_clock()))
            if self._stop.is_set():
                return
            yield Block(samples, self._rate, captured_at)

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        """End the blocks."""
        self._stop.set()
