"""Formats of tagged recordings: tables, JSON, CSV, and those of the annotation programs Raven and Audacity."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from kerastag.files import format_csv
from kerastag.tagger.results import Tag
from kerastag.tagger.tagged_recording import FrameFile, TaggedEvent, TaggedRecording

__all__ = ["FORMATS", "OutputFormat"]

_NUM_BARS = 60
_BARS = " ▁▂▃▄▅▆▇█"
_ASCII_BARS = " .:-=+*#@"
_RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Begin Path", "Species", "Score"),
)


@dataclass(frozen=True)
class OutputFormat:
    """A format of tagged recordings.

    Args:
        extension: Extension of the file of one recording.
        format: Function that returns the text of one recording in parts. Its arguments are the recording, the highest
            frequency of the model in Hz, and whether characters other than ASCII can be written.
        header: Function that returns the first line, from whether there are events and a timeline.
        opening, separator, closing: Text before, between and after several recordings.
        has_timeline: Whether the format has room for probabilities over time.
        is_of_one_recording: Whether the format describes a single recording.
    """

    extension: str
    format: Callable[[TaggedRecording, float, bool], Iterable[str]]
    header: Callable[[bool, bool], str] = lambda events, timeline: ""
    opening: str = ""
    separator: str = ""
    closing: str = ""
    has_timeline: bool = True
    is_of_one_recording: bool = False


def _format_as_table(recording: TaggedRecording, max_hz: float, unicode: bool) -> Iterator[str]:
    """Format the name of a recording and a line for each event or tag, with its probabilities over time as bars."""
    time = recording.format_time()
    details = [f"{recording.duration_seconds:.2f} s"] if recording.frames or recording.events is not None else []
    details += [f"from {time}"] if time else []
    yield recording.name + (f"  ({', '.join(details)})" if details else "") + "\n"
    for event in recording.events or ():
        times = f"{event.onset_seconds:9.2f} {event.offset_seconds:9.2f}"
        yield f"  {times}  {event.tag.probability:.3f}  {event.tag.name}\n"
    if recording.events is not None and not recording.frames:
        if not recording.events:
            yield "  no event\n"
        return
    width = max((len(tag.name) for tag in recording.tags), default=0) if recording.frames else 0
    for tag in recording.tags:
        bars = f"  |{_draw_bars(recording, recording.frames, tag, unicode)}|" if recording.frames else ""
        yield f"  {tag.probability:.3f}  {tag.name:{width}}{bars}\n"
    if not recording.tags:
        yield "  nothing above the threshold\n"


def _draw_bars(recording: TaggedRecording, frames: FrameFile, tag: Tag, unicode: bool) -> str:
    """Draw probabilities as characters of rising height, each for the maximum of its frames."""
    maxima, first = np.zeros(min(frames.num_frames, _NUM_BARS)), 0
    for block in frames.read_blocks([recording.frame_mids.index(tag.mid)]):
        positions = (np.arange(first, first + len(block)) * len(maxima)) // frames.num_frames
        np.maximum.at(maxima, positions, block[:, 0])
        first += len(block)
    bars = _BARS if unicode else _ASCII_BARS
    return "".join(bars[round(float(maximum) * (len(bars) - 1))] for maximum in maxima)


def _format_as_json(recording: TaggedRecording, max_hz: float, unicode: bool) -> Iterator[str]:
    values: dict[str, Any] = {"file": recording.name, "tags": [_round(tag)._asdict() for tag in recording.tags]}
    values["duration_seconds"] = round(recording.duration_seconds, 4)
    if time := recording.format_time():
        values["time"] = time
    if recording.events is not None:
        values["events"] = [_describe_event(recording, event) for event in recording.events]
    text = json.dumps(values, ensure_ascii=not unicode)
    if recording.frames is None:
        yield text
        return
    seconds = (round(k * recording.seconds_per_frame, 4) for k in range(recording.frames.num_frames))
    yield text[:-1] + ', "seconds": ['
    yield from _join(map(str, seconds))
    yield '], "timeline": {'
    for number, tag in enumerate(recording.tags):
        yield (", " if number else "") + json.dumps(tag.name, ensure_ascii=not unicode) + ": ["
        yield from _join(str(value) for (value,) in _read_rows(recording, [tag]))
        yield "]"
    yield "}}"


def _format_as_json_line(recording: TaggedRecording, max_hz: float, unicode: bool) -> Iterator[str]:
    return chain(_format_as_json(recording, max_hz, unicode), ["\n"])


def _format_as_csv(recording: TaggedRecording, max_hz: float, unicode: bool) -> Iterator[str]:
    """Format one row per tag, event, or output frame and tag; a recording without any has one row."""
    name, has_rows = recording.name, False
    for row in _list_csv_rows(recording):
        has_rows = True
        yield format_csv([[name, *row]])
    if not has_rows:
        if recording.events is not None:
            yield format_csv([[name, "", "", "", "", "", ""]])
        else:
            yield format_csv([[name, *([""] if recording.frames else []), "", "", "", recording.format_time()]])


def _list_csv_rows(recording: TaggedRecording) -> Iterator[list[Any]]:
    if recording.events is not None:
        for event in recording.events:
            row = _describe_event(recording, event)
            times = [row["start_seconds"], row["end_seconds"]]
            yield [*times, row["mid"], row["name"], row["probability"], row.get("time", "")]
    elif recording.frames is None:
        for tag in map(_round, recording.tags):
            yield [tag.mid, tag.name, tag.probability, recording.format_time()]
    else:
        for frame, values in enumerate(_read_rows(recording, recording.tags)):
            seconds = round(frame * recording.seconds_per_frame, 4)
            for tag, value in zip(recording.tags, values, strict=True):
                yield [seconds, tag.mid, tag.name, value, recording.format_time(seconds)]


def _create_csv_header(events: bool, timeline: bool) -> str:
    positions = ["start_seconds", "end_seconds"] if events else ["seconds"] if timeline else []
    return format_csv([["file", *positions, "mid", "name", "probability", "time"]])


def _format_as_raven(recording: TaggedRecording, max_hz: float, unicode: bool) -> Iterator[str]:
    """Format a selection table; without events, a selection is the whole recording."""
    for number, event in enumerate(_list_events(recording), 1):
        times = [f"{event.onset_seconds:.4f}", f"{event.offset_seconds:.4f}", "0", f"{max_hz:g}"]
        score = round(event.tag.probability, 6)
        row = [number, "Spectrogram 1", 1, *times, recording.name, event.tag.name, score]
        yield format_csv([row], delimiter="\t")


def _format_as_audacity(recording: TaggedRecording, max_hz: float, unicode: bool) -> Iterator[str]:
    """Format a label track; without events, a label is the whole recording."""
    for event in _list_events(recording):
        yield f"{event.onset_seconds:.6f}\t{event.offset_seconds:.6f}\t{event.tag.name}\n"


FORMATS = {
    "table": OutputFormat(".txt", _format_as_table),
    "json": OutputFormat(".json", _format_as_json, opening="[\n", separator=",\n", closing="\n]\n"),
    "jsonl": OutputFormat(".jsonl", _format_as_json_line),
    "csv": OutputFormat(".csv", _format_as_csv, header=_create_csv_header),
    "raven": OutputFormat(
        ".selections.txt",
        _format_as_raven,
        header=lambda events, timeline: format_csv([_RAVEN_COLUMNS], delimiter="\t"),
        has_timeline=False,
        is_of_one_recording=True,
    ),
    "audacity": OutputFormat(".labels.txt", _format_as_audacity, has_timeline=False, is_of_one_recording=True),
}
"""Formats by name."""


def _list_events(recording: TaggedRecording) -> list[TaggedEvent]:
    if recording.events is not None:
        return recording.events
    return [TaggedEvent(0.0, recording.duration_seconds, tag) for tag in recording.tags]


def _describe_event(recording: TaggedRecording, event: TaggedEvent) -> dict[str, Any]:
    times: dict[str, Any] = {
        "start_seconds": round(event.onset_seconds, 4),
        "end_seconds": round(event.offset_seconds, 4),
    }
    time = recording.format_time(event.onset_seconds)
    return {**times, **({"time": time} if time else {}), **_round(event.tag)._asdict()}


def _read_rows(recording: TaggedRecording, tags: list[Tag]) -> Iterator[list[float]]:
    """Read the probabilities of some tags frame by frame."""
    assert recording.frames is not None  # for the type checker: callers have checked it
    for block in recording.frames.read_blocks([recording.frame_mids.index(tag.mid) for tag in tags]):
        for row in block.tolist():
            yield [round(value, 6) for value in row]


def _join(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield (", " if number else "") + text


def _round(tag: Tag) -> Tag:
    return tag._replace(probability=round(tag.probability, 6))
