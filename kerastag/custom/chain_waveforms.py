"""Differences between the waveform of a clip in training and in a stream: the stage that they come from."""

import warnings
from typing import NamedTuple

import numpy as np

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

    >>> sine = np.sin(np.arange(8_000.0))
    >>> compare_waveforms(sine, 0.5 * sine, 8_000)
    Difference(stage='level', detail='level 0.7071 in training, 0.3536 in the stream (gain 0.5)')
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
    if abs(len(expected) - len(received)) > 0.01 * len(expected):
        detail = f"{len(expected)} samples at {sample_rate} Hz in training, {len(received)} in the stream"
        return Difference("resampler", detail)
    detail = f"level {a_level:.4g} in training, {b_level:.4g} in the stream, correlation {correlation:.3f}"
    return Difference("resampler" if abs(correlation) >= _MIN_CORRELATION else "decoder", detail)


def compare_channels(
    recording: Recording, received: np.ndarray, sample_rate: int, channel: str | int
) -> Difference | None:
    """Find out whether the stream took another channel of a recording than training; None if it did not."""
    for other in _CHANNELS:
        if parse_channel(other) == channel:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            waveform = recording.load_waveform(sample_rate, len(received) / sample_rate, channel=other)
        if compare_waveforms(waveform, received, sample_rate) is None:
            return Difference("channel", f"`channel` is {channel} in training, {other} in the stream")
    return None


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
