"""The definition of a mel front end, its filterbank, and the log-mel spectrogram that it computes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

__all__ = ["FrontEnd", "compute_frames", "emphasize", "pad_to_one_frame"]

_CHOICES = {
    "spectrum": ("power", "magnitude"),
    "mel_scale": ("htk", "slaney"),
    "mel_triangles": ("mel", "hz"),
    "mel_norm": ("none", "slaney"),
    "log": ("natural", "decibel"),
}
# A card that is damaged or hostile must not ask for gigabytes.
_MAXIMA = {
    "sample_rate": 1_000_000,
    "window_length": 32_768,
    "hop_length": 1_000_000,
    "fft_length": 32_768,
    "num_mel_bins": 512,
}
_MAX_NUMBER = 1e30  # below the largest float32
_FRAMES_PER_BLOCK = 128  # The spectra of a block fit in the cache of a core, and memory does not grow with the length.


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Mel front end: all constants of the log-mel spectrogram that a model takes.

    A waveform `x` becomes a spectrogram `(frames, mel_bins)`:

        y[n] = x[n + 1] - preemphasis * x[n]                    (y = x where preemphasis is 0)
        frame[t] = y[t * hop_length - padding : ... + window_length]   (both ends of y reflected)
        s[t] = |rfft(hann * frame[t], fft_length)|              (squared where spectrum is "power")
        m[t] = s[t] @ mel_matrix
        log_mel = (ln(m + floor) + shift) / scale               (log is "natural")
        log_mel = (10 * log10(max(m, floor)) + shift) / scale   (log is "decibel")

    The number of frames is `1 + (len(y) + 2 * padding - window_length) // hop_length`.

    Args:
        name: Name of the front end, for the card of a model.
        sample_rate: Sample rate of the waveform, 1 to 1,000,000 Hz.
        window_length: Length of the Hann window, samples.
        hop_length: Distance from one frame to the next, 1 to 1,000,000 samples.
        fft_length: Length to which the windowed frame is padded with zeros, an even number of samples, at least
            `window_length` and at most 32,768.
        num_mel_bins: Number of mel bands, 1 to 512.
        min_hz: Lower edge of the first band, Hz, at least 0.
        max_hz: Upper edge of the last band, Hz, at most half of `sample_rate`, and more than
            `sample_rate / fft_length` above `min_hz`.
        floor: Number above 0 that is added before a natural logarithm, or the smallest value of which decibels are
            taken.
        padding: Samples of reflection at either end, 0 to `window_length // 2`. `window_length // 2` centers frame t on
            sample `t * hop_length`; 0 uses whole frames only.
        periodic_window: Whether the period of the Hann window is `window_length` instead of `window_length - 1`.
        preemphasis: Coefficient of the pre-emphasis, in [0, 1]; 0 disables it.
        spectrum: `"power"` or `"magnitude"`.
        mel_scale: `"htk"` (1127 * ln(1 + f / 700)) or `"slaney"` (linear below 1 kHz, logarithmic above).
        mel_triangles: Axis on which a band is a triangle, `"mel"` or `"hz"`.
        mel_norm: `"slaney"` divides each band by half its width in Hz; `"none"` leaves a peak of one.
        log: `"natural"` or `"decibel"`.
        shift: Number that is added to the logarithm.
        scale: Number by which the sum is divided, other than 0.

    Raises:
        ValueError: An argument is out of range.

    >>> from kerastag.dsp import FRONT_ENDS
    >>> FRONT_ENDS["efficientat"].compute_log_mel(np.zeros(320_000, np.float32)).shape
    (1000, 128)
    """

    name: str
    sample_rate: int
    window_length: int
    hop_length: int
    fft_length: int
    num_mel_bins: int
    min_hz: float
    max_hz: float
    floor: float
    padding: int = 0
    periodic_window: bool = True
    preemphasis: float = 0.0
    spectrum: str = "power"
    mel_scale: str = "htk"
    mel_triangles: str = "mel"
    mel_norm: str = "none"
    log: str = "natural"
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require(isinstance(self.name, str), self, "name", "text")
        for field, maximum in _MAXIMA.items():
            is_valid = _is_integer(getattr(self, field)) and 0 < getattr(self, field) <= maximum
            _require(is_valid, self, field, f"an integer from 1 to {maximum:,}")
        for field, choices in _CHOICES.items():
            value = getattr(self, field)
            _require(isinstance(value, str) and value in choices, self, field, f"one of {', '.join(choices)}")
        for field in ("min_hz", "max_hz", "floor", "preemphasis", "shift", "scale"):
            value = getattr(self, field)
            is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            _require(is_number and abs(value) < _MAX_NUMBER, self, field, "a finite number")
        _require(isinstance(self.periodic_window, bool), self, "periodic_window", "true or false")
        fft_fits = self.fft_length >= self.window_length and self.fft_length % 2 == 0
        _require(fft_fits, self, "fft_length", f"even and at least {self.window_length}, the window length")
        padding_fits = _is_integer(self.padding) and 0 <= self.padding <= self.window_length // 2
        _require(padding_fits, self, "padding", f"an integer from 0 to {self.window_length // 2}, half the window")
        _require(0 <= self.preemphasis <= 1, self, "preemphasis", "in [0, 1]")
        _require(0 <= self.min_hz < self.max_hz, self, "min_hz", f"in [0, {self.max_hz}), below `max_hz`")
        nyquist, bin_hz = self.sample_rate / 2, self.sample_rate / self.fft_length
        _require(self.max_hz <= nyquist, self, "max_hz", f"at most {nyquist:g} Hz, half the sample rate")
        _require(self.max_hz - self.min_hz > bin_hz, self, "max_hz", f"more than {bin_hz:g} Hz, a bin, above `min_hz`")
        _require(self.floor > 0, self, "floor", "above 0")
        _require(self.scale != 0, self, "scale", "other than 0")

    @property
    def frames_per_second(self) -> float:
        """Number of frames per second of audio."""
        return self.sample_rate / self.hop_length

    @property
    def min_samples(self) -> int:
        """Length of the shortest waveform that fills one frame; a shorter one is padded with zeros at its end."""
        return max(self.window_length - 2 * self.padding, self.padding + 1) + bool(self.preemphasis)

    @functools.cached_property
    def window(self) -> np.ndarray:
        """Hann window, `(window_length,)`, float32."""
        period = self.window_length - (0 if self.periodic_window else 1)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window_length) / max(period, 1))
        return _make_read_only(window.astype(np.float32))

    @functools.cached_property
    def filterbank(self) -> MelFilterbank:
        """Mel filterbank."""
        return MelFilterbank(self)

    @property
    def mel_matrix(self) -> np.ndarray:
        """Weight of every FFT bin in every mel band, `(fft_length // 2 + 1, num_mel_bins)`, float32."""
        return self.filterbank.matrix

    def count_frames(self, num_samples: int) -> int:
        """Count the frames that `compute_log_mel` returns for a number of samples, at least 1."""
        samples = max(num_samples, self.min_samples) - bool(self.preemphasis)
        return 1 + (samples + 2 * self.padding - self.window_length) // self.hop_length

    def compute_log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Compute the log-mel spectrogram of a waveform or of a batch of waveforms.

        A waveform shorter than `min_samples` is padded with zeros at its end. Each frame is computed by itself, so the
        result does not depend on the rest of the batch or on how a stream was split into blocks.

        Args:
            waveform: Float samples in [-1, 1], `(samples,)` or `(batch, samples)`, at least one sample.

        Returns:
            Log-mel spectrogram, `(frames, mel_bins)` or `(batch, frames, mel_bins)`, float32.

        Raises:
            ValueError: The waveform is not such an array.
        """
        waveform = np.asarray(waveform)
        if waveform.dtype.kind != "f" or waveform.ndim not in (1, 2) or not waveform.shape[-1]:
            raise ValueError(
                "`waveform` must be float samples in [-1, 1] of shape (samples,) or (batch, samples), at least one "
                f"sample; received: {waveform.dtype} of shape {waveform.shape}"
            )
        if waveform.ndim == 2:
            rows = [self.compute_log_mel(row) for row in waveform]
            shape = (0, self.count_frames(waveform.shape[1]), self.num_mel_bins)
            return np.stack(rows) if rows else np.zeros(shape, np.float32)
        waveform = emphasize(self, pad_to_one_frame(self, np.asarray(waveform, np.float32)))
        return compute_frames(self, np.pad(waveform, self.padding, mode="reflect"))

    def as_dict(self) -> dict[str, Any]:
        """Return all constants by name, as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrontEnd:
        """Create a front end from the result of `as_dict`.

        Raises:
            ValueError: A name is unknown or missing, or a value is out of range.
        """
        fields = dataclasses.fields(cls)
        unknown = sorted(values.keys() - {field.name for field in fields})
        required = {field.name for field in fields if field.default is dataclasses.MISSING}
        missing = sorted(required - values.keys())
        if unknown or missing:
            received = f"unknown {unknown}, missing {missing}"
            raise ValueError(f"`values` must be the fields of a front end; received: {received}")
        return cls(**values)


