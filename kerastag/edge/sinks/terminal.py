"""Results and events as a live view in a terminal, or as plain lines where standard output is not a terminal."""

from __future__ import annotations

import collections
import shutil
import sys
import time
from typing import TextIO

from kerastag.edge.sinks.sink import EventReport, ResultReport, Sink, SourceReport, TagReport

__all__ = ["TerminalSink"]

_SYMBOLS = "●○█·"  # Begin of an event, its end, the filled part of a bar, the empty part.
_ASCII_SYMBOLS = "*o#-"
_NAME_WIDTH = 28
_MAX_EVENTS = 1_000


class TerminalSink(Sink):
    """A sink that draws the last result as bars, and the last events below it; without a terminal, one line per event.

    It also shows when the source is lost, silent or listening again.

    Args:
        events: Maximum number of ended events to show, 0 to 1,000.
        stream: Stream to draw to; None is standard output.
    """

    name = "terminal"

    def __init__(self, *, events: int = 8, stream: TextIO | None = None) -> None:
        if not 0 <= events <= _MAX_EVENTS:
            raise ValueError(f"`events` must be from 0 to {_MAX_EVENTS}; received: {events!r}")
        output = stream or getattr(sys.stdout, "stream", sys.stdout)  # without escapes of control characters
        if output is None:
            raise ValueError("`output` must be a file, as standard output is closed; received: terminal")
        self._stream: TextIO = output
        self._is_terminal = self._stream.isatty()
        symbols = _SYMBOLS
        try:
            symbols.encode(self._stream.encoding or "ascii")
        except (UnicodeError, LookupError):
            symbols = _ASCII_SYMBOLS
        self._begin, self._end, self._filled, self._empty = tuple(symbols)
        self._active_events: dict[str, EventReport] = {}
        self._ended_events: collections.deque[EventReport] = collections.deque(maxlen=events)
        self._tags: tuple[TagReport, ...] = ()
        self._end_seconds = self._lost_seconds = 0.0
        self._source_state = "listening"
        self._drawn_lines = 0

    def write_result(self, report: ResultReport) -> None:
        self._tags, self._end_seconds = report.tags, report.end_seconds
        self._lost_seconds += report.lost_seconds
        if self._is_terminal:
            self._draw()

    def write_event(self, report: EventReport) -> None:
        if not self._is_terminal:
            self._stream.write(self._format_event(report) + "\n")
            self._stream.flush()
            return
        self._active_events.pop(report.name, None)
        if report.state == "begin":
            self._active_events[report.name] = report
        else:
            self._ended_events.append(report)
        self._draw()

    def write_source(self, report: SourceReport) -> None:
        has_changed, self._source_state = report.state != self._source_state, report.state
        if self._is_terminal:
            self._draw()
        elif has_changed:
            self._stream.write(f"! {_format_moment(report.time, report.seconds)}  source {report.state}\n")
            self._stream.flush()

    def _draw(self) -> None:
        columns, rows = shutil.get_terminal_size()
        lost = f", {self._lost_seconds:.1f} s lost" if self._lost_seconds else ""
        state = "" if self._source_state == "listening" else f", source {self._source_state}"
        lines = [f"processed {_format_duration(self._end_seconds)}{lost}{state}"]
        lines += [*(self._format_bar(tag, columns) for tag in self._tags), ""]
        lines += map(self._format_event, [*reversed(self._active_events.values()), *reversed(self._ended_events)])
        lines = [line[: columns - 1] for line in lines[: rows - 1]]
        move_up = f"\x1b[{self._drawn_lines}A" if self._drawn_lines else ""
        self._stream.write(move_up + "".join(f"\r\x1b[K{line}\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn_lines = len(lines)

    def _format_bar(self, tag: TagReport, columns: int) -> str:
        symbol = self._begin if tag.name in self._active_events else " "
        width = max(5, min(40, columns - _NAME_WIDTH - 12))
        filled = round(tag.probability * width)
        bar = self._filled * filled + self._empty * (width - filled)
        return f"{symbol} {tag.name[:_NAME_WIDTH]:{_NAME_WIDTH}} {bar} {tag.probability:5.3f}"

    def _format_event(self, report: EventReport) -> str:
        time_text = _format_moment(report.time, report.onset_seconds)
        symbol, duration = self._begin, ""
        if report.offset_seconds is not None:
            symbol, duration = self._end, f"{report.offset_seconds - report.onset_seconds:6.1f} s"
        return f"{symbol} {time_text}  {report.name:{_NAME_WIDTH}} {report.peak_probability:5.3f} {duration}".rstrip()


def _format_moment(time_of_day: float | None, stream_seconds: float) -> str:
    if time_of_day is None:
        return _format_duration(stream_seconds)
    return time.strftime("%H:%M:%S", time.localtime(time_of_day))


def _format_duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
