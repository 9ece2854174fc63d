"""The interface of an output, and the reports that it gets: class names, times of day and plain JSON values."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kerastag.edge.streaming import StreamingResult
from kerastag.events import Event
from kerastag.labels import LabelSet

__all__ = [
    "EventReport",
    "ResultReport",
    "Sink",
    "SourceReport",
    "TagReport",
    "create_event_report",
    "create_result_report",
]


class TagReport(NamedTuple):
    """The name and the identifier of a class, and its probability in [0, 1]."""

    name: str
    mid: str
    probability: float


class ResultReport(NamedTuple):
    """The tags of the last audio of a stream."""

    start_seconds: float  # In seconds of the stream, like the end.
    end_seconds: float
    time: float | None  # Time of day of the end, seconds since 1970; None if the stream is not live.
    tags: tuple[TagReport, ...]  # The most probable classes, in descending order.
    names: tuple[str, ...]  # Of the selected classes.
    probabilities: np.ndarray  # Of the selected classes.
    lost_seconds: float = 0.0  # Duration of the audio that is missing since the last result.

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = {"type": "result", **_format_time(self.time)}
        values |= {"start_seconds": round(self.start_seconds, 3), "end_seconds": round(self.end_seconds, 3)}
        values["tags"] = [{**tag._asdict(), "probability": round(tag.probability, 4)} for tag in self.tags]
        return values | ({"lost_seconds": round(self.lost_seconds, 3)} if self.lost_seconds else {})


class EventReport(NamedTuple):
    """An event that begins or has ended."""

    name: str  # Of the class.
    mid: str  # Identifier of the class.
    onset_seconds: float  # In seconds of the stream.
    offset_seconds: float | None  # None while the event goes on.
    time: float | None  # Time of day of the onset, seconds since 1970; None if the stream is not live.
    peak_probability: float  # So far, like the mean.
    mean_probability: float

    @property
    def state(self) -> str:
        """`"begin"` or `"end"`."""
        return "begin" if self.offset_seconds is None else "end"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = {"type": "event", "state": self.state, **_format_time(self.time)}
        values |= {"name": self.name, "mid": self.mid, "onset_seconds": round(self.onset_seconds, 3)}
        if self.offset_seconds is not None:
            values["offset_seconds"] = round(self.offset_seconds, 3)
        values["peak_probability"] = round(self.peak_probability, 4)
        values["mean_probability"] = round(self.mean_probability, 4)
        return values


class SourceReport(NamedTuple):
    """A source whose state has changed."""

    state: str  # One of `kerastag.edge.monitor.SOURCE_STATES`.
    name: str  # Of the source, without secrets.
    seconds: float  # Of the stream, at which the state changed.
    time: float | None  # Time of day, seconds since 1970; None if the stream is not live.

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = {"type": "source", "state": self.state, **_format_time(self.time)}
        return values | {"name": self.name, "seconds": round(self.seconds, 3)}


def create_result_report(
    result: StreamingResult, labels: LabelSet, classes: Sequence[int], top: int, live: bool
) -> ResultReport:
    """Create the report of a result, with at most `top` tags out of the classes with these indices."""
    probabilities = result.probabilities[list(classes)]
    order = np.argsort(-probabilities, kind="stable")[:top]
    tags = (TagReport(labels.names[classes[k]], labels.mids[classes[k]], float(probabilities[k])) for k in order)
    return ResultReport(
        result.start_seconds,
        result.end_seconds,
        result.started_at + result.end_seconds if live else None,
        tuple(tags),
        tuple(labels.names[k] for k in classes),
        probabilities,
        result.lost_seconds,
    )


def create_event_report(
    event: Event, labels: LabelSet, classes: Sequence[int], started_at: float | None
) -> EventReport:
    """Create the report of an event among the classes with these indices.

    `started_at` is the time of day at second 0 of the stream, seconds since 1970; None if the stream is not live.
    """
    k = classes[event.class_index]
    return EventReport(
        labels.names[k],
        labels.mids[k],
        event.onset_seconds,
        event.offset_seconds,
        None if started_at is None else started_at + event.onset_seconds,
        event.peak_probability,
        event.mean_probability,
    )


def _format_time(seconds: float | None) -> dict[str, str]:
    """Return the item `time` in ISO 8601, UTC with milliseconds, or nothing if the time is unknown."""
    if seconds is None:
        return {}
    text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")
    return {"time": text.replace("+00:00", "Z")}


class Sink:
    """An output of a stream; each method does nothing unless a subclass overrides it.

    Methods raise OSError if the output fails.

    Attributes:
        name: Name of the output in messages.
        needs_audio: Whether the output takes audio.
    """

    name: str
    needs_audio = False

    def write_result(self, report: ResultReport) -> None:
        """Write a result."""

    def write_event(self, report: EventReport) -> None:
        """Write an event."""

    def write_source(self, report: SourceReport) -> None:
        """Write a change of the state of the source."""

    def write_audio(self, samples: np.ndarray, sample_rate: int, end_seconds: float) -> None:
        """Write a block of shape (samples,) or (samples, channels) that ends at this second of the stream."""

    def reopen(self) -> None:
        """Reopen the file, after it was rotated by another program."""

    def close(self) -> None:
        """Write what is left, and close the output."""
