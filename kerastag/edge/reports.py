"""Results and events of a stream -> what is said of them: names, times of day, plain JSON values."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kerastag.edge.streaming import Result
from kerastag.events import Event
from kerastag.labels import LabelSet

__all__ = ["EventReport", "ResultReport", "TagReport", "event_report", "result_report", "time_of_day"]

_DIGITS, _SECOND_DIGITS = 4, 3


class TagReport(NamedTuple):
    """One class and its probability in [0, 1]."""

    name: str
    mid: str
    probability: float


class ResultReport(NamedTuple):
    """What was heard last.

    Attributes:
        start_seconds, end_seconds: The audio that it speaks of, in seconds of the stream.
        time: The end in seconds since 1970; None where the stream is no live one.
        tags: The most probable classes, the first one first.
        probabilities: Of every class that was asked for, in the order of `names`.
        lost_seconds: Audio that went missing since the last result.
    """

    start_seconds: float
    end_seconds: float
    time: float | None
    tags: tuple[TagReport, ...]
    names: tuple[str, ...]
    probabilities: np.ndarray
    lost_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = {"type": "result", **_timed(self.time)}
        values |= {"start_seconds": _rounded(self.start_seconds), "end_seconds": _rounded(self.end_seconds)}
        values["tags"] = [tag._replace(probability=round(tag.probability, _DIGITS))._asdict() for tag in self.tags]
        return values | ({"lost_seconds": _rounded(self.lost_seconds)} if self.lost_seconds else {})


class EventReport(NamedTuple):
    """A sound that begins, or one that has ended.

    Attributes:
        name, mid: The class.
        onset_seconds, offset_seconds: When, in seconds of the stream; no offset while it still sounds.
        time: Of the onset, in seconds since 1970; None where the stream is no live one.
        peak_probability, mean_probability: Over the frames so far.
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
        """Plain JSON values."""
        values: dict[str, Any] = {"type": "event", "state": self.state, **_timed(self.time)}
        values |= {"name": self.name, "mid": self.mid, "onset_seconds": _rounded(self.onset_seconds)}
        if self.offset_seconds is not None:
            values["offset_seconds"] = _rounded(self.offset_seconds)
        values["peak_probability"] = round(self.peak_probability, _DIGITS)
        values["mean_probability"] = round(self.mean_probability, _DIGITS)
        return values


def result_report(result: Result, labels: LabelSet, classes: Sequence[int], top: int, live: bool) -> ResultReport:
    """A result -> what is said of the classes that were asked for, the `top` most probable ones first.

    >>> result = Result(0.0, 1.0, np.array([0.25, 0.5]), np.zeros((0, 2)), 0.0, 0.0, 0.0)
    >>> result_report(result, LabelSet.from_names(["Bark", "Rain"]), [0, 1], 1, True).as_dict()["tags"]
    [{'name': 'Rain', 'mid': 'Rain', 'probability': 0.5}]
    """
    probabilities = result.probabilities[list(classes)]
    order = np.argsort(-probabilities, kind="stable")[:top]
    tags = (TagReport(labels.names[classes[k]], labels.mids[classes[k]], float(probabilities[k])) for k in order)
    return ResultReport(
        result.start_seconds,
        result.end_seconds,
        result.began_at + result.end_seconds if live else None,
        tuple(tags),
        tuple(labels.names[k] for k in classes),
        probabilities,
        result.lost_seconds,
    )


def event_report(event: Event, labels: LabelSet, classes: Sequence[int], began_at: float | None) -> EventReport:
    """An event among the classes that were asked for -> what is said of it; `began_at` is second 0 of the stream."""
    k = classes[event.class_index]
    return EventReport(
        labels.names[k],
        labels.mids[k],
        event.onset_seconds,
        event.offset_seconds,
        None if began_at is None else began_at + event.onset_seconds,
        event.peak_probability,
        event.mean_probability,
    )


def time_of_day(seconds: float) -> str:
    """Seconds since 1970 -> ISO 8601 in UTC, milliseconds included.

    >>> time_of_day(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _timed(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"time": time_of_day(seconds)}


def _rounded(seconds: float) -> float:
    return round(seconds, _SECOND_DIGITS)
