"""Statistics of a stream, in memory that does not grow: speed, losses, latency and memory."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["Histogram", "StreamStats", "format_stats", "get_resident_bytes"]


class StreamStats(NamedTuple):
    """Statistics of a stream so far.

    The latency of a result is the time from the capture of its last sample, or from its call of `feed` if capture times
    are unknown, to the result. The percentiles are upper bounds that exceed the exact value by at most 12 %.

    Attributes:
        audio_seconds: Duration of the processed audio, seconds.
        lost_seconds: Duration of the missing audio, seconds: dropped because processing was late, or never captured.
        gaps: Number of gaps in the audio.
        results: Number of results.
        busy_seconds: Processing time, seconds.
        real_time_factor: `busy_seconds / audio_seconds`; NaN before the first sample.
        latency_p50: Median latency, seconds.
        latency_p95: 95th percentile of the latency, seconds.
        latency_p99: 99th percentile of the latency, seconds.
        latency_max: Maximum latency, seconds.
        resident_bytes: Memory of the process that is in RAM, bytes; 0 if the system does not report it.
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
    """A histogram with a fixed number of bins that estimates quantiles to 12 %.

    The 180 bins have the same width in the logarithm, 20 per factor of ten, from 10 microseconds to 10,000 seconds.
    """

    _MINIMUM, _BINS_PER_DECADE, _BINS = 1e-5, 20, 180

    def __init__(self) -> None:
        self._counts = np.zeros(self._BINS, np.int64)
        self.max = 0.0

    def add(self, value: float) -> None:
        index = math.floor(self._BINS_PER_DECADE * math.log10(max(value, self._MINIMUM) / self._MINIMUM))
        self._counts[min(index, self._BINS - 1)] += 1
        self.max = max(self.max, value)

    def compute_quantile(self, share: float) -> float:
        """Return the upper end of the bin that holds a quantile; NaN if there are no values."""
        total = int(self._counts.sum())
        if not total:
            return math.nan
        index = int(np.searchsorted(self._counts.cumsum(), max(1, math.ceil(share * total))))
        return min(self._MINIMUM * 10 ** ((index + 1) / self._BINS_PER_DECADE), self.max)


def format_stats(stats: StreamStats) -> str:
    """Format the statistics of a stream as one line of text."""
    latencies = zip(("p50", "p95", "p99", "max"), stats[6:10], strict=True)
    latency = " ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in latencies)
    return (
        f"processed {stats.audio_seconds:.1f} s, lost {stats.lost_seconds:.1f} s in {stats.gaps} gaps, "
        f"{stats.results} results, real-time factor {stats.real_time_factor:.4f}, latency {latency}, "
        f"memory {stats.resident_bytes / 1e6:.0f} MB"
    )


def get_resident_bytes() -> int:
    """Return the memory of this process that is in RAM, or its maximum so far, or 0 if neither is known."""
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
