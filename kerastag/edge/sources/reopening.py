"""A live source that may vanish -> one stream: opened again with growing pauses, the time between counted as lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from kerastag.edge.blocks import Block, now

__all__ = ["Lost", "Reopening", "Session"]

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0


class Lost(OSError):
    """A source that was there is not any more: stalled, unplugged, ended. Its text says why."""


class Session(Protocol):
    """One time that the source is open: blocks until it is lost (`Lost`) or at its end."""

    def __iter__(self) -> Iterator[Block]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Reopening:
    """A function that opens a source -> its blocks, across every loss.

    The first opening must succeed, so that a wrong name is an error; what is lost after it, and a server that does not
    answer yet, is tried again for as long as it takes, with pauses that double from one second to a minute. The first
    block of a new session says how many samples were lost.

    Args:
        open_session: Opens the source; raises ValueError or OSError where it cannot.
        name: What messages call the source.
        report: Takes one line for people.
        first_pause_seconds: Before the second try, above 0.
    """

    live = True

    def __init__(
        self,
        open_session: Callable[[], Session],
        name: str,
        report: Callable[[str], None],
        *,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self._open = open_session
        self.name = name
        self._report = report
        self._first_pause = first_pause_seconds
        self._stop = threading.Event()
        self._session: Session | None = open_session()
        self._end_at: float | None = None
        self.reopened = 0

    def __iter__(self) -> Iterator[Block]:
        pause, complaint = self._first_pause, ""
        while not self._stop.is_set():
            began = now()
            try:
                if self._session is None:
                    self._session = self._open()
                for block in self._session:
                    if self._stop.is_set():
                        return
                    if complaint:
                        self.reopened += 1
                        self._report(f"{self.name}: is back after {now() - (self._end_at or began):.0f} s")
                        block, complaint = self._after_gap(block), ""
                    self._end_at = now()
                    yield block
                reason = "ended"
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split()).removeprefix(f"{self.name}: ")
            self._close_session()
            if now() - began > LONGEST_PAUSE_SECONDS:
                pause = self._first_pause
            if reason != complaint and not self._stop.is_set():
                self._report(f"{self.name}: {reason}; it is opened again as soon as it is there")
            complaint = reason
            self._stop.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _after_gap(self, block: Block) -> Block:
        """The block with the time since the last one as lost samples; its own length lies in that time too."""
        if self._end_at is None:
            return block
        gap_seconds = now() - self._end_at - len(block.samples) / block.sample_rate
        return block._replace(lost_samples=block.lost_samples + max(0, round(gap_seconds * block.sample_rate)))

    def stop(self) -> None:
        """End the blocks soon, from a signal handler or another thread."""
        self._stop.set()
        with contextlib.suppress(AttributeError):  # no session at this moment
            self._session.stop()  # type: ignore[union-attr]

    def close(self) -> None:
        """End the session, with every thread and process that it has."""
        self._stop.set()
        self._close_session()

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
