"""Differences between the waveform of a clip in training and in a stream: the stage that they come from."""

import warnings
from typing import NamedTuple

import numpy as np
import soxr

from kerastag.audio import AudioWarning
from kerastag.audio.channels import parse_channel
from kerastag.data.audio_lists import Recording

__all__ = ["STAGES", "Difference", "compare_channels", "compare_waveforms"]

STAGES = (
    *("decoder", "resampler", "channel", "level", "front end", "segment position", "embedder", "head", "labels"),
    "threshold",
)
"""Stages of the chain from the file to the decision, in order."""

_TOLERANCE = 1e-3  # relative to the level; decoders and resamplers of training and of a stream are the same
_MIN_CORRELATION = 0.3  # of a waveform that was resampled badly, but is the same sound
_MIN_CORRELATION_OF_RATE = 0.8
_MIN_EQUAL_SHARE = 0.5  # of the samples; no sample is the same after another resampler
_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_MORE_SECONDS = 0.5
_CHANNELS = ("mean", "left", "right", "loudest")


class Difference(NamedTuple):
    """A difference between training and a stream.

    Attributes:
        stage: First stage that differs, one of `STAGES`.
        detail: Both values, for people.
    """

    stage: str
    detail: str


def compare_waveforms(expected: np.ndarray, received: np.ndarray, sample_rate: int) -> Difference | None:
    """Compare a waveform of training with one of the stream, `(samples,)`; None where they are equal.

    A difference is a constant gain or offset (`level`), other samples (`decoder`), such as a missing end or a delay, or
    another sampling of the same sound (`resampler`). Zeros after the end of a clip shorter than a second are padding.
    The sign of a waveform does not matter.

    >>> square = np.tile([1.0, -1.0], 4_000)
    >>> compare_waveforms(square, 0.5 * square, 8_000)
    Difference(stage='level', detail='level 1 in training, 0.5 in the stream (gain 0.5)')
    """
    if not np.isfinite(received).all():
        return Difference("decoder", "finite samples in training, samples that are not finite in the stream")
    count = min(len(expected), len(received))
    a, b = expected[:count].astype(np.float64), received[:count].astype(np.float64)
    a_mean, b_mean = (float(x.mean()) if count else 0.0 for x in (a, b))
    a_level, b_level = _compute_level(a), _compute_level(b)
    if _compute_level(a - b) <= _TOLERANCE * a_level + 1e-7:
        is_padding = len(expected) <= sample_rate and not expected[count:].any()
        if abs(len(expected) - len(received)) <= sample_rate // 1000 or (len(received) == count and is_padding):
            return None
        seconds = [len(each) / sample_rate for each in (expected, received)]
        return Difference("decoder", f"{seconds[0]:.3f} s in training, {seconds[1]:.3f} s in the stream")
    covariance = float((a - a_mean) @ (b - b_mean))
    variances = [float((x - mean) @ (x - mean)) for x, mean in ((a, a_mean), (b, b_mean))]
    gain = covariance / max(variances[0], 1e-30)
    offset = b_mean - gain * a_mean
    if _compute_level(b - gain * a - offset) <= _TOLERANCE * (variances[1] / max(1, count)) ** 0.5:
        if abs(offset) > _TOLERANCE * max(a_level, b_level):
            return Difference("level", f"mean {a_mean:.4g} in training, {b_mean:.4g} in the stream")
        if abs(abs(gain) - 1) <= _TOLERANCE:
            return None
        levels = f"level {a_level:.4g} in training, {b_level:.4g} in the stream"
        return Difference("level", f"{levels} (gain {gain:.4g})")
    if (lag := _find_lag(a, b)) is not None:
        return Difference("decoder", f"begins at 0 s in training, {lag / sample_rate:+.6f} s later in the stream")
    correlation = covariance / max(float(np.sqrt(variances[0] * variances[1])), 1e-30)
    if (rate := _find_rate(expected, received, sample_rate)) is not None:
        return Difference("resampler", f"{sample_rate} Hz in training, {rate} Hz in the stream")
    if abs(len(expected) - len(received)) > 0.01 * len(expected):
        return Difference("resampler", f"{len(expected)} samples in training, {len(received)} in the stream")
    has_equal_part = np.mean(np.abs(a - b) <= _TOLERANCE * a_level) >= _MIN_EQUAL_SHARE
    detail = f"level {a_level:.4g} in training, {b_level:.4g} in the stream, correlation {correlation:.3f}"
    is_same_sound = abs(correlation) >= _MIN_CORRELATION and not has_equal_part
    return Difference("resampler" if is_same_sound else "decoder", detail)


def compare_channels(
    recording: Recording, expected: np.ndarray, received: np.ndarray, sample_rate: int, channel: str | int
) -> Difference | None:
    """Find whether training or the stream took another channel of a recording than `channel`; None otherwise."""

    def is_equal(waveform: np.ndarray, channel: str | int) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            # The samples before the end of what is read depend on the resampler.
            of_channel = recording.load_waveform(sample_rate, len(received) / sample_rate + _MORE_SECONDS, channel)
        return compare_waveforms(of_channel[: len(received)], waveform, sample_rate) is None

    for number, waveform in enumerate((received, expected)):
        if is_equal(waveform, channel):
            continue
        for other in _CHANNELS:
            if parse_channel(other) != channel and is_equal(waveform, other):
                names = (channel, other) if number == 0 else (other, channel)
                return Difference("channel", f"`channel` is {names[0]} in training, {names[1]} in the stream")
    return None


def _find_rate(expected: np.ndarray, received: np.ndarray, sample_rate: int) -> int | None:
    """Return the sample rate at which `received` is the waveform `expected`, if it is one of the usual rates."""
    for rate in _RATES:
        waveform = soxr.resample(expected.astype(np.float32), sample_rate, rate)
        count = min(len(waveform), len(received))
        if rate != sample_rate and abs(_correlate(waveform[:count], received[:count])) >= _MIN_CORRELATION_OF_RATE:
            return rate
    return None


def _correlate(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30)


def _compute_level(x: np.ndarray) -> float:
    """Compute the root mean square of samples."""
    return float(np.sqrt(np.mean(np.square(x)))) if len(x) else 0.0


def _find_lag(a: np.ndarray, b: np.ndarray) -> int | None:
    """Return by how many samples `b` is later than `a`, if it is the same waveform."""
    size = 2 * len(a)
    correlation = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    lag = int(np.abs(correlation).argmax())
    lag -= size if lag > size // 2 else 0
    if not lag or abs(lag) > len(a) // 2:
        return None
    first, second = (a[: len(a) - lag], b[lag:]) if lag > 0 else (a[-lag:], b[:lag])
    return lag if _compute_level(first - second) <= 10 * _TOLERANCE * _compute_level(first) else None
