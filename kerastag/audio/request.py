"""The validated arguments of one read, which the decoders share."""

import dataclasses
import math
import warnings
from pathlib import Path

from kerastag.audio.channels import parse_channel

MIN_SAMPLE_RATE = 1_000
MAX_SAMPLE_RATE = 1_000_000
"""Highest sample rate that can be asked for, Hz."""
FRAMES_PER_READ = 1 << 13  # a fraction of a second


class AudioWarning(UserWarning):
    """An audio file is damaged, or a file or folder is not read as one might expect; the rest is used."""


class UnsupportedAudioError(ValueError):
    """An error for a file that is not audio, or that no decoder supports."""


@dataclasses.dataclass(frozen=True)
class Request:
    """Arguments of one read, the name of the file in messages, and whether there are warnings."""

    path: Path
    name: str
    sample_rate: int
    offset_seconds: float = 0.0
    duration_seconds: float | None = None
    channel: str | int = "mean"
    warns: bool = True

    def __post_init__(self) -> None:
        check_sample_rate(self.sample_rate, "`sample_rate`")
        if not 0 <= self.offset_seconds < math.inf:
            raise ValueError(f"`offset_seconds` must be at least 0; received: {self.offset_seconds}")
        if self.duration_seconds is not None:
            convert_to_samples("duration_seconds", self.duration_seconds, self.sample_rate)
        parse_channel(self.channel)

    def warn(self, problem: str) -> None:
        """Warn of a problem of the file."""
        if self.warns:
            warnings.warn(f"{self.name}: {problem}", AudioWarning, stacklevel=3)

    @property
    def max_samples(self) -> int | None:
        """Largest number of samples, at the requested sample rate; None for all."""
        return None if self.duration_seconds is None else round(self.duration_seconds * self.sample_rate)

    def compute_max_frames(self, file_rate: int) -> int | None:
        """Compute the largest number of frames at the sample rate of the file.

        It includes one more sample at the requested rate, so that rounding never shortens the result.
        """
        if self.duration_seconds is None:
            return None
        if file_rate == self.sample_rate:
            return self.max_samples
        return math.ceil(self.duration_seconds * file_rate) + math.ceil(file_rate / self.sample_rate)


def check_sample_rate(sample_rate: float, name: str) -> None:
    """Raise an error where a sample rate is out of range; `name` is the beginning of the message."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE or sample_rate != int(sample_rate):
        raise ValueError(
            f"{name} must be an integer from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz; received: {sample_rate}"
        )


def convert_to_samples(name: str, seconds: float, sample_rate: int) -> int:
    """Convert the argument `name` from seconds to samples, at least one."""
    samples = round(seconds * sample_rate) if math.isfinite(seconds) else 0
    if samples < 1:
        raise ValueError(f"`{name}` must be at least one sample, 1/{sample_rate} s; received: {seconds}")
    return samples
