"""Live sources that may be lost: they are reopened with growing pauses, and the time in between counts as lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from kerastag.edge.blocks import Block
from kerastag.edge.clock import read_clock

__all__ = ["ReopeningSource", "Session", "SourceLostError"]

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


class SourceLostError(OSError):
    """An error for a source that stalled, was unplugged, or ended; its text is the reason."""


class Session(Protocol):
    """An open source: its blocks end, or `SourceLostError` is raised, when it is lost."""

    def __iter__(self) -> Iterator[Block]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class ReopeningSource:
    """A source that is reopened whenever it is lost.

    The first attempt to open it must succeed, so that a wrong name is an error. Later, also if a server does not answer
    yet, attempts are repeated forever, with pauses that double from one second to a minute. The first block of a new
    session has the number of lost samples.

    Args:
        open_session: Function that opens the source; it raises ValueError or OSError if it cannot.
        name: Name of the source in messages.
        log: Function that takes one line of text for the user.
        first_pause_seconds: Pause before the second attempt, seconds, above 0.
    """

    live = True

    def __init__(
        self,
        open_session: Callable[[], Session],
        name: str,
        log: Callable[[str], None],
        *,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._open_session = open_session
        self.name = name
        self._log = log
        self._first_pause = first_pause_seconds
        self._stop = threading.Event()
        self._session: Session | None = open_session()
        self._last_block_time: float | None = None
        self.reopened = 0
        """How often the source was reopened."""

    def __iter__(self) -> Iterator[Block]:
        pause, logged_reason = self._first_pause, ""
        while not self._stop.is_set():
            start_time = read_clock()
            try:
                if self._session is None:
                    self._session = self._open_session()
                for block in self._session:
                    if self._stop.is_set():
                        return
                    if logged_reason:
                        self.reopened += 1
                        lost_seconds = read_clock() - (self._last_block_time or start_time)
                        self._log(f"{self.name}: is back after {lost_seconds:.0f} s")
                        block, logged_reason = self._count_gap(block), ""
                    self._last_block_time = read_clock()
                    yield block
                reason = "ended"
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split()).removeprefix(f"{self.name}: ")
            self._close_session()
            if read_clock() - start_time > LONGEST_PAUSE_SECONDS:
                pause = self._first_pause
            if reason != logged_reason and not self._stop.is_set():
                self._log(f"{self.name}: {reason}; it is reopened as soon as possible")
            logged_reason = reason
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _count_gap(self, block: Block) -> Block:
        """Return the block with the time since the last one, less its own duration, as lost samples."""
        if self._last_block_time is None:
            return block
        gap_seconds = read_clock() - self._last_block_time - block.seconds
        return block._replace(lost_samples=block.lost_samples + max(0, round(gap_seconds * block.sample_rate)))

    def stop(self) -> None:
        self._stop.set()
        with contextlib.suppress(AttributeError):  # There is no session at this moment.
            self._session.stop()  # type: ignore[union-attr]

    def close(self) -> None:
        """End the session, with all its threads and processes."""
        self._stop.set()
        self._close_session()

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
