"""The rows of a stream: the samples or log-mel frames that a model takes, each computed once, and the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import soxr

from kerastag.dsp import FrontEnd, StreamingLogMel

__all__ = ["InvalidSamplesError", "RowBuffer", "RowGrid", "RowStream", "convert_to_mono"]

_BUFFER_SECONDS = 3  # One second of input, and what a resampler returns at once after it.
_MAX_AMPLITUDE = 32.0  # 30 dB above full scale: more than any recording, less than most 16-bit data read as float.


class InvalidSamplesError(ValueError):
    """An error for a block whose samples are not audio: NaN, infinity, or integers read as float."""


class RowGrid:
    """The positions of the rows that a model takes: row i begins at `i * hop_length / sample_rate` seconds.

    The rows are the log-mel frames of `front_end`, or samples if it is None.
    """

    def __init__(self, sample_rate: int, front_end: FrontEnd | None) -> None:
        self.sample_rate = sample_rate
        self.front_end = front_end
        self.hop_length = 1 if front_end is None else front_end.hop_length

    @property
    def silence(self) -> np.ndarray:
        """The row of silence, of shape () or (mel_bins,)."""
        if self.front_end is None:
            return np.zeros((), np.float32)
        return self.front_end.compute_log_mel(np.zeros(self.front_end.min_samples, np.float32))[0]

    def to_seconds(self, rows: int) -> float:
        return rows * self.hop_length / self.sample_rate

    def to_samples(self, rows: int) -> int:
        """Return the number of samples that complete a number of rows at the start of a continuous stretch of audio."""
        if self.front_end is None:
            return rows
        end = (rows - 1) * self.hop_length + self.front_end.window_length - self.front_end.padding
        return max(end + bool(self.front_end.preemphasis), self.front_end.min_samples)

    def to_rows(self, seconds: float) -> int:
        return round(seconds * self.sample_rate / self.hop_length)


class RowStream:
    """A converter from samples without a gap to rows, in memory that does not grow.

    Samples wait until they complete the next row that is needed, or amount to a second, because computing many log-mel
    frames at once is cheaper. The rows do not depend on how the samples are cut into blocks, to the last bit.
    """

    def __init__(self, sample_rate: int, grid: RowGrid) -> None:
        self._resampler: soxr.ResampleStream | None = None
        if sample_rate != grid.sample_rate:
            self._resampler = soxr.ResampleStream(sample_rate, grid.sample_rate, 1, dtype="float32", quality="HQ")
        self._log_mel = None if grid.front_end is None else StreamingLogMel(grid.front_end)
        self._piece_samples = sample_rate  # Blocks are processed in pieces of one second.
        self._grid = grid
        self._buffer = np.empty(_BUFFER_SECONDS * grid.sample_rate, np.float32)
        self._buffered = 0
        self._samples = 0  # At the rate of the model, the buffered ones included.
        self._rows = 0

    def feed(self, samples: np.ndarray, count_needed_rows: Callable[[], int]) -> Iterator[np.ndarray]:
        """Yield the rows that the next samples complete, of shape (rows, ...); the next ones overwrite them.

        `count_needed_rows` returns how many more rows the next prediction needs, at least 1.
        """
        for start in range(0, len(samples), self._piece_samples):
            piece = samples[start : start + self._piece_samples]
            self._append(piece if self._resampler is None else self._resampler.resample_chunk(piece))
            has_second = self._buffered >= self._grid.sample_rate
            if has_second or self._samples >= self._grid.to_samples(self._rows + count_needed_rows()):
                yield self._convert_buffer()

    def flush(self) -> Iterator[np.ndarray]:
        """Yield the last rows, at the end of the samples."""
        if self._resampler is not None:
            self._append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        yield self._convert_buffer()
        if self._log_mel is not None:
            yield self._log_mel.flush()

    def _append(self, samples: np.ndarray) -> None:
        self._buffer[self._buffered : self._buffered + len(samples)] = samples
        self._buffered += len(samples)
        self._samples += len(samples)

    def _convert_buffer(self) -> np.ndarray:
        samples = self._buffer[: self._buffered]
        self._buffered = 0
        rows = samples if self._log_mel is None else self._log_mel.feed(samples)
        self._rows += len(rows)
        return rows


class RowBuffer:
    """The last rows of a stream as one array without a copy, each marked as audio or as the filling of a gap.

    The memory, twice the capacity, is allocated once: rows are written one after the other, and when the end is
    reached, the last ones are moved to the front.
    """

    def __init__(self, capacity: int, row_shape: tuple[int, ...]) -> None:
        self.capacity = capacity
        self._rows = np.zeros((2 * capacity, *row_shape), np.float32)
        self._is_audio = np.zeros(2 * capacity, bool)
        self._end = capacity  # The rows before the first one are zeros that are not audio.

    def append(self, rows: np.ndarray, is_audio: bool = True) -> None:
        """Append rows of shape (rows, ...), any number, of which the last `capacity` are kept."""
        rows = rows[-self.capacity :]
        if self._end + len(rows) > len(self._rows):
            keep = self.capacity - len(rows)
            self._rows[:keep] = self._rows[self._end - keep : self._end]
            self._is_audio[:keep] = self._is_audio[self._end - keep : self._end]
            self._end = keep
        self._rows[self._end : self._end + len(rows)] = rows
        self._is_audio[self._end : self._end + len(rows)] = is_audio
        self._end += len(rows)

    def get_last(self, count: int) -> np.ndarray:
        """Return a view of the last rows, of shape (count, ...); the next `append` changes it."""
        return self._rows[self._end - count : self._end]

    def count_audio(self, count: int) -> int:
        return int(np.count_nonzero(self._is_audio[self._end - count : self._end]))


def convert_to_mono(samples: np.ndarray) -> np.ndarray:
    """Average the channels of a block, and return a contiguous float32 array of shape (samples,).

    Raises:
        ValueError: The samples are not floats of shape (samples,) or (samples, channels).
        InvalidSamplesError: The samples are NaN, infinite, or integers read as float.
    """
    kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
    if not isinstance(samples, np.ndarray) or samples.dtype.kind != "f":
        hint = "; divide 16-bit samples by 32768" if "int" in str(kind) else ""
        raise ValueError(f"`samples` must be an array of floats in [-1, 1]{hint}; received: {kind}")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise ValueError(f"`samples` must have shape (samples,) or (samples, channels); received: {samples.shape}")
    if samples.ndim == 2:
        samples = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    samples = np.ascontiguousarray(samples, np.float32)
    if len(samples):
        low, high = float(samples.min()), float(samples.max())
        if not -_MAX_AMPLITUDE <= low <= high <= _MAX_AMPLITUDE:  # False if either is NaN.
            raise InvalidSamplesError(
                "`samples` must be finite and in [-1, 1] (divide 16-bit integers by 32768); "
                f"received: {low:g} to {high:g}"
            )
    return samples
