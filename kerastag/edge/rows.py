"""Samples of any rate -> the rows that a model hears: samples at its rate, or log-mel frames, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import soxr

from kerastag.dsp import FrontEnd, StreamingLogMel

__all__ = ["BadSamples", "Grid", "RowStream", "mono"]

_QUALITY = "HQ"
_SECONDS_WAITING = 3  # room for one second, and what a resampler gives at once after another
_LOUDEST = 32.0  # 30 dB above full scale: no recording is that loud, 16-bit data read as float nearly always is


class BadSamples(ValueError):
    """A block whose values are no sound: NaN, infinity, or integers read as float."""


class Grid:
    """What a row is, and when: row i begins at `i * hop_length / sample_rate` seconds.

    Args:
        sample_rate: Of the model, Hz.
        front_end: The log-mel that it hears; None for one that hears samples.
    """

    def __init__(self, sample_rate: int, front_end: FrontEnd | None) -> None:
        self.sample_rate = sample_rate
        self.front_end = front_end
        self.hop_length = 1 if front_end is None else front_end.hop_length

    @property
    def silence(self) -> np.ndarray:
        """The row that silence gives."""
        if self.front_end is None:
            return np.zeros((), np.float32)
        return self.front_end.log_mel(np.zeros(self.front_end.min_samples, np.float32))[0]

    def seconds(self, rows: int) -> float:
        """Number of rows -> seconds."""
        return rows * self.hop_length / self.sample_rate

    def samples(self, rows: int) -> int:
        """Number of rows -> samples, from the begin of a stretch on, that complete them."""
        if self.front_end is None:
            return rows
        front_end = self.front_end
        last = (rows - 1) * front_end.hop_length + front_end.window_length - front_end.padding
        return max(last + bool(front_end.preemphasis), front_end.min_samples)

    def rows(self, seconds: float) -> int:
        """Seconds -> the nearest number of rows."""
        return round(seconds * self.sample_rate / self.hop_length)


class RowStream:
    """A stretch of samples without a gap -> rows; memory does not grow.

    Samples wait until they complete the row that is needed next, or make a second, because many log-mel frames at once
    cost less than a few many times. However the stretch is cut into blocks, the rows are bit for bit the same.

    Args:
        sample_rate: Of the samples, Hz.
        grid: What a row is.
    """

    def __init__(self, sample_rate: int, grid: Grid) -> None:
        same = sample_rate == grid.sample_rate
        self._resampler = (
            None if same else soxr.ResampleStream(sample_rate, grid.sample_rate, 1, dtype="float32", quality=_QUALITY)
        )
        self._log_mel = None if grid.front_end is None else StreamingLogMel(grid.front_end)
        self._second = sample_rate  # at once at most, however large a block
        self._grid = grid
        self._buffer = np.empty(_SECONDS_WAITING * grid.sample_rate, np.float32)
        self._waiting = 0  # samples in the buffer
        self._samples = 0  # at the model's rate, those that wait too
        self._rows = 0

    def feed(self, samples: np.ndarray, needed: Callable[[], int]) -> Iterator[np.ndarray]:
        """Mono samples (samples,), any number -> rows that they complete, in pieces that the next one overwrites.

        `needed` tells, piece by piece, how many more rows are needed before something is made of them, at least 1.
        """
        for start in range(0, len(samples), self._second):
            piece = samples[start : start + self._second]
            self._wait(piece if self._resampler is None else self._resampler.resample_chunk(piece))
            is_much = self._waiting >= self._grid.sample_rate
            if is_much or self._samples >= self._grid.samples(self._rows + needed()):
                yield self._to_rows()

    def flush(self) -> Iterator[np.ndarray]:
        """The end of the stretch -> its last rows."""
        if self._resampler is not None:
            self._wait(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        yield self._to_rows()
        if self._log_mel is not None:
            yield self._log_mel.flush()

    def _wait(self, samples: np.ndarray) -> None:
        self._buffer[self._waiting : self._waiting + len(samples)] = samples
        self._waiting += len(samples)
        self._samples += len(samples)

    def _to_rows(self) -> np.ndarray:
        samples = self._buffer[: self._waiting]
        self._waiting = 0
        rows = samples if self._log_mel is None else self._log_mel.feed(samples)
        self._rows += len(rows)
        return rows


def mono(samples: np.ndarray) -> np.ndarray:
    """A block (samples,) or (samples, channels) -> the mean of its channels, contiguous float32.

    Raises:
        ValueError: It is not float, or has other axes.
        BadSamples: It holds NaN, infinity, or integers read as float.
    """
    kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
    if not isinstance(samples, np.ndarray) or samples.dtype.kind != "f":
        hint = "; divide 16-bit samples by 32768" if "int" in str(kind) else ""
        raise ValueError(f"`samples` must be an array of float samples in [-1, 1]{hint}. Received: {kind}")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise ValueError(f"`samples` must have shape (samples,) or (samples, channels). Received: {samples.shape}")
    if samples.ndim == 2:
        samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    samples = np.ascontiguousarray(samples, np.float32)
    if len(samples):
        low, high = float(samples.min()), float(samples.max())
        if not -_LOUDEST <= low <= high <= _LOUDEST:  # NaN compares with nothing
            raise BadSamples(
                "`samples` must be finite and in [-1, 1] (divide 16-bit integers by 32768). "
                f"Received: {low:g} to {high:g}"
            )
    return samples
