"""Waveform -> log-mel spectrogram in NumPy: the one definition of every mel front end."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

_FRAMES_A_BLOCK = 128  # one block of spectra stays in a core's cache, and memory does not grow with the length
_CHOICES = {
    "spectrum": ("power", "magnitude"),
    "mel_scale": ("htk", "slaney"),
    "mel_triangles": ("mel", "hz"),
    "mel_norm": ("none", "slaney"),
    "log": ("natural", "decibel"),
}


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """Waveform (samples,) -> log-mel (frames, mel_bins): every constant of one front end.

        y[n] = x[n + 1] - preemphasis * x[n]                    (y = x where preemphasis is 0)
        frame[t] = y[t * hop_length - padding : ... + window_length]   (both ends of y reflected)
        s[t] = |rfft(hann * frame[t], fft_length)|              (squared where spectrum is "power")
        m[t] = s[t] @ mel_matrix
        log_mel = (ln(m + floor) + shift) / scale               (log is "natural")
        log_mel = (10 * log10(max(m, floor)) + shift) / scale   (log is "decibel")

    The number of frames is `1 + (len(y) + 2 * padding - window_length) // hop_length`.

    Args:
        name: what the front end is called, e.g. in a model's card.
        sample_rate: samples a second of the waveform, in Hz.
        window_length: samples under the Hann window.
        hop_length: samples from one frame to the next.
        fft_length: samples the windowed frame is zero-padded to, an even number of at least `window_length`.
        padding: samples of reflection at either end; `window_length // 2` centres frame t on sample
            `t * hop_length`, 0 takes whole frames only.
        periodic_window: whether the Hann window has the period `window_length` (`window_length - 1` otherwise).
        preemphasis: coefficient of the pre-emphasis in [0, 1]; 0 leaves it out.
        spectrum: `"power"` or `"magnitude"`.
        num_mel_bins: number of mel bands.
        min_hz, max_hz: lower edge of the first band and upper edge of the last, in Hz, at most half of `sample_rate`.
        mel_scale: `"htk"` (1127 * ln(1 + f / 700)) or `"slaney"` (linear below 1 kHz, logarithmic above).
        mel_triangles: the axis on which a band is a triangle, `"mel"` or `"hz"`.
        mel_norm: `"slaney"` divides each band by half its width in Hz; `"none"` leaves a peak of one.
        log: `"natural"` or `"decibel"`.
        floor: what is added before a natural logarithm, or the smallest value that decibels are taken of; above 0.
        shift, scale: the last, affine step.

    Raises:
        ValueError: an argument is outside the range given above.

    >>> front_end = FRONT_ENDS["efficientat"]
    >>> front_end.log_mel(np.zeros(320_000, np.float32)).shape
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
        for field in ("sample_rate", "window_length", "hop_length", "fft_length", "num_mel_bins"):
            _require(_is_integer(getattr(self, field)) and getattr(self, field) > 0, self, field, "a positive integer")
        for field, choices in _CHOICES.items():
            _require(getattr(self, field) in choices, self, field, f"one of {', '.join(choices)}")
        fft_fits = self.fft_length >= self.window_length and self.fft_length % 2 == 0
        _require(fft_fits, self, "fft_length", f"even and at least {self.window_length}, the window's length")
        padding_fits = _is_integer(self.padding) and 0 <= self.padding <= self.window_length // 2
        _require(padding_fits, self, "padding", f"an integer from 0 to {self.window_length // 2}, half the window")
        _require(0 <= self.preemphasis <= 1, self, "preemphasis", "in [0, 1]")
        _require(0 <= self.min_hz < self.max_hz, self, "min_hz", f"in [0, {self.max_hz}), below `max_hz`")
        nyquist = self.sample_rate / 2
        _require(self.max_hz <= nyquist, self, "max_hz", f"at most {nyquist:g} Hz, half the sample rate")
        _require(0 < self.floor < np.inf, self, "floor", "above 0")
        _require(0 < abs(self.scale) < np.inf, self, "scale", "other than 0")
        _require(abs(self.shift) < np.inf, self, "shift", "finite")

    @property
    def frames_per_second(self) -> float:
        """Frames a second of audio."""
        return self.sample_rate / self.hop_length

    @property
    def min_samples(self) -> int:
        """The shortest waveform that fills one frame; a shorter one is padded with zeros at its end."""
        return max(self.window_length - 2 * self.padding, self.padding + 1) + bool(self.preemphasis)

    def num_frames(self, num_samples: int) -> int:
        """Number of samples (at least 1) -> number of frames that `log_mel` gives for them."""
        samples = max(num_samples, self.min_samples) - bool(self.preemphasis)
        return 1 + (samples + 2 * self.padding - self.window_length) // self.hop_length

    @property
    def window(self) -> np.ndarray:
        """The Hann window, (window_length,) float32."""
        return _window(self)

    @property
    def mel_matrix(self) -> np.ndarray:
        """Weight of every FFT bin in every mel band, (fft_length // 2 + 1, num_mel_bins) float32."""
        return _mel_matrix(self)

    def log_mel(self, waveform: np.ndarray) -> np.ndarray:
        """Waveform (samples,) or (batch, samples) -> float32 log-mel (frames, mel_bins) or (batch, frames, mel_bins).

        A waveform shorter than `min_samples` is padded with zeros at its end. Each frame is computed by itself, so
        the result does not depend on what else is in the batch or on how a stream was cut into blocks.

        Raises:
            ValueError: `waveform` is not float, has no samples, or has other than one or two axes.
        """
        waveform = np.asarray(waveform)
        if waveform.dtype.kind != "f" or waveform.ndim not in (1, 2) or not waveform.shape[-1]:
            raise ValueError(
                "`waveform` must be float samples in [-1, 1] of shape (samples,) or (batch, samples), at least one "
                f"sample. Received: {waveform.dtype} of shape {waveform.shape}"
            )
        if waveform.ndim == 2:
            rows = [self.log_mel(row) for row in waveform]
            return np.stack(rows) if rows else np.zeros((0, self.num_frames(waveform.shape[1]), self.num_mel_bins), "f")
        waveform = _emphasise(self, _lengthen(self, np.asarray(waveform, np.float32)))
        return self._frames_to_log_mel(np.pad(waveform, self.padding, mode="reflect"))

    def _frames_to_log_mel(self, padded: np.ndarray) -> np.ndarray:
        """Emphasised samples with their padding -> log-mel of every whole frame in them."""
        if len(padded) < self.window_length:
            return np.zeros((0, self.num_mel_bins), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window_length)[:: self.hop_length]
        log_mel = np.empty((len(frames), self.num_mel_bins), np.float32)
        for start in range(0, len(frames), _FRAMES_A_BLOCK):
            block = slice(start, start + _FRAMES_A_BLOCK)
            log_mel[block] = _log(self, _mel(self, _spectrum(self, frames[block])))
        return log_mel

    def as_dict(self) -> dict[str, Any]:
        """Every constant by name, of types that JSON knows: what a model's card carries."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrontEnd:
        """What `as_dict` gave -> the front end.

        Raises:
            ValueError: a name is unknown or missing, or a value is outside its range.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        missing = sorted(
            name for name, field in fields.items() if field.default is dataclasses.MISSING and name not in values
        )
        if unknown or missing:
            raise ValueError(
                f"`values` must hold the fields of a front end. Received: unknown {unknown}, missing {missing}"
            )
        return cls(**values)


