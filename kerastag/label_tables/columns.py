"""Tables with a header, or with the name of a recording at the start of each line."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kerastag._csv import read_records
from kerastag.audio.formats import AUDIO_EXTENSIONS
from kerastag.label_tables.rows import LabelRow, LabelTable, parse_seconds, parse_times
from kerastag.labels import LabelSet

_RAVEN = "Raven selection table"
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


def read_columns(
    path: Path,
    text: str,
    classes: LabelSet | None,
    path_column: str | None,
    label_column: str | None,
    separator: str | None,
) -> LabelTable:
    """Read a table with a column of labels; the arguments are those of `read_label_table`."""
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
