"""How a stream fares: speed, losses, latency and memory, in memory that does not grow."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Histogram", "Stats", "resident_bytes", "stats_line"]


class Stats(NamedTuple):
    """A stream so far.

    Attributes:
        audio_seconds: Audio that was heard.
        lost_seconds: Audio that is missing: dropped because the processor was late, or never captured.
        gaps: How often.
        results: Results that were given.
        busy_seconds: Time that hearing took.
        real_time_factor: `busy_seconds / audio_seconds`; NaN before the first sample.
        latency_p50, latency_p95, latency_p99: Seconds from the capture of a result's last sample, or, where that is not
            known, from its being fed, to the result: as much or less for 50, 95 and 99 % of the results, within 12 %.
        latency_max: The longest.
        resident_bytes: Memory of the process that is in RAM now; 0 where the system does not tell.
    """

    audio_seconds: float
    lost_seconds: float
    gaps: int
    results: int
    busy_seconds: float
    real_time_factor: float
    latency_p50: float
    latency_p95: float
    latency_p99: float
    latency_max: float
    resident_bytes: int


class Histogram:
    """Values one by one -> their quantiles, within 12 %, in the memory of 180 counters.

    Bins are of equal width in the logarithm, 20 a factor of ten, from 10 microseconds to 10,000 seconds.

    >>> histogram = Histogram()
    >>> for value in (0.1, 0.2, 0.3, 4.0):
    ...     histogram.add(value)
    >>> round(histogram.quantile(0.5), 2), histogram.quantile(1.0)
    (0.22, 4.0)
    """

    _LEAST, _PER_DECADE, _BINS = 1e-5, 20, 180

    def __init__(self) -> None:
        self._counts = np.zeros(self._BINS, np.int64)
        self.max = 0.0

    def add(self, value: float) -> None:
        """One more value, 0 or more."""
        place = math.floor(self._PER_DECADE * math.log10(max(value, self._LEAST) / self._LEAST))
        self._counts[min(place, self._BINS - 1)] += 1
        self.max = max(self.max, value)

    def quantile(self, share: float) -> float:
        """The value that `share` of the values do not exceed: its bin's upper end; NaN where there are no values."""
        total = int(self._counts.sum())
        if not total:
            return math.nan
        place = int(np.searchsorted(self._counts.cumsum(), max(1, math.ceil(share * total))))
        return min(self._LEAST * 10 ** ((place + 1) / self._PER_DECADE), self.max)


def stats_line(stats: Stats) -> str:
    """How a stream fares, in a line."""
    latencies = zip(("p50", "p95", "p99", "max"), stats[6:10], strict=True)
    return ", ".join(
        (
            f"heard {stats.audio_seconds:.1f} s",
            f"lost {stats.lost_seconds:.1f} s in {stats.gaps} gaps",
            f"{stats.results} results",
            f"real-time factor {stats.real_time_factor:.4f}",
            "latency " + " ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in latencies),
            f"memory {stats.resident_bytes / 1e6:.0f} MB",
        )
    )


def resident_bytes() -> int:
    """Memory of this process that is in RAM now; at most so far where only that is known, 0 where nothing is."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