class MelFilterbank:
    """Triangular mel bands over the bins of a Fourier transform.

    Attributes:
        matrix: Weight of every FFT bin in every band, `(bins, mel_bins)`, float32.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end
        scale = front_end.mel_scale
        low, high = _hz_to_mel(np.array([front_end.min_hz, front_end.max_hz]), scale)
        edges_mel = np.linspace(low, high, front_end.num_mel_bins + 2)
        edges_hz = _mel_to_hz(edges_mel, scale)
        bins_hz = np.arange(front_end.fft_length // 2 + 1) * front_end.sample_rate / front_end.fft_length
        in_mel = front_end.mel_triangles == "mel"
        edges, bins = (edges_mel, _hz_to_mel(bins_hz, scale)) if in_mel else (edges_hz, bins_hz)
        position = bins[:, None]
        rising = (position - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - position) / (edges[2:] - edges[1:-1])
        peak = 2 / (edges_hz[2:] - edges_hz[:-2]) if front_end.mel_norm == "slaney" else np.ones(front_end.num_mel_bins)
        # Compared in Hz, since an edge that has been to mel and back is rounded, differently on every processor.
        inside = ((bins_hz > front_end.min_hz) & (bins_hz < front_end.max_hz))[:, None]
        rises = inside & (position > edges[:-2]) & (position <= edges[1:-1])
        falls = inside & (position > edges[1:-1]) & (position < edges[2:])
        # The rising and the falling half of every band, (bins, mel_bins), float64.
        self._rising = np.where(rises, rising, 0) * peak
        self._falling = np.where(falls, falling, 0) * peak
        self.matrix = _make_read_only((self._rising + self._falling).astype(np.float32))

    def apply(self, spectrum: np.ndarray) -> np.ndarray:
        """Compute `matrix.T @ spectrum`, `(mel_bins, frames)`, for a spectrum `(bins, frames)`, both float32.

        Rows are added bin after bin, without the zeros of the matrix, so the result of a frame does not depend on the
        linear algebra library or on the other frames.
        """
        intervals, steps = self._bands
        count, frames = len(intervals), spectrum.shape[1]
        selected = np.empty((count, frames), np.float32)
        weighted = np.empty((2, count, frames), np.float32)
        sums = np.zeros((2, count, frames), np.float32)
        for size, bins, weights in steps:
            np.take(spectrum, bins, axis=0, out=selected[:size], mode="clip")
            np.multiply(selected[:size], weights, out=weighted[:, :size])
            sums[:, :size] += weighted[:, :size]
        mel = np.zeros((self._front_end.num_mel_bins + 2, frames), np.float32)  # band b is row b + 1
        mel[intervals + 1] = sums[0]
        mel[intervals] += sums[1]
        return mel[1:-1]

    @functools.cached_property
    def _bands(self) -> tuple[np.ndarray, list[tuple[int, np.ndarray, np.ndarray]]]:
        """The matrix without its zeros: its bins, grouped into the intervals between neighboring band edges.

        Interval i holds the rising half of band i and the falling half of band i - 1. The intervals with a bin are
        sorted, the widest first. Step j has bin j of each of the `size` intervals with more than j bins, and its
        weights in the rising and in the falling band, `(2, size, 1)`.
        """
        rising, falling = self._rising, self._falling
        bins = np.flatnonzero((rising + falling).any(axis=1))
        rises = rising[bins].any(axis=1)
        interval = np.where(rises, rising[bins].argmax(axis=1), falling[bins].argmax(axis=1) + 1)
        intervals, starts, widths = np.unique(interval, return_index=True, return_counts=True)
        order = np.argsort(-widths, kind="stable")
        weights = np.stack([rising.sum(axis=1), falling.sum(axis=1)]).astype(np.float32)
        steps = []
        for step in range(widths.max()):
            size = int((widths > step).sum())
            step_bins = bins[starts[order[:size]] + step]
            steps.append((size, step_bins, _make_read_only(weights[:, step_bins, None])))
        return intervals[order], steps


def pad_to_one_frame(front_end: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    """Pad a waveform that does not fill one frame with zeros at its end."""
    missing = front_end.min_samples - len(waveform)
    return np.pad(waveform, (0, missing)) if missing > 0 else waveform


def emphasize(front_end: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    """Compute `x[n + 1] - preemphasis * x[n]`, which has one sample less; without pre-emphasis, return the waveform."""
    if not front_end.preemphasis:
        return waveform
    emphasized = waveform[:-1] * np.float32(-front_end.preemphasis)
    emphasized += waveform[1:]
    return emphasized


def compute_frames(front_end: FrontEnd, samples: np.ndarray) -> np.ndarray:
    """Compute the log-mel spectrum of every whole frame of emphasized and padded samples."""
    if len(samples) < front_end.window_length:
        return np.zeros((0, front_end.num_mel_bins), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, front_end.window_length)[:: front_end.hop_length]
    log_mel = np.empty((len(frames), front_end.num_mel_bins), np.float32)
    windowed = np.zeros((min(len(frames), _FRAMES_PER_BLOCK), front_end.fft_length), np.float32)
    for start in range(0, len(frames), _FRAMES_PER_BLOCK):
        block = frames[start : start + _FRAMES_PER_BLOCK]
        # The zeros after the window are already in the buffer, so the FFT needs no copy.
        np.multiply(block, front_end.window, out=windowed[: len(block), : front_end.window_length])
        mel = front_end.filterbank.apply(_compute_spectrum(front_end, windowed[: len(block)]))
        log_mel[start : start + len(block)] = _compute_log(front_end, mel).T
    return log_mel


def _compute_spectrum(front_end: FrontEnd, windowed: np.ndarray) -> np.ndarray:
    """Compute the power or magnitude, `(bins, frames)`, of windowed frames `(frames, fft_length)`."""
    spectrum = np.fft.rfft(windowed)  # complex64, before NumPy 2 complex128
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    if front_end.spectrum == "magnitude":
        np.sqrt(power, out=power)
    return np.ascontiguousarray(power.T, np.float32)


def _compute_log(front_end: FrontEnd, mel: np.ndarray) -> np.ndarray:
    """Compute the shifted and scaled logarithm of mel energies, in place."""
    if front_end.log == "natural":
        mel += np.float32(front_end.floor)
        log_mel = np.log(mel, out=mel)
    else:
        log_mel = np.log10(np.maximum(mel, np.float32(front_end.floor), out=mel), out=mel)
        log_mel *= np.float32(10)
    log_mel += np.float32(front_end.shift)
    log_mel /= np.float32(front_end.scale)
    return log_mel


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _require(condition: bool, front_end: FrontEnd, field: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"`{field}` must be {expected}; received: {getattr(front_end, field)!r}")


def _make_read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _hz_to_mel(hz: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        return 1127 * np.log1p(hz / 700)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _mel_to_hz(mel: np.ndarray, mel_scale: str) -> np.ndarray:
    if mel_scale == "htk":
        return 700 * np.expm1(mel / 1127)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))
