"""List labeled recordings: from a folder per class, from tables of labels, or from AudioSet's segment lists."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import NamedTuple, get_args

import numpy as np

from kerastag import audio
from kerastag.audio.formats import find_audio_files, resolve_listed_path
from kerastag.data.audio_lists import AudioList, Excerpts, Recording
from kerastag.label_tables import AUDIOSET_SEGMENTS, LabelRow, LabelTable, RecordingIndex, read_label_table
from kerastag.labels import LabelSet

_TABLE_EXTENSIONS = (".csv", ".json", ".tsv", ".txt")
_YTID = re.compile(r"^Y?(?P<exact>[\w-]{11})$|^Y?(?P<cut>[\w-]{11})_\d", re.ASCII)
_MIN_OVERLAP = 0.1  # share of the shorter one of two labeled parts
_NEGATIVE = re.compile(r"[-!](?=\S)")  # begins a label such as "-Dog": there is no dog in the recording


def read_audio_list(
    audio_dir: str | os.PathLike[str],
    list_file: str | os.PathLike[str] | None = None,
    *,
    classes: LabelSet | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
    excerpts: Excerpts = "cut",
    allow_negatives: bool = False,
) -> AudioList:
    """List the labeled recordings of a folder.

    A list is a table with a column of file names and one of labels, perhaps with a column `fold`, or a table of ESC-50,
    UrbanSound8K, FSD50K, DCASE, AudioSet, Raven, Audacity or Whombat. The labels of several rows of a recording are
    combined. A file is looked for by its path below the folder, and then by its name at any depth; absolute paths and
    `..` can lead to files outside of the folder. A table that names no recording, such as a label track, belongs to the
    recording that it is named after; without one, its times are counted through all recordings in order of name, as
    Raven does for a folder.

    Clips of AudioSet's segment lists are files with the ten seconds of their line, not the whole video, and are named
    after their YTID: `YTID.wav`, `YYTID.wav` as in PANNs, or `YTID_30.000_40.000.flac`.

    Args:
        audio_dir: Folder with one folder per class, or base of the paths in `list_file`.
        list_file: Table of labels, or a folder with one table for each recording; None takes the names of folders.
        classes: Classes and their order; None takes those that occur, sorted, and AudioSet's for a segment list.
        path_column: Name of the column of file names; None takes the usual names, such as `path` and `filename`.
        label_column: Name of the column of labels, or key of Whombat's tags; None takes the usual names.
        separator: Text between the labels in a cell of a table; None takes `;`, `|` and commas that are not in a name.
        excerpts: What labels with a start and an end make of a recording: each labeled part becomes a clip of its own
            (`cut`), the recording is silenced outside of its labeled parts (`mask`), or it stays `whole`.
        allow_negatives: Whether a folder or label that begins with `-` or `!`, or a label in a column `negatives` or
            `not`, is that of a class that is not in the recording. Otherwise such columns are ignored.

    Returns:
        Recordings whose files exist, and the names of those whose files do not.

    Raises:
        FileNotFoundError: The folder or the list does not exist.
        ValueError: A line is invalid, a label is unknown, or there is no recording, or none of a class.

    >>> import tempfile
    >>> from kerastag.data import read_audio_list
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (folder / name).mkdir()
    ...     (folder / name / "a.wav").touch()
    >>> read_audio_list(folder).labels.names
    ('cat', 'dog')
    """
    if list_file is not None and not Path(list_file).exists():
        raise FileNotFoundError(f"{list_file}: no such file")
    if not Path(audio_dir).is_dir():
        raise FileNotFoundError(f"`audio_dir`: {audio_dir}: no such folder")
    if excerpts not in get_args(Excerpts):
        raise ValueError(f"`excerpts` must be one of {', '.join(get_args(Excerpts))}; received: {excerpts!r}")
    root = Path(os.path.normpath(audio_dir))
    if list_file is None:
        return read_class_folders(root, classes, allow_negatives)
    list_path = Path(list_file)
    paths = [list_path]
    if list_path.is_dir():
        paths = sorted(path for path in list_path.iterdir() if path.suffix.lower() in _TABLE_EXTENSIONS)
    tables = [
        read_label_table(path, classes=classes, path_column=path_column, label_column=label_column, separator=separator)
        for path in paths
    ]
    if len(tables) == 1 and tables[0].format == AUDIOSET_SEGMENTS:
        return _read_segment_list(tables[0], root, classes or LabelSet.audioset())
    separate = _separate_negatives if allow_negatives else lambda row: replace(row, negatives=())
    tables = [replace(table, rows=tuple(map(separate, table.rows))) for table in tables]
    return _read_tables(list_path, tables, root, classes, excerpts)


def read_class_folders(root: Path, classes: LabelSet | None = None, allow_negatives: bool = False) -> AudioList:
    """List the recordings in one folder per class, at any depth; the name of the folder is their only label."""
    files = find_audio_files(root)
    outside = [path for path in files if len(path.parts) == 1]
    if outside:
        raise ValueError(f"{root / outside[0]}: must be in the folder of its class, or in a table of labels")
    rows = [LabelRow("", path.as_posix(), path.parts[:1]) for path in files]
    if allow_negatives:
        rows = [_separate_negatives(row) for row in rows]
    labels = classes or _sort_labels({name for row in rows for name in row.labels}, root)
    recordings = []
    for path, row in zip(files, rows, strict=True):
        indices, negatives = (_find_indices(labels, names, str(root / path)) for names in (row.labels, row.negatives))
        recordings.append(Recording(root / path, path.as_posix(), indices, negatives=negatives))
    return _make_list(recordings, labels, (), root)


class _Files:
    """The audio files below a folder, by the names that tables give them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def names(self) -> list[str]:
        with warnings.catch_warnings():  # A list names what it needs; other files do not matter.
            warnings.simplefilter("ignore", audio.AudioWarning)
            return [path.as_posix() for path in find_audio_files(self.root)]

    @cached_property
    def _index(self) -> RecordingIndex:
        folder = self.root.resolve().name  # Tables of a folder `audio` may name `audio/a.wav`.
        return RecordingIndex(f"{folder}/{name}" for name in self.names)

    def find(self, name: str) -> Path | None:
        path = resolve_listed_path(self.root, name)
        if path.is_file():
            return path
        number = self._index.find(name)
        return None if number is None else self.root / self.names[number]

    def find_all(self, table: LabelTable, is_only_table: bool) -> Iterator[tuple[LabelRow, Path | None]]:
        """Yield each row with its file, None if it does not exist."""
        if all(row.recording for row in table.rows):
            paths: dict[str, Path | None] = {}
            for row in table.rows:
                if row.recording not in paths:
                    try:
                        paths[row.recording] = self.find(row.recording)
                    except ValueError as error:
                        raise ValueError(f"{table.path}: {row.place}: {error}") from None
                yield row, paths[row.recording]
        elif (number := self._index.find_table(table.path)) is not None or not is_only_table:
            path = None if number is None else self.root / self.names[number]
            yield from ((replace(row, recording=table.path.name), path) for row in table.rows)
        else:
            yield from self._find_in_sequence(table)

    def _find_in_sequence(self, table: LabelTable) -> Iterator[tuple[LabelRow, Path]]:
        """Yield each row with its file, where times are counted through all files in order of name."""
        message = f"{table.path}: names no recording: times are counted through those of {self.root} in order of name"
        warnings.warn(message, audio.AudioWarning, stacklevel=2)
        start = end = 0.0
        path, names = self.root, iter(self.names)
        for row in sorted(table.rows, key=lambda row: row.onset or 0.0):
            onset, offset = row.onset or 0.0, row.offset or 0.0
            while onset >= end:
                if (name := next(names, None)) is None:
                    expected = f"must begin before the end of {len(self.names)} recordings, {end:.3f} s"
                    raise ValueError(f"{table.path}: {row.place}: {expected}; received: {onset:.3f} s")
                path, start = self.root / name, end
                end += sum(map(len, audio.read_blocks(path, audio.MIN_SAMPLE_RATE))) / audio.MIN_SAMPLE_RATE
            yield replace(row, onset=onset - start, offset=min(offset, end) - start), path


