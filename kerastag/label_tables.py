"""Tables of the labels of recordings, as data sets, annotation programs and spreadsheets write them.

The first line decides the format and the delimiter: ESC-50, UrbanSound8K, FSD50K, weak and strong labels of DCASE,
AudioSet's segments, selection tables of Raven, label tracks of Audacity, exports of Whombat, or any table with a column
of file names and a column of labels. Text is UTF-8, UTF-16 with a byte order mark, or Windows-1252 with a warning.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kerastag._csv import read_records, read_text
from kerastag.audio.formats import AUDIO_EXTENSIONS
from kerastag.labels import LabelSet

__all__ = ["AUDIOSET_SEGMENTS", "LabelRow", "LabelTable", "RecordingIndex", "read_label_table"]

AUDIOSET_SEGMENTS = "AudioSet segments"
_AUDACITY, _RAVEN, _WHOMBAT = "Audacity label track", "Raven selection table", "Whombat export"
_URBAN_SOUND, _FSD50K, _DCASE_WEAK = "UrbanSound8K", "FSD50K", "DCASE weak labels"
_COLUMNS_OF_FORMAT = {
    _URBAN_SOUND: {"slice_file_name", "fold", "classid", "class"},
    "ESC-50": {"filename", "fold", "target", "category"},
    _FSD50K: {"fname", "labels", "mids"},
    "DCASE strong labels": {"filename", "onset", "offset", "event_label"},
    _DCASE_WEAK: {"filename", "event_labels"},
    _RAVEN: {"selection", "begin time (s)", "end time (s)"},
}
# The first of these names that a header has is the column.
_COLUMNS = {
    "path": "path file_path filepath begin_path filename file_name fname slice_file_name begin_file file audio_file "
    "audio_filename audio_path audio recording wav segment_id",
    "label": "labels label event_labels event_label category class classes class_name species common_name annotation "
    "annotations primary_label tag tags species_code scientific_name type",
    "onset": "onset begin_time start start_time start_seconds start_time_seconds begin",
    "offset": "offset end_time end end_seconds end_time_seconds",
    "negatives": "negatives negative negative_labels not",
    "fold": "fold",
    "file_offset": "file_offset",
}
# Raven's columns without a unit that hold no label.
_RAVEN_COLUMNS = {
    *("selection", "view", "channel", "confidence", "score", "rank", "notes", "comments"),
    *("begin_date", "begin_file", "begin_path", "end_file", "end_path"),
}
_DELIMITERS = "\t,;|"
_MAX_COLUMNS = 1_000
_MAX_HEADER = 65_536  # characters in which the delimiter is looked for
_POINT_SECONDS = 1.0
# Tags that Whombat's exports use for the class, in the order of preference.
_TAG_KEYS = ("class", "label", "event", "sound", "species", "common_name", "scientific_name")


@dataclass(frozen=True)
class LabelRow:
    """Labels of a recording or of a part of it.

    Attributes:
        place: Line or record of the table, for messages.
        recording: Name of the recording; empty in formats that describe one recording without its name.
        labels: Names or identifiers of classes; none where a recording or part has no label.
        onset: Start of the labeled part, seconds; None for the whole recording.
        offset: End of the labeled part, seconds, above `onset`.
        fold: Fold of a cross-validation; may be empty.
        negatives: Names or identifiers of classes that the recording or part does not have.
    """

    place: str
    recording: str
    labels: tuple[str, ...]
    onset: float | None = None
    offset: float | None = None
    fold: str = ""
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class LabelTable:
    """Rows of a table of labels, and the format that was recognized."""

    path: Path
    format: str
    rows: tuple[LabelRow, ...]

    @property
    def has_times(self) -> bool:
        """Whether labels have a start and an end."""
        return any(row.onset is not None for row in self.rows)


class RecordingIndex:
    """Names of recordings, to be looked up by the names in a table.

    Tables name recordings with or without their folders and extension, with backslashes, in another normalization of
    Unicode, or by their absolute path on another computer.

    Args:
        names: Names of the recordings, relative paths.

    >>> RecordingIndex(["dev/1.wav", "dev/2.wav"]).find("2")
    1
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, list[int]] = {}
        for number, name in enumerate(names):
            self._names.append(name)
            parts = _normalize(name).split("/")
            for first in range(len(parts)):
                suffix = "/".join(parts[first:])
                stem, dot, extension = suffix.rpartition(".")
                has_extension = f"{dot}{extension.lower()}" in AUDIO_EXTENSIONS
                for key in (suffix, stem) if has_extension else (suffix,):
                    self._numbers.setdefault(key, []).append(number)
        self._exact = {_normalize(name): number for number, name in enumerate(self._names)}

    def find(self, name: str) -> int | None:
        """Return the number of the recording with this name, or None; several of that name are a ValueError.

        Folders of the computer that wrote the table are ignored in an absolute path, but in no other one.
        """
        name = _normalize(name)
        if name in self._exact:
            return self._exact[name]
        parts = name.split("/")
        is_absolute = name.startswith("/") or re.match("[A-Za-z]:/", name)
        for first in range(len(parts) if is_absolute else 1):
            if numbers := self._numbers.get("/".join(parts[first:])):
                if len(numbers) > 1:
                    names = " and ".join(self._names[number] for number in numbers[:2])
                    raise ValueError(f"{name!r} must be the name of one recording; received: that of {names}")
                return numbers[0]
        return None

    def find_table(self, path: Path) -> int | None:
        """Return the number of the recording that a table without names describes, by the name of the table.

        It is the only recording, or the one with the longest name that the table's begins with: `a.wav` for `a.txt`,
        `a.Table.1.selections.txt` and `a_labels.txt`.
        """
        if len(self._names) == 1:
            return 0
        stem = _normalize(path.name).rpartition(".")[0]
        ends = [match.start() for match in re.finditer(r"[._-]|$", stem)]
        return next((number for end in reversed(ends) if (number := self.find(stem[:end])) is not None), None)


