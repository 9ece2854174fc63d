"""Reports for the outputs of a stream: results and events with class names, times of day and plain JSON values."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kerastag.edge.streaming import StreamingResult
from kerastag.events import Event
from kerastag.labels import LabelSet

__all__ = ["EventReport", "ResultReport", "TagReport", "create_event_report", "create_result_report"]

_PROBABILITY_DIGITS, _SECOND_DIGITS = 4, 3


class TagReport(NamedTuple):
    """A class and its probability.

    Attributes:
        name: Name of the class.
        mid: Identifier of the class.
        probability: Probability in [0, 1].
    """

    name: str
    mid: str
    probability: float


class ResultReport(NamedTuple):
    """The tags of the last audio of a stream.

    Attributes:
        start_seconds: Start of the audio, in seconds of the stream.
        end_seconds: End of the audio, in seconds of the stream.
        time: Time of day of the end, seconds since 1970; None if the stream is not live.
        tags: Most probable classes, in descending order.
        names: Names of the selected classes.
        probabilities: Probabilities of the selected classes, in the order of `names`.
        lost_seconds: Duration of the audio that is missing since the last result, seconds.
    """

    start_seconds: float
    end_seconds: float
    time: float | None
    tags: tuple[TagReport, ...]
    names: tuple[str, ...]
    probabilities: np.ndarray
    lost_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = {"type": "result", **_format_time(self.time)}
        values |= {"start_seconds": _round_seconds(self.start_seconds), "end_seconds": _round_seconds(self.end_seconds)}
        values["tags"] = [
            tag._replace(probability=round(tag.probability, _PROBABILITY_DIGITS))._asdict() for tag in self.tags
        ]
        return values | ({"lost_seconds": _round_seconds(self.lost_seconds)} if self.lost_seconds else {})


class EventReport(NamedTuple):
    """An event that begins or has ended.

    Attributes:
        name: Name of the class.
        mid: Identifier of the class.
        onset_seconds: Start of the event, in seconds of the stream.
        offset_seconds: End of the event, in seconds of the stream; None while it goes on.
        time: Time of day of the onset, seconds since 1970; None if the stream is not live.
        peak_probability: Maximum probability so far.
        mean_probability: Mean probability so far.
    """

    name: str
    mid: str
    onset_seconds: float
    offset_seconds: float | None
    time: float | None
    peak_probability: float
    mean_probability: float

    @property
    def state(self) -> str:
        """`"begin"` or `"end"`."""
        return "begin" if self.offset_seconds is None else "end"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = {"type": "event", "state": self.state, **_format_time(self.time)}
        values |= {"name": self.name, "mid": self.mid, "onset_seconds": _round_seconds(self.onset_seconds)}
        if self.offset_seconds is not None:
            values["offset_seconds"] = _round_seconds(self.offset_seconds)
        values["peak_probability"] = round(self.peak_probability, _PROBABILITY_DIGITS)
        values["mean_probability"] = round(self.mean_probability, _PROBABILITY_DIGITS)
        return values


def create_result_report(
    result: StreamingResult, labels: LabelSet, classes: Sequence[int], top: int, live: bool
) -> ResultReport:
    """Create the report of a result.

    Args:
        result: Result of the tagger.
        labels: Classes of the tagger.
        classes: Indices of the selected classes.
        top: Maximum number of tags, at least 1.
        live: Whether the stream is live.

    >>> result = StreamingResult(0.0, 1.0, np.array([0.25, 0.5]), np.zeros((0, 2)), 0.0, 0.0, 0.0)
    >>> create_result_report(result, LabelSet.from_names(["Bark", "Rain"]), [0, 1], 1, True).as_dict()["tags"]
    [{'name': 'Rain', 'mid': 'Rain', 'probability': 0.5}]
    """
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
    """Create the report of an event.

    Args:
        event: Event among the selected classes.
        labels: Classes of the tagger.
        classes: Indices of the selected classes.
        started_at: Time of day at second 0 of the stream, seconds since 1970; None if the stream is not live.
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


def _round_seconds(seconds: float) -> float:
    return round(seconds, _SECOND_DIGITS)
