"""Results and events -> a live view in a terminal; plain lines where there is none."""

from __future__ import annotations

import collections
import shutil
import sys
import time
from typing import TextIO

from kerastag.edge.reports import EventReport, ResultReport, TagReport

__all__ = ["Terminal"]

_SIGNS = "●○█·"  # begins, has ended, a bar and the rest of it
_PLAIN_SIGNS = "*o#-"
_LONGEST_NAME = 28


class Terminal:
    """The last result as bars and the last events below it, drawn in place; elsewhere one line an event.

    Args:
        events: How many events are shown, at least 0.
        stream: Where to draw; None is standard output.
    """

    name = "terminal"

    def __init__(self, *, events: int = 8, stream: TextIO | None = None) -> None:
        if events < 0:
            raise ValueError(f"`events` must be at least 0, received {events!r}")
        self._stream = stream or sys.stdout
        self._live = self._stream.isatty()
        self._begin, self._end, self._filled, self._empty = tuple(_signs(self._stream))
        self._sounding: dict[str, EventReport] = {}
        self._events: collections.deque[EventReport] = collections.deque(maxlen=events)
        self._tags: tuple[TagReport, ...] = ()
        self._end_seconds = self._lost_seconds = 0.0
        self._drawn = 0

    def result(self, report: ResultReport) -> None:
        """Draw it; where nothing can be drawn, nothing."""
        self._tags, self._end_seconds = report.tags, report.end_seconds
        self._lost_seconds += report.lost_seconds
        if self._live:
            self._draw()

    def event(self, report: EventReport) -> None:
        """Draw it, or say it in a line."""
        if not self._live:
            self._stream.write(self._event_line(report) + "\n")
            self._stream.flush()
            return
        self._sounding.pop(report.name, None)
        if report.state == "begin":
            self._sounding[report.name] = report
        else:
            self._events.append(report)
        self._draw()

    def reopen(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Leave the last picture where it is."""

    def _draw(self) -> None:
        columns, rows = shutil.get_terminal_size()
        lost = f", {self._lost_seconds:.1f} s lost" if self._lost_seconds else ""
        lines = [f"heard {_clock(self._end_seconds)}{lost}", *(self._bar(tag, columns) for tag in self._tags), ""]
        lines += map(self._event_line, [*reversed(self._sounding.values()), *reversed(self._events)])
        lines = [line[: columns - 1] for line in lines[: rows - 1]]
        above = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._stream.write(above + "".join(f"\r\x1b[K{line}\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn = len(lines)

    def _bar(self, tag: TagReport, columns: int) -> str:
        mark = self._begin if tag.name in self._sounding else " "
        width = max(5, min(40, columns - _LONGEST_NAME - 12))
        filled = round(tag.probability * width)
        bar = self._filled * filled + self._empty * (width - filled)
        return f"{mark} {tag.name[:_LONGEST_NAME]:{_LONGEST_NAME}} {bar} {tag.probability:5.3f}"

    def _event_line(self, report: EventReport) -> str:
        if report.time is None:
            when = _clock(report.onset_seconds)
        else:
            when = time.strftime("%H:%M:%S", time.localtime(report.time))
        mark = self._begin if report.offset_seconds is None else self._end
        lasted = "" if report.offset_seconds is None else f"{report.offset_seconds - report.onset_seconds:6.1f} s"
        return f"{mark} {when}  {report.name:{_LONGEST_NAME}} {report.peak_probability:5.3f} {lasted}".rstrip()


def _signs(stream: TextIO) -> str:
    try:
        _SIGNS.encode(stream.encoding or "ascii")
    except (UnicodeError, LookupError):
        return _PLAIN_SIGNS
    return _SIGNS


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