def read_label_table(
    path: str | os.PathLike[str],
    *,
    classes: LabelSet | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
) -> LabelTable:
    r"""Read a table of labels.

    A cell may hold several labels, separated by `;` or `|`. A comma separates labels too if no space follows it, or if
    both parts are classes of their own; otherwise it belongs to the name, as in `Child speech, kid speaking`.

    Args:
        path: Path of the table.
        classes: Classes, whose names may contain separators; None for AudioSet's.
        path_column: Name of the column of file names; None takes the usual names, such as `path` and `filename`.
        label_column: Name of the column of labels, or key of Whombat's tags; None takes the usual names, such as
            `labels` and `category`.
        separator: Text between the labels of a cell.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The text, a column, a row or a time is invalid.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "esc50.csv")
    >>> _ = path.write_text("filename,fold,target,category\n1-100032-A-0.wav,1,0,dog\n")
    >>> table = read_label_table(path)
    >>> table.format, table.rows[0].labels
    ('ESC-50', ('dog',))
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if separator == "":
        raise ValueError("`separator` must be at least one character; received: ''")
    text = read_text(path)
    if text.lstrip()[:1] == "{":
        return LabelTable(path, _WHOMBAT, tuple(_read_whombat(path, text, label_column)))
    first_line = next((line for line in io.StringIO(text, newline="") if line.strip() and line[0] != "#"), "")
    if _split_segment(first_line):
        return LabelTable(path, AUDIOSET_SEGMENTS, tuple(_read_segments(path, text)))
    if re.match(r"\\\t|[\d.,]+\t[\d.,]+(\t|\s*$)", first_line):
        return LabelTable(path, _AUDACITY, tuple(_read_audacity(path, text)))
    return _read_table(path, text, classes, path_column, label_column, separator)


def _read_table(
    path: Path,
    text: str,
    classes: LabelSet | None,
    path_column: str | None,
    label_column: str | None,
    separator: str | None,
) -> LabelTable:
    first_line, delimiter = 1, ""
    if match := re.match(r'"?sep=(.)"?[^\r\n]*(\r\n|\r|\n)', text, re.IGNORECASE):  # Excel takes the delimiter from it.
        text, first_line, delimiter = text[match.end() :], 2, match[1]
    delimiter = delimiter or _choose_delimiter(text, separator)
    records = list(read_records(path, text, delimiter, first_line))
    line, header = records[0] if records else (first_line, [])
    place = f"{path}: line {line}"
    if len(header) > _MAX_COLUMNS:
        raise ValueError(f"{place}: must have at most {_MAX_COLUMNS:,} columns; received: {len(header):,}")
    columns = _find_columns(header)
    for key, name in (("path", path_column), ("label", label_column)):
        if name is not None:
            columns[key] = _find_named_column(header, name, f"`{key}_column`", place)
    table_format = _recognize_format(header)
    if table_format == _RAVEN and "label" not in columns:
        labels = [k for k, name in enumerate(header) if "(" not in name and _simplify(name) not in _RAVEN_COLUMNS]
        columns |= {"label": labels[0]} if len(labels) == 1 else {}
    if not columns and _is_audio_name(header[0] if header else "") and len(header) in (2, 4):
        keys = ("path", "label") if len(header) == 2 else ("path", "onset", "offset", "label")
        columns, table_format = {key: k for k, key in enumerate(keys)}, "table without a header"
        header = list(keys)
    else:
        del records[:1]
    if "label" not in columns or not columns.keys() & {"path", "onset"}:
        expected = "name columns of files and of labels, such as path,labels, or `path_column` and `label_column`"
        raise ValueError(f"{place}: must {expected}; received: {delimiter.join(header)[:80]!r}")
    if table_format == _URBAN_SOUND or not {"onset", "offset"} <= columns.keys():  # UrbanSound8K: those of the original
        columns = {key: k for key, k in columns.items() if key not in ("onset", "offset")}
    rows = [_make_row(path, line, cells, columns, header) for line, cells in records]
    separator_pattern = re.escape(separator) if separator else "[,;|]"
    known_classes = classes or LabelSet.audioset()
    known = {*known_classes.names, *known_classes.mids}
    known |= {row.labels[0] for row in rows if not re.search(separator_pattern, row.labels[0])}
    has_commas = table_format in (_FSD50K, _DCASE_WEAK)

    def split(cell: str, row: LabelRow) -> tuple[str, ...]:
        return _split_cell(cell, f"{path}: {row.place}", known, separator, has_commas)

    split_rows = tuple(
        replace(row, labels=split(row.labels[0], row), negatives=split("".join(row.negatives), row)) for row in rows
    )
    names = " and ".join(header[columns[key]] for key in ("path", "label") if key in columns)
    return LabelTable(path, table_format or f"table with the columns {names}", split_rows)


def _choose_delimiter(text: str, separator: str | None) -> str:
    """Choose the delimiter that gives the first line the most columns with a known name, or simply the most columns."""
    line = next((line for line in io.StringIO(text, newline="") if line.strip()), "")[:_MAX_HEADER].rstrip("\r\n")
    candidates = _DELIMITERS + (separator if separator and len(separator) == 1 and separator not in _DELIMITERS else "")

    def rate(delimiter: str) -> tuple[int, bool, int]:
        try:
            cells = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:  # reading the table gives the message
            return 0, False, 0
        return len(_find_columns(cells)), _is_audio_name(cells[0] if cells else ""), len(cells)

    return max(candidates, key=rate)


def _find_columns(header: Sequence[str]) -> dict[str, int]:
    simplified: dict[str, int] = {}
    for k, name in enumerate(header):
        simplified.setdefault(_simplify(name), k)
    matches = {key: [name for name in names.split() if name in simplified] for key, names in _COLUMNS.items()}
    return {key: simplified[names[0]] for key, names in matches.items() if names}


def _simplify(name: str) -> str:
    """Return the name of a column without case, spaces, and the unit of seconds."""
    name = re.sub(r"\s*\((s|sec|seconds)\)$", "", name.strip().casefold())
    return re.sub(r"[\s-]+", "_", name)


def _find_named_column(header: Sequence[str], name: str, option: str, place: str) -> int:
    for k, column in enumerate(header):
        if column.casefold() == name.strip().casefold():
            return k
    raise ValueError(f"{place}: {option} must be one of {', '.join(header)[:200]}; received: {name!r}")


def _recognize_format(header: Sequence[str]) -> str:
    names = {" ".join(name.casefold().split()) for name in header}
    return next((name for name, columns in _COLUMNS_OF_FORMAT.items() if columns <= names), "")


def _is_audio_name(name: str) -> bool:
    return Path(name).suffix.lower() in AUDIO_EXTENSIONS


def _make_row(
    path: Path, line: int, cells: Sequence[str], columns: Mapping[str, int], header: Sequence[str]
) -> LabelRow:
    """Make a row with its cell of labels as the only label."""
    place = f"line {line}"
    if any(cells[len(header) :]):
        raise ValueError(
            f"{path}: {place}: must have {len(header)} columns; received: {len(cells)}; quote cells that hold commas"
        )
    values = {key: cells[k] if k < len(cells) else "" for key, k in columns.items()}
    if values.get("path") == "":
        raise ValueError(f"{path}: {place}: column {header[columns['path']]} is empty")
    negatives = values.get("negatives", "")
    if values["label"] == negatives == "" and "onset" not in columns:
        raise ValueError(f"{path}: {place}: column {header[columns['label']]} is empty")
    row = LabelRow(
        place, values.get("path", ""), (values["label"],), fold=values.get("fold", ""), negatives=(negatives,)
    )
    if not values.get("onset") and not values.get("offset"):
        return row
    onset, offset = parse_times(values["onset"], values["offset"], f"{path}: {place}")
    if values.get("file_offset"):  # Raven counts seconds from the start of the first of several files.
        start = parse_seconds(values["file_offset"], f"{path}: {place}")
        onset, offset = start, start + offset - onset
    return replace(row, onset=onset, offset=offset)


def parse_times(onset: str, offset: str, place: str) -> tuple[float, float]:
    """Parse a start and an end, seconds, with a decimal point or comma; a ValueError begins with `place`."""
    start, end = parse_seconds(onset, place), parse_seconds(offset, place)
    if not 0 <= start < end < math.inf:
        received = f"{onset[:40]!r} and {offset[:40]!r}"
        raise ValueError(f"{place}: onset must be at least 0 and offset above onset; received: {received}")
    return start, end


def parse_seconds(text: str, place: str) -> float:
    """Parse seconds, with a decimal point or comma; a ValueError begins with `place`."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{place}: onset and offset must be seconds; received: {text[:40]!r}") from None