def _read_tables(
    source: Path, tables: Sequence[LabelTable], root: Path, classes: LabelSet | None, excerpts: Excerpts
) -> AudioList:
    files = _Files(root)
    rows_of_file: dict[Path, list[tuple[LabelRow, str]]] = {}
    missing: dict[str, None] = {}
    for table in tables:
        for row, path in files.find_all(table, is_only_table=len(tables) == 1):
            if path is None:
                missing[row.recording] = None
            else:
                rows_of_file.setdefault(path, []).append((row, f"{table.path}: {row.place}"))
    labels = classes or _sort_labels({name for table in tables for row in table.rows for name in row.labels}, source)
    recordings: list[Recording] = []
    num_unlabeled = 0
    for path, rows in rows_of_file.items():
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else rows[0][0].recording
        recording = Recording(path, name, (), _find_fold(rows))
        labeled_rows = [
            _LabeledRow(
                row,
                _find_indices(labels, row.labels, place),
                _find_indices(labels, row.negatives, f"{place}: negative"),
            )
            for row, place in rows
            if row.labels or row.negatives
        ]
        recordings += _make_recordings(recording, labeled_rows, excerpts)
        num_unlabeled += not labeled_rows
    if recordings and classes is None:
        _check_classes(recordings, labels, missing, source)
    table_format = " and ".join(dict.fromkeys(table.format for table in tables))
    return _make_list(recordings, labels, tuple(missing), source, table_format, num_unlabeled)


def _find_fold(rows: Sequence[tuple[LabelRow, str]]) -> str:
    for row, place in rows:
        if row.fold != rows[0][0].fold:
            raise ValueError(f"{place}: fold must be {rows[0][0].fold!r} as before; received: {row.fold!r}")
    return rows[0][0].fold


class _LabeledRow(NamedTuple):
    """A row of a table and the indices of its classes."""

    row: LabelRow
    labels: tuple[int, ...]
    negatives: tuple[int, ...]


