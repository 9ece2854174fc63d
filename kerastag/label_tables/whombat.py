"""Exports of Whombat."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kerastag.label_tables.rows import LabelRow, parse_times, widen_point

# Tags that are used for the class, in the order of preference.
_TAG_KEYS = ("class", "label", "event", "sound", "species", "common_name", "scientific_name")


def read_whombat(path: Path, text: str, tag_key: str | None) -> list[LabelRow]:
    """Read labels of sound events; those of clips where no event has one; those of recordings where no clip has one."""
    place = "the file"
    try:
        data = _parse_json(text)["data"]
        tags = {tag["id"]: (str(tag["key"]), str(tag["value"])) for tag in data.get("tags") or ()}
        recordings = {item["uuid"]: item for item in data["recordings"]}
        clips = {item["uuid"]: item for item in data.get("clips") or ()}
        events = {item["uuid"]: item for item in data.get("sound_events") or ()}
        for kind in ("sound_event_annotations", "clip_annotations", "recordings"):
            items = [(i, item) for i, item in enumerate(data.get(kind) or ()) if item.get("tags")]
            if items:
                break
        key = tag_key or _choose_tag_key(
            [tags.get(tag, ("", ""))[0] for _, item in items for tag in item["tags"]], path
        )
        rows = []
        for number, item in items:
            place = f"{kind} {number}"
            labels = tuple(dict.fromkeys(tags[tag][1] for tag in item["tags"] if tags[tag][0] == key))
            if kind == "recordings":
                recording, times = item, None
            elif kind == "clip_annotations":
                clip = clips[item["clip"]]
                recording, times = recordings[clip["recording"]], (clip["start_time"], clip["end_time"])
            else:
                event = events[item["sound_event"]]
                recording, times = recordings[event["recording"]], _get_time_bounds(event["geometry"])
            row = LabelRow(place, str(recording["path"]), labels)
            if times is not None:
                expansion = recording.get("time_expansion") or 1.0  # The file is slower by this factor.
                start, end = parse_times(str(times[0] * expansion), str(times[1] * expansion), f"{path}: {place}")
                row = replace(row, onset=start, offset=end)
            rows.append(row)
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:80]}"
        raise ValueError(f"{path}: {place}: must be an export of Whombat; received: {reason}") from error
    return rows


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:  # also of an integer of thousands of digits
        raise TypeError(error) from error


def _choose_tag_key(keys: Sequence[str], path: Path) -> str:
    names = list(dict.fromkeys(keys))
    if len(names) == 1:
        return names[0]
    for name in _TAG_KEYS:
        if name in names:
            return name
    raise ValueError(f"{path}: `label_column` must be the key of the tags of a class, one of {', '.join(names)[:200]}")


def _get_time_bounds(geometry: Mapping[str, Any]) -> tuple[float, float]:
    """Return the start and the end of a geometry, whose points are pairs of time and frequency."""
    numbers = list(_flatten(geometry["coordinates"]))
    times = numbers if geometry["type"] in ("TimeStamp", "TimeInterval") else numbers[::2]
    return widen_point(times[0]) if min(times) == max(times) else (min(times), max(times))


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flatten(item)
    else:
        yield value
