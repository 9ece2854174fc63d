"""Windows of one length over files and waveforms of any length, in constant memory."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kerastag.audio.levels import check
from kerastag.audio.reading import blocks
from kerastag.audio.request import check_rate, whole_samples


class Window(NamedTuple):
    """One window over a recording: where it starts, its samples, and how many seconds of them are not padding."""

    start_seconds: float
    waveform: np.ndarray
    valid_seconds: float


def windows(
    source: str | os.PathLike[str] | np.ndarray,
    sample_rate: int,
    window_seconds: float,
    hop_seconds: float | None = None,
) -> Iterator[Window]:
    """Audio file or waveform -> overlapping windows of one length, the last one padded with zeros.

    Window i starts at sample `i * round(hop_seconds * sample_rate)`; the first one to reach the end is the last, so
    every sample is covered where the hop is not longer than the window. Memory does not grow with the length.

    Args:
        source: a file, or a float waveform (samples,) at `sample_rate`.
        sample_rate: in Hz, as for `load`.
        window_seconds: length of a window, at least one sample.
        hop_seconds: from the start of one window to the next, at least one sample; None is `window_seconds`.

    Raises:
        ValueError: an argument is out of range; and all that `load` raises for a file, `check` for a waveform.

    >>> [(w.start_seconds, w.valid_seconds) for w in windows(np.zeros(40_000, np.float32), 16_000, 1.0, 1.0)]
    [(0.0, 1.0), (1.0, 1.0), (2.0, 0.5)]
    """
    check_rate(sample_rate, "`sample_rate`")
    length = whole_samples("window_seconds", window_seconds, sample_rate)
    hop = whole_samples("hop_seconds", window_seconds if hop_seconds is None else hop_seconds, sample_rate)
    if isinstance(source, np.ndarray):
        check(source)
        return _windows(iter([source.astype(np.float32, copy=False)]), sample_rate, length, hop)
    return _windows(blocks(source, sample_rate), sample_rate, length, hop)


def _windows(parts: Iterator[np.ndarray], sample_rate: int, length: int, hop: int) -> Iterator[Window]:
    buffer, start, end = np.zeros(0, np.float32), 0, 0  # buffer[0] is sample `start`, `end` the end of the last window
    total = 0
    for part in parts:
        total += len(part)
        # A hop beyond the window may start after the samples so far: they are dropped as they come.
        skip = 0 if len(buffer) else max(0, start - (total - len(part)))
        buffer = np.concatenate([buffer, part[skip:]])
        while len(buffer) >= length:
            yield Window(start / sample_rate, buffer[:length].copy(), length / sample_rate)
            start, end = start + hop, start + length
            buffer = buffer[hop:]
        buffer = buffer.copy()
    if end < total and len(buffer):
        padded = np.pad(buffer, (0, length - len(buffer)))
        yield Window(start / sample_rate, padded, len(buffer) / sample_rate)
