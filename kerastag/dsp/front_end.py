"""What a mel front end is: every constant of it, and the log-mel that they define."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from kerastag.dsp.filterbank import hann_window, mel_matrix
from kerastag.dsp.spectrogram import emphasize, frames_to_log_mel, lengthen

__all__ = ["FrontEnd"]

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
        padding: samples of reflection at either end; `window_length // 2` centers frame t on sample
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

    >>> from kerastag.dsp import FRONT_ENDS
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
        return hann_window(self)

    @property
    def mel_matrix(self) -> np.ndarray:
        """Weight of every FFT bin in every mel band, (fft_length // 2 + 1, num_mel_bins) float32."""
        return mel_matrix(self)

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
        waveform = emphasize(self, lengthen(self, np.asarray(waveform, np.float32)))
        return frames_to_log_mel(self, np.pad(waveform, self.padding, mode="reflect"))

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


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _require(holds: bool, front_end: FrontEnd, field: str, allowed: str) -> None:
    if not holds:
        raise ValueError(f"`{field}` must be {allowed}. Received: {getattr(front_end, field)!r}")
