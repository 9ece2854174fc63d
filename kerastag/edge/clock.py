"""When a stream's samples were heard: missing audio is noticed, and the time of day follows the wall's clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from kerastag.edge.blocks import now

__all__ = ["StreamClock"]

_DRIFT = 0.001  # how much faster or slower than the system's a sound card's clock may be: seconds a second


class StreamClock:
    """Capture times of blocks -> seconds that are missing between them, and the time of day of the stream's begin.

    A source stamps a block when it gets it, which may be late. So the stream's place on the clock is that of the
    blocks that came soonest, moved by at most 0.1 % a second, as two clocks drift apart. A block that comes more than
    `gap_seconds` after its place shows that audio is missing (the machine slept, a device stood still), and
    the stream jumps there. One that comes that much too early shows another clock: it is taken as the new place.

    Args:
        gap_seconds: How late a block must be, above 0.
        clock: What capture times are read from.
        wall_clock: The time of day, seconds since 1970; it may be set at any time.
    """

    def __init__(
        self,
        gap_seconds: float = 2.0,
        clock: Callable[[], float] = now,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not gap_seconds > 0:
            raise ValueError(f"`gap_seconds` must be above 0, received {gap_seconds!r}")
        self._gap = gap_seconds
        self._clock, self._wall_clock = clock, wall_clock
        self._zero: float | None = None  # second 0 of the stream on the clock of capture times
        self._last = 0.0
        self._began_at: float | None = None

    def missing(self, stream_seconds: float, captured_at: float | None) -> float:
        """The stream's next second and when it was captured -> seconds of audio that are missing before it, 0 or more.

        `captured_at` is None where it is not known: nothing is missing then.
        """
        if captured_at is None:
            return 0.0
        zero = captured_at - stream_seconds
        if self._zero is None:
            self._zero = zero
        late, passed = zero - self._zero, stream_seconds - self._last
        self._last = stream_seconds
        if late > self._gap:
            self._last += late
            return late
        if late < -self._gap:
            self._zero = zero
        else:
            self._zero += min(late, _DRIFT * max(0.0, passed))
        return 0.0

    def age(self, stream_seconds: float) -> float | None:
        """Seconds since that second of the stream was captured; None where capture times are not known."""
        return None if self._zero is None else self._clock() - self._zero - stream_seconds

    def began_at(self) -> float:
        """Second 0 of the stream in seconds since 1970, as the wall's clock now says; without capture times, as it
        said at the first call."""
        if self._zero is not None:
            return self._wall_clock() - (self._clock() - self._zero)
        if self._began_at is None:
            self._began_at = self._wall_clock()
        return self._began_at