class StreamingLogMel:
    """Blocks of a waveform -> log-mel frames as soon as they are complete; memory does not grow with the stream.

    The frames of all blocks and of `flush`, one after the other, are bit for bit those of
    `front_end.log_mel(whole waveform)`, however the stream is cut. The first frame waits for the samples that its
    reflection needs, the last ones for `flush`.

    Args:
        front_end: the front end.

    >>> stream = StreamingLogMel(FRONT_ENDS["vggish"])
    >>> [len(stream.feed(np.zeros(size, np.float32))) for size in (300, 100, 320)]
    [0, 1, 2]
    >>> len(stream.flush())
    0
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        self._reset()

    def _reset(self) -> None:
        self._raw = np.zeros(0, np.float32)  # what the pre-emphasis or the first reflection still waits for
        self._samples = np.zeros(0, np.float32)  # emphasised and, at the start, reflected
        self._position = 0  # of the next frame in _samples
        self._started = False

    def feed(self, block: np.ndarray) -> np.ndarray:
        """Next samples (samples,), any number -> the frames that they complete, (frames, mel_bins) float32.

        Raises:
            ValueError: `block` is not a float array with one axis.
        """
        block = np.asarray(block)
        if block.dtype.kind != "f" or block.ndim != 1:
            raise ValueError(
                f"`block` must be float samples of shape (samples,). Received: {block.dtype} of shape {block.shape}"
            )
        self._raw = np.concatenate([self._raw, block.astype(np.float32, copy=False)])
        if not self._started and len(self._raw) < self.front_end.min_samples:
            return np.zeros((0, self.front_end.num_mel_bins), np.float32)
        return self._advance(self._take())

    def flush(self) -> np.ndarray:
        """End of the stream -> its last frames, (frames, mel_bins) float32; the next block begins a new stream."""
        frames = []
        if not self._started and len(self._raw):
            self._raw = _lengthen(self.front_end, self._raw)
            frames.append(self._advance(self._take()))
        if self._started and self.front_end.padding:
            tail = self._samples[-1 - self.front_end.padding : -1][::-1]
            frames.append(self._advance(tail))
        self._reset()
        return np.concatenate(frames) if frames else np.zeros((0, self.front_end.num_mel_bins), np.float32)

    def _take(self) -> np.ndarray:
        """The waiting raw samples -> emphasised samples, the reflection before the first of them included."""
        samples = _emphasise(self.front_end, self._raw)
        self._raw = self._raw[-1:] if self.front_end.preemphasis else self._raw[:0]
        if self._started:
            return samples
        self._started = True
        return np.pad(samples, (self.front_end.padding, 0), mode="reflect")

    def _advance(self, samples: np.ndarray) -> np.ndarray:
        self._samples = np.concatenate([self._samples, samples])
        log_mel = self.front_end._frames_to_log_mel(self._samples[self._position :])
        self._position += len(log_mel) * self.front_end.hop_length
        # The end of the stream is reflected too: keep that many samples although no later frame begins there.
        done = max(0, min(self._position, len(self._samples) - self.front_end.padding - 1))
        self._samples, self._position = self._samples[done:].copy(), self._position - done
        return log_mel


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _require(holds: bool, front_end: FrontEnd, field: str, allowed: str) -> None:
    if not holds:
        raise ValueError(f"`{field}` must be {allowed}. Received: {getattr(front_end, field)!r}")


def _lengthen(front_end: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    return np.pad(waveform, (0, max(0, front_end.min_samples - len(waveform))))


def _emphasise(front_end: FrontEnd, waveform: np.ndarray) -> np.ndarray:
    if not front_end.preemphasis:
        return waveform
    return waveform[1:] - np.float32(front_end.preemphasis) * waveform[:-1]


def _spectrum(front_end: FrontEnd, frames: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(frames * front_end.window, front_end.fft_length)  # complex64, before NumPy 2 complex128
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
    return power if front_end.spectrum == "power" else np.sqrt(power)


def _mel(front_end: FrontEnd, spectrum: np.ndarray) -> np.ndarray:
    """`spectrum @ mel_matrix` without its zeros; a plain loop over bins, whose order no library or row count changes.

    Between two neighbouring band centres lie the bins that fall in one band and rise in the next, so one pass over
    the bins for each of the two gives all the bands.
    """
    bands = _bands(front_end)
    mel = np.zeros((len(spectrum), front_end.num_mel_bins + 2), np.float32)  # band b is column b + 1
    heard = spectrum[:, bands.bins]
    mel[:, bands.intervals + 1] = np.add.reduceat(heard * bands.rising, bands.starts, axis=1)
    mel[:, bands.intervals] += np.add.reduceat(heard * bands.falling, bands.starts, axis=1)
    return mel[:, 1:-1]


def _log(front_end: FrontEnd, mel: np.ndarray) -> np.ndarray:
    floor = np.float32(front_end.floor)
    log_mel = np.log(mel + floor) if front_end.log == "natural" else np.float32(10) * np.log10(np.maximum(mel, floor))
    return (log_mel + np.float32(front_end.shift)) / np.float32(front_end.scale)


@functools.lru_cache(maxsize=32)
def _window(front_end: FrontEnd) -> np.ndarray:
    period = front_end.window_length - (0 if front_end.periodic_window else 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(front_end.window_length) / max(period, 1))
    return _frozen(window.astype(np.float32))


def _hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 1127 * np.log1p(hz / 700)
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700 * np.expm1(mel / 1127)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27))


@functools.lru_cache(maxsize=32)
def _slopes(front_end: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
    """Rising and falling weight of every FFT bin in every band, (bins, mel_bins) float64, peaks scaled by the norm."""
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
    rises = (position > edges[:-2]) & (position <= edges[1:-1])
    falls = (position > edges[1:-1]) & (position < edges[2:])
    return np.where(rises, rising, 0) * peak, np.where(falls, falling, 0) * peak


@functools.lru_cache(maxsize=32)
def _mel_matrix(front_end: FrontEnd) -> np.ndarray:
    return _frozen(np.add(*_slopes(front_end)).astype(np.float32))


@dataclasses.dataclass(frozen=True)
class _Bands:
    """The bins that any band hears, cut into intervals between neighbouring band edges."""

    bins: slice
    rising: np.ndarray  # weight of each bin in the band that rises there
    falling: np.ndarray  # weight of each bin in the band that falls there
    intervals: np.ndarray  # interval i has the rising half of band i and the falling half of band i - 1
    starts: np.ndarray  # first bin of each interval in `intervals`; those without a bin are left out


@functools.lru_cache(maxsize=32)
def _bands(front_end: FrontEnd) -> _Bands:
    rising, falling = _slopes(front_end)
    heard = np.flatnonzero((rising + falling).any(axis=1))
    if not len(heard):
        raise ValueError(f"`fft_length` must be larger: no bin lies in any mel band. Received: {front_end.fft_length}")
    bins = slice(heard[0], heard[-1] + 1)
    rising, falling = rising[bins], falling[bins]
    interval = np.where(rising.any(axis=1), rising.argmax(axis=1), falling.argmax(axis=1) + 1)
    intervals, starts = np.unique(interval, return_index=True)
    rising, falling = (weights.sum(axis=1).astype(np.float32) for weights in (rising, falling))
    return _Bands(bins, _frozen(rising), _frozen(falling), intervals, starts)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


FRONT_ENDS: dict[str, FrontEnd] = {
    front_end.name: front_end
    for front_end in (
        FrontEnd(
            name="panns",
            sample_rate=32_000,
            window_length=1024,
            hop_length=320,
            fft_length=1024,
            padding=512,
            num_mel_bins=64,
            min_hz=50.0,
            max_hz=14_000.0,
            mel_scale="slaney",
            mel_triangles="hz",
            mel_norm="slaney",
            log="decibel",
            floor=1e-10,
        ),
        FrontEnd(
            name="efficientat",
            sample_rate=32_000,
            window_length=800,
            hop_length=320,
            fft_length=1024,
            padding=400,
            periodic_window=False,
            preemphasis=0.97,
            num_mel_bins=128,
            min_hz=0.0,
            max_hz=16_000.0,
            floor=1e-5,
            shift=4.5,
            scale=5.0,
        ),
        # Not in our sources: our choice. 200 samples of reflection give exactly 40 frames a second, 400 for 10 s.
        FrontEnd(
            name="talnet",
            sample_rate=16_000,
            window_length=800,
            hop_length=400,
            fft_length=1024,
            padding=200,
            num_mel_bins=64,
            min_hz=0.0,
            max_hz=8_000.0,
            floor=1e-6,
        ),
        FrontEnd(
            name="vggish",
            sample_rate=16_000,
            window_length=400,
            hop_length=160,
            fft_length=512,
            spectrum="magnitude",
            num_mel_bins=64,
            min_hz=125.0,
            max_hz=7_500.0,
            floor=0.01,
        ),
    )
}
"""The front ends by name: `panns`, `efficientat`, `talnet` and `vggish`."""