def _split_cell(cell: str, place: str, known: set[str], separator: str | None, has_commas: bool) -> tuple[str, ...]:
    """Split a cell into its labels; `has_commas` is whether a comma with a space after it separates labels too."""
    if not cell or cell in known:
        return (cell,) if cell else ()
    if separator:
        parts = cell.split(separator)
    elif re.search("[;|]", cell):
        parts = re.split("[;|]", cell)
    else:
        parts = []
        for part in re.split(r",(?!\s)", cell):
            names = [name.strip() for name in part.split(",")]
            is_list = has_commas or all(name in known for name in names)
            parts += names if is_list and part not in known else [part]
    names = [part.strip() for part in parts]
    if not all(names):
        raise ValueError(f"{place}: labels must not be empty; received: {cell[:80]!r}")
    return tuple(dict.fromkeys(names))


def _read_segments(path: Path, text: str) -> Iterator[LabelRow]:
    """Read AudioSet's segments, `YTID, start, end, MIDs`; the times are those of the video that the clip is from."""
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        if not (fields := _split_segment(content)):
            raise ValueError(f"{path}: line {line}: must be `YTID, start, end, MIDs`; received: {content[:80]!r}")
        mids = [mid.strip() for mid in fields[3].split(",")]
        if not fields[0] or not all(mids):
            raise ValueError(f"{path}: line {line}: YTID and MIDs must not be empty; received: {content[:80]!r}")
        yield LabelRow(f"line {line}", fields[0], tuple(mids))


