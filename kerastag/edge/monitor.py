"""The state of a source: whether its audio comes, and whether it is more than digital silence."""

from __future__ import annotations

import numpy as np

__all__ = ["SOURCE_STATES", "SourceMonitor"]

SOURCE_STATES = ("listening", "lost", "silent")
"""States of a source: its audio comes; none comes; or only digital silence has come for a long time."""
_SILENCE_STEP = 1.5 / 2**15  # Silence that was dithered or encoded may be off by one step of 16 bits.


class SourceMonitor:
    """A monitor of what comes from a source.

    `state` is one of `SOURCE_STATES`, or empty before the first audio of a live source. A muted microphone gives
    digital silence, samples that are equal to one step of 16 bits; a quiet room does not.

    Args:
        state: First state.
        timeout_seconds: Duration without audio after which the source is lost, seconds.
        silence_seconds: Duration of digital silence after which the source is silent, seconds; 0 disables the state.
    """

    def __init__(self, state: str, timeout_seconds: float, silence_seconds: float) -> None:
        self.state = state
        self._timeout_seconds, self._max_silence_seconds = timeout_seconds, silence_seconds
        self._invalid_seconds = self._silence_seconds = 0.0

    def add_audio(self, samples: np.ndarray, seconds: float) -> None:
        self._invalid_seconds = 0.0
        if not len(samples):
            return
        is_silent = float((samples.max(axis=0) - samples.min(axis=0)).max()) < _SILENCE_STEP
        self._silence_seconds = self._silence_seconds + seconds if is_silent else 0.0
        is_too_long = 0 < self._max_silence_seconds <= self._silence_seconds
        self.state = "silent" if is_too_long else "listening"

    def add_invalid(self, seconds: float) -> None:
        """Count samples that are not audio: they mean the same as no samples."""
        self._invalid_seconds += seconds
        if self._invalid_seconds >= self._timeout_seconds:
            self.state = "lost"

    def add_timeout(self) -> None:
        """Count that nothing came for the timeout."""
        self.state = "lost"
