"""The interface of an output of a stream."""

from __future__ import annotations

import numpy as np

from kerastag.edge.reports import EventReport, ResultReport

__all__ = ["Sink"]


class Sink:
    """An output of a stream; each method does nothing unless a subclass overrides it.

    Methods raise OSError if the output fails.

    Attributes:
        name: Name of the output in messages.
        needs_audio: Whether the output takes audio.
    """

    name: str
    needs_audio = False

    def write_result(self, report: ResultReport) -> None:
        """Write a result."""

    def write_event(self, report: EventReport) -> None:
        """Write an event."""

    def write_audio(self, samples: np.ndarray, sample_rate: int, end_seconds: float) -> None:
        """Write a block.

        Args:
            samples: Samples of shape (samples,) or (samples, channels).
            sample_rate: Sample rate, Hz.
            end_seconds: End of the block, in seconds of the stream.
        """

    def reopen(self) -> None:
        """Reopen the file, after it was rotated by another program."""

    def close(self) -> None:
        """Write what is left, and close the output."""