def _split_segment(text: str) -> list[str]:
    """Split `YTID, start, end, MIDs` into its fields, or return none."""
    try:
        fields = next(csv.reader([text.strip()], skipinitialspace=True), [])
        list(map(float, fields[1:3]))
    except (ValueError, csv.Error):
        return []
    return fields if len(fields) == 4 else []


def _read_audacity(path: Path, text: str) -> Iterator[LabelRow]:
    for line, cells in read_records(path, text, "\t", quoting=csv.QUOTE_NONE):
        if cells[0] == "\\":  # the frequencies of the label before
            continue
        place = f"{path}: line {line}"
        onset, offset, label = (*cells, "", "", "")[:3]
        if onset == offset:  # A point stands for the second around it.
            start, end = _widen_point(parse_seconds(onset, place))
        else:
            start, end = parse_times(onset, offset, place)
        names = [name.strip() for name in re.split("[;|]", label) if name.strip()]
        yield LabelRow(f"line {line}", "", tuple(dict.fromkeys(names)), start, end)


def _read_whombat(path: Path, text: str, tag_key: str | None) -> list[LabelRow]:
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
    return _widen_point(times[0]) if min(times) == max(times) else (min(times), max(times))


def _widen_point(seconds: float) -> tuple[float, float]:
    return max(0.0, seconds - _POINT_SECONDS / 2), seconds + _POINT_SECONDS / 2


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flatten(item)
    else:
        yield value


def _normalize(name: str) -> str:
    return re.sub(r"^(\./)+", "", unicodedata.normalize("NFC", name.replace("\\", "/")))