def _separate_negatives(row: LabelRow) -> LabelRow:
    """Take the labels of a row that begin with `-` or `!` as negative labels.

    >>> _separate_negatives(LabelRow("line 2", "a.wav", ("Dog", "-Cat"))).negatives
    ('Cat',)
    """
    labels = tuple(name for name in row.labels if not _NEGATIVE.match(name))
    negatives = (*row.negatives, *(name[1:] for name in row.labels if _NEGATIVE.match(name)))
    if both := set(labels) & set(negatives):
        raise ValueError(f"{row.recording}: {row.place}: must not be labeled {min(both)!r} and not {min(both)!r}")
    return replace(row, labels=labels, negatives=negatives)


def _merge_labels(recording: Recording, rows: Iterable[_LabeledRow]) -> Recording:
    """Return a recording with the labels of rows; a class that any of them has is not negative."""
    rows = list(rows)
    labels = tuple(dict.fromkeys(index for row in rows for index in row.labels))
    negatives = dict.fromkeys(index for row in rows for index in row.negatives)
    return replace(recording, labels=labels, negatives=tuple(index for index in negatives if index not in labels))


def _make_recordings(recording: Recording, rows: Sequence[_LabeledRow], excerpts: Excerpts) -> Iterator[Recording]:
    """Make the clips of a recording from its rows."""
    if not rows:
        return
    whole = _merge_labels(recording, rows)
    timed = [row for row in rows if row.row.onset is not None and row.row.offset]
    if excerpts == "whole" or len(timed) < len(rows):
        yield whole
    onsets, offsets = (np.array([getattr(row.row, key) for row in timed], float) for key in ("onset", "offset"))
    spans = sorted(set(zip(onsets.tolist(), offsets.tolist(), strict=True)))
    if excerpts == "mask" and len(timed) == len(rows):
        yield replace(whole, labeled_parts=tuple(spans))
    if excerpts != "cut":
        return
    name = PurePosixPath(recording.name)
    for start, end in spans:
        overlaps = np.minimum(offsets, end) - np.maximum(onsets, start)
        rows_in_part = np.flatnonzero(overlaps >= _MIN_OVERLAP * np.minimum(offsets - onsets, end - start))
        yield replace(
            _merge_labels(recording, (timed[row] for row in rows_in_part)),
            name=str(name.with_name(f"{name.stem}_{start:.3f}_{end:.3f}{name.suffix}")),
            start_seconds=start,
            end_seconds=end,
        )


def _check_classes(recordings: Sequence[Recording], labels: LabelSet, missing: Iterable[str], source: Path) -> None:
    """Raise a ValueError that names the classes of which no file exists."""
    present = {index for recording in recordings for index in recording.labels}
    if absent := [name for k, name in enumerate(labels.names) if k not in present]:
        names, files = ", ".join(map(repr, absent[:5])), list(missing)
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        received = f"none of {names}{more}; of the list, {len(files)} files do not exist, first {files[0]}"
        raise ValueError(f"{source}: every class must have a recording; received: {received}")


def _read_segment_list(table: LabelTable, root: Path, labels: LabelSet) -> AudioList:
    """List the downloaded clips of a segment list, whose files are named after their YTIDs, at any depth."""
    files: dict[str, Path] = {}
    for file in find_audio_files(root):
        if (match := _YTID.match(file.stem)) is not None:
            ytid = match["exact"] or match["cut"]
            if ytid in files:
                raise ValueError(f"{root}: two files of YTID {ytid}: {files[ytid]} and {file}")
            files[ytid] = file
    place_of_ytid: dict[str, str] = {}
    recordings, missing = [], []
    for row in table.rows:
        ytid, place = row.recording, f"{table.path}: {row.place}"
        if ytid in place_of_ytid:
            raise ValueError(f"{place}: repeats YTID {ytid} of {place_of_ytid[ytid]}")
        place_of_ytid[ytid] = row.place
        indices = _find_indices(labels, row.labels, place)
        if ytid in files:
            recordings.append(Recording(root / files[ytid], files[ytid].as_posix(), indices))
        else:
            missing.append(ytid)
    return _make_list(recordings, labels, missing, table.path, table.format)


def _sort_labels(names: Iterable[str], source: Path) -> LabelSet:
    names = sorted(names)
    if not names:
        raise ValueError(f"{source}: no recording in it")
    try:
        return LabelSet.from_names(names)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _find_indices(labels: LabelSet, names: Sequence[str], where: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(map(labels.index, names)))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _make_list(
    recordings: Sequence[Recording],
    labels: LabelSet,
    missing: Sequence[str],
    source: Path,
    table_format: str = "",
    num_unlabeled: int = 0,
) -> AudioList:
    if not recordings:
        absent = f"; {len(missing)} files do not exist, first {missing[0]}" if missing else ""
        raise ValueError(f"{source}: no recording in it{absent}")
    return AudioList(tuple(recordings), labels, tuple(missing), str(source), table_format, num_unlabeled)
