"""A recording -> a stream: as fast as it goes, or at the speed at which it sounds."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from kerastag import audio
from kerastag.edge.blocks import Block, now
from kerastag.edge.sources.pcm import BLOCK_SECONDS

__all__ = ["Recording"]


class Recording:
    """An audio file of any format -> blocks at a sample rate.

    Args:
        path: The file, as `kerastag.audio.load` takes it.
        sample_rate: Of the blocks, Hz: the model's, so that the file is resampled as it is for `Tagger`.
        realtime: Whether the blocks come as a microphone would give them; what comes late is then dropped.

    Raises:
        FileNotFoundError: There is no such file. While iterating, all that `kerastag.audio.load` raises.

    >>> import numpy as np, soundfile, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".wav") as file:
    ...     soundfile.write(file, np.zeros(4_000), 16_000, format="WAV")
    ...     [len(block.samples) for block in Recording(file.name, 16_000)]
    [1600, 1600, 800]
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, *, realtime: bool = False) -> None:
        self.name = os.fspath(path)
        self.live = realtime
        self._rate = sample_rate
        self._stop = threading.Event()
        if not os.path.exists(path):  # noqa: PTH110 - before the model is loaded, as the first thing
            raise FileNotFoundError(f"{self.name}: there is no such file")

    def __iter__(self) -> Iterator[Block]:
        began, given = now(), 0
        for samples in audio.blocks(self.name, self._rate, BLOCK_SECONDS):
            captured_at = began + given / self._rate if self.live else None
            given += len(samples)
            if self.live:
                self._stop.wait(max(0.0, began + given / self._rate - now()))
            if self._stop.is_set():
                return
            yield Block(samples, self._rate, captured_at)

    def stop(self) -> None:
        """End the blocks soon, from a signal handler or another thread."""
        self._stop.set()

    def close(self) -> None:
        """Nothing stays open."""
        self._stop.set()
