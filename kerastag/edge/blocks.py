"""What a source of live audio gives: blocks of samples, and the clock they are stamped with."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

__all__ = ["Block", "now"]


class Block(NamedTuple):
    """A piece of a stream, of any length.

    Attributes:
        samples: Float32 in [-1, 1], (samples,) or (samples, channels).
        sample_rate: Of the samples, Hz.
        captured_at: When the first sample was captured, on the clock of `now`; None where the audio is no live one.
        lost_samples: Samples of the same rate that are missing right before this block.
    """

    samples: np.ndarray
    sample_rate: int
    captured_at: float | None = None
    lost_samples: int = 0


def now() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine sleeps, where there is such a clock."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux: its monotonic clock stands still during sleep
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)
