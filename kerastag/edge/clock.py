"""The clock of a live stream: it detects missing audio, and gives the time of day at which the stream started."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["StreamClock", "read_clock"]

# The clock of a sound card may differ from that of the system by this many seconds per second.
_MAX_DRIFT = 0.001


def read_clock() -> float:
    """Return the seconds on a clock that is never set and, if the system has such a clock, runs during sleep."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux stops its monotonic clock during sleep.
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


class StreamClock:
    """The relation between the seconds of a stream and the clock that its blocks were captured by.

    A source stamps a block when it receives it, which may be late. The position of the stream on the clock is therefore
    that of the earliest blocks, moved by at most 0.1 % per second to follow the drift of the two clocks. A block that
    comes more than `gap_seconds` too late shows that audio is missing (the machine slept, or a device stopped), and the
    stream jumps ahead. A block that comes that much too early shows that the clock changed: it sets a new position.
    Capture times are counted as by `clock`; `wall_clock` is the time of day and may be set at any time.
    """

    def __init__(
        self,
        gap_seconds: float = 2.0,
        clock: Callable[[], float] = read_clock,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not gap_seconds > 0:
            raise ValueError(f"`gap_seconds` must be above 0; received: {gap_seconds!r}")
        self._gap_seconds = gap_seconds
        self._clock, self._wall_clock = clock, wall_clock
        self._start: float | None = None  # Second 0 of the stream on `clock`.
        self._last_seconds = 0.0
        self._started_at: float | None = None

    def find_missing_seconds(self, stream_seconds: float, captured_at: float | None) -> float:
        """Return the seconds of audio that are missing before the next block, 0 if its capture time is unknown.

        `stream_seconds` is the position of the block in the stream if nothing is missing.
        """
        if captured_at is None:
            return 0.0
        start = captured_at - stream_seconds
        if self._start is None:
            self._start = start
        delay, elapsed = start - self._start, stream_seconds - self._last_seconds
        self._last_seconds = stream_seconds
        if delay > self._gap_seconds:
            self._last_seconds += delay
            return delay
        if delay < -self._gap_seconds:
            self._start = start
        else:
            self._start += min(delay, _MAX_DRIFT * max(0.0, elapsed))
        return 0.0

    def compute_age(self, stream_seconds: float) -> float | None:
        """Return the seconds since a position of the stream was captured; None if capture times are unknown."""
        return None if self._start is None else self._clock() - self._start - stream_seconds

    def compute_start_time(self) -> float:
        """Return the time of day at second 0 of the stream, in seconds since 1970.

        With capture times it follows the wall clock; without them it is the time of the first call.
        """
        if self._start is not None:
            return self._wall_clock() - (self._clock() - self._start)
        if self._started_at is None:
            self._started_at = self._wall_clock()
        return self._started_at
