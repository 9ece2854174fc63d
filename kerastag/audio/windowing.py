"""Overlapping windows over audio files and waveforms of any length."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kerastag.audio.levels import measure_levels
from kerastag.audio.reading import read_blocks
from kerastag.audio.request import check_sample_rate, convert_to_samples


class AudioWindow(NamedTuple):
    """One window of a recording.

    Attributes:
        start_seconds: Position of the window in the recording.
        waveform: Samples of the window, `(samples,)`, float32; padded with zeros beyond the end of the recording.
        valid_seconds: Duration of the part that is not padding.
    """

    start_seconds: float
    waveform: np.ndarray
    valid_seconds: float


def read_windows(
    source: str | os.PathLike[str] | np.ndarray,
    sample_rate: int,
    window_seconds: float,
    hop_seconds: float | None = None,
) -> Iterator[AudioWindow]:
    """Read overlapping windows of one length from an audio file or a waveform, in constant memory.

    Window i starts at sample `i * round(hop_seconds * sample_rate)`. The first window that reaches the end is the last
    one, so every sample is covered where the hop is not longer than the window.

    Args:
        source: Path of an audio file, or a float waveform `(samples,)` at `sample_rate`.
        sample_rate: Sample rate of the windows, 1,000 to 1,000,000 Hz.
        window_seconds: Length of a window, at least one sample.
        hop_seconds: Distance from the start of a window to the start of the next, at least one sample; None is
            `window_seconds`.

    Returns:
        Iterator over the windows; the last one is padded with zeros.

    Raises:
        ValueError: An argument is out of range; also for the same reasons as in `load` and `measure_levels`.

    >>> from kerastag import audio
    >>> windows = audio.read_windows(np.zeros(40_000, np.float32), 16_000, window_seconds=1.0)
    >>> [(window.start_seconds, window.valid_seconds) for window in windows]
    [(0.0, 1.0), (1.0, 1.0), (2.0, 0.5)]
    """
    check_sample_rate(sample_rate, "`sample_rate`")
    length = convert_to_samples("window_seconds", window_seconds, sample_rate)
    hop = convert_to_samples("hop_seconds", window_seconds if hop_seconds is None else hop_seconds, sample_rate)
    if isinstance(source, np.ndarray):
        measure_levels(source)
        return _split_into_windows(iter([source.astype(np.float32, copy=False)]), sample_rate, length, hop)
    return _split_into_windows(read_blocks(source, sample_rate), sample_rate, length, hop)


def _split_into_windows(parts: Iterator[np.ndarray], sample_rate: int, length: int, hop: int) -> Iterator[AudioWindow]:
    buffer, start, end = np.zeros(0, np.float32), 0, 0  # buffer[0] is sample `start`, `end` the end of the last window
    total = 0
    for part in parts:
        total += len(part)
        # With a hop longer than the window, the next window may start after the samples so far.
        skipped = 0 if len(buffer) else max(0, start - (total - len(part)))
        buffer = np.concatenate([buffer, part[skipped:]])
        while len(buffer) >= length:
            yield AudioWindow(start / sample_rate, buffer[:length].copy(), length / sample_rate)
            start, end = start + hop, start + length
            buffer = buffer[hop:]
        buffer = buffer.copy()
    if end < total and len(buffer):
        padded = np.pad(buffer, (0, length - len(buffer)))
        yield AudioWindow(start / sample_rate, padded, len(buffer) / sample_rate)
