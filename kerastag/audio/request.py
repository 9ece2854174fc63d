"""One reading of a file: what was asked for, checked, and how it is said that a file is damaged."""

import dataclasses
import math
import warnings
from pathlib import Path

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 1_000_000
FRAMES_A_READ = 1 << 13  # what is lost before a damage in the file: libsndfile drops the whole read


class AudioWarning(UserWarning):
    """A file is shorter than its header promises, or damaged: what could be read of it is used."""


@dataclasses.dataclass(frozen=True)
class Request:
    """One reading of a file: what `blocks` was asked for, and the name that messages give the file."""

    path: Path
    name: str
    sample_rate: int
    offset_seconds: float = 0.0
    duration_seconds: float | None = None

    def __post_init__(self) -> None:
        check_rate(self.sample_rate, "`sample_rate`")
        if not 0 <= self.offset_seconds < math.inf:
            raise ValueError(f"`offset_seconds` must be at least 0. Received: {self.offset_seconds}")
        if self.duration_seconds is not None:
            whole_samples("duration_seconds", self.duration_seconds, self.sample_rate)

    @property
    def wanted(self) -> int | None:
        """Samples at most, at the requested rate."""
        return None if self.duration_seconds is None else round(self.duration_seconds * self.sample_rate)

    def native_frames(self, rate: int) -> int | None:
        """Frames at most, at the file's rate: one target sample more, so that rounding never shortens the result."""
        if self.duration_seconds is None:
            return None
        if rate == self.sample_rate:
            return self.wanted
        return math.ceil(self.duration_seconds * rate) + math.ceil(rate / self.sample_rate)


def check_rate(rate: float, what: str) -> None:
    """Refuse a rate that is none; `what` is how messages begin."""
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE or rate != int(rate):
        raise ValueError(f"{what} must be an integer from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz. Received: {rate}")


def whole_samples(name: str, seconds: float, sample_rate: int) -> int:
    """The argument `name` in seconds -> samples, at least one."""
    samples = round(seconds * sample_rate) if math.isfinite(seconds) else 0
    if samples < 1:
        raise ValueError(f"`{name}` must be at least one sample, 1/{sample_rate} s. Received: {seconds}")
    return samples


def warn(name: str, fault: str) -> None:
    """Say of the file `name` what is wrong with it, and that the rest is used."""
    warnings.warn(f"{name}: {fault} that could be read are used", AudioWarning, stacklevel=2)
