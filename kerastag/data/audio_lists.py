"""Which recordings there are, and what is heard in them: a folder of classes, a CSV, or AudioSet's segment lists."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastag.audio.formats import find_audio_files
from kerastag.labels import LabelSet

__all__ = ["AudioList", "Recording", "read_audio_list", "read_csv", "read_segments", "read_tree"]

_CSV_COLUMNS = ("path", "labels", "fold")
_SEPARATORS = ";|"
_YTID = re.compile(r"^Y?(?P<exact>[\w-]{11})$|^Y?(?P<cut>[\w-]{11})_\d", re.ASCII)


@dataclass(frozen=True)
class Recording:
    """One labeled file.

    Attributes:
        path: of the file.
        name: what it is called in a pack: its path below the folder, as the list has it.
        labels: indices of its classes, at least one.
        fold: which part of a cross-validation it belongs to; empty where nothing says so.
    """

    path: Path
    name: str
    labels: tuple[int, ...]
    fold: str = ""


@dataclass(frozen=True)
class AudioList:
    """Recordings that are there, their classes, and those that are not there.

    Attributes:
        recordings: in the order of the list, or sorted by name.
        labels: the classes.
        missing: names that the list has and the folder has not.
        source: the list or folder, for messages.
    """

    recordings: tuple[Recording, ...]
    labels: LabelSet
    missing: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def targets(self) -> np.ndarray:
        """Labels as bool `(clips, classes)`."""
        targets = np.zeros((len(self), len(self.labels)), bool)
        for row, recording in enumerate(self.recordings):
            targets[row, list(recording.labels)] = True
        return targets


def read_audio_list(
    audio_dir: str | os.PathLike[str],
    list_file: str | os.PathLike[str] | None = None,
    *,
    classes: LabelSet | None = None,
    separator: str | None = None,
) -> AudioList:
    """A folder, and a list where there is one -> its labeled recordings.

    Args:
        audio_dir: without a list, a folder with one folder a class; with one, where its paths begin.
        list_file: a CSV with the columns `path,labels`, or AudioSet's segment list; its content tells which.
        classes: the classes and their order; None takes those that occur, sorted (segment lists: AudioSet's).
        separator: what stands between the labels of a CSV's cell; None takes `;` or `|`.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a faulty line, named; or no recording at all.
    """
    if list_file is None:
        return read_tree(audio_dir, classes=classes)
    if _is_segment_list(_existing(list_file)):
        return read_segments(list_file, audio_dir, classes=classes)
    return read_csv(list_file, audio_dir, classes=classes, separator=separator)


def read_tree(folder: str | os.PathLike[str], *, classes: LabelSet | None = None) -> AudioList:
    """A folder with one folder a class -> its recordings, each with its folder's name as its only label.

    Hidden files and files that are not audio by their extension are passed over.

    Args:
        folder: holds `class/*.ogg` and the like, at any depth below the class.
        classes: the classes and their order; None takes the folders' names, sorted.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: recordings beside the folders, a folder that is none of `classes`, or no recording at all.
    """
    root = _existing_folder(folder)
    files = find_audio_files(root)
    outside = [path for path in files if len(path.parts) == 1]
    if outside:
        raise ValueError(f"{root / outside[0]}: must lie in the folder of its class, or be named by a CSV of labels")
    labels = classes or _labels_of({path.parts[0] for path in files}, str(root))
    recordings = tuple(
        Recording(root / path, path.as_posix(), (_index(labels, path.parts[0], str(root / path)),)) for path in files
    )
    return _checked(AudioList(recordings, labels, (), str(root)))


def read_csv(
    list_file: str | os.PathLike[str],
    audio_dir: str | os.PathLike[str] | None = None,
    *,
    classes: LabelSet | None = None,
    separator: str | None = None,
) -> AudioList:
    """A CSV with the columns `path,labels` (and `fold`, where folds are given) -> its recordings.

    A cell of labels holds names or MIDs with `;` or `|` between them. A name with a comma in it is ambiguous unless
    `classes` knows it or `separator` is given.

    Args:
        list_file: the CSV, in UTF-8, with a header.
        audio_dir: where relative paths begin; None is the folder of the CSV.
        classes: the classes and their order; None takes those that occur, sorted.
        separator: what stands between labels.

    Raises:
        FileNotFoundError: no such CSV or folder.
        ValueError: unknown or missing columns, a path twice, a label twice, empty or unknown, with its line; or no
            recording at all. Files that are not there are listed in `missing`.
    """
    path = _existing(list_file)
    if separator == "":
        raise ValueError("`separator` must be at least one character, received ''")
    root = path.parent if audio_dir is None else _existing_folder(audio_dir)
    rows = list(_csv_rows(path))
    cells = [_cell_labels(row["labels"], f"{path}: line {line}", classes, separator) for line, row in rows]
    labels = classes or _labels_of({name for names in cells for name in names}, str(path))
    seen: dict[Path, int] = {}
    recordings, missing = [], []
    for (line, row), names in zip(rows, cells, strict=True):
        where = f"{path}: line {line}"
        if not row["path"]:
            raise ValueError(f"{where}: column path is empty")
        file = Path(os.path.normpath(root / row["path"]))
        if file in seen:
            raise ValueError(f"{where}: column path repeats line {seen[file]}: {row['path']}")
        seen[file] = line
        indices = tuple(_index(labels, name, where) for name in names)
        if len(set(indices)) < len(indices):
            raise ValueError(f"{where}: column labels names a class twice: {row['labels']!r}")
        if file.is_file():
            recordings.append(Recording(file, row["path"], indices, row.get("fold", "")))
        else:
            missing.append(row["path"])
    return _checked(AudioList(tuple(recordings), labels, tuple(missing), str(path)))


def read_segments(
    list_file: str | os.PathLike[str],
    audio_dir: str | os.PathLike[str],
    *,
    classes: LabelSet | None = None,
) -> AudioList:
    """AudioSet's segment list (`YTID, start, end, MIDs`) over a folder of downloaded clips -> its recordings.

    A clip is the ten seconds of its line, not the whole video, in a file named by its YTID: `YTID.wav`, `YYTID.wav`
    as PANNs has it, or `YTID_30.000_40.000.flac`, at any depth.

    Args:
        list_file: such as `balanced_train_segments.csv`.
        audio_dir: folder of the clips.
        classes: the classes and their order; None takes AudioSet's 527.

    Raises:
        FileNotFoundError: no such list or folder.
        ValueError: a faulty line, an unknown MID, a YTID twice in the list or in the folder; or no recording at all.
            Clips that are not there are listed in `missing`.
    """
    path, root = _existing(list_file), _existing_folder(audio_dir)
    labels = classes or LabelSet.audioset()
    there = _by_ytid(root)
    seen: dict[str, int] = {}
    recordings, missing = [], []
    for line, ytid, mids in _segment_rows(path):
        where = f"{path}: line {line}"
        if ytid in seen:
            raise ValueError(f"{where}: repeats YTID {ytid} of line {seen[ytid]}")
        seen[ytid] = line
        indices = tuple(_index(labels, mid, where) for mid in mids)
        if len(set(indices)) < len(indices):
            raise ValueError(f"{where}: names a class twice: {','.join(mids)!r}")
        if ytid in there:
            recordings.append(Recording(root / there[ytid], there[ytid].as_posix(), indices))
        else:
            missing.append(ytid)
    return _checked(AudioList(tuple(recordings), labels, tuple(missing), str(path)))


def _existing(path: str | os.PathLike[str]) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such list of recordings")
    return Path(path)


def _existing_folder(folder: str | os.PathLike[str]) -> Path:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"`audio_dir`: {folder}: no such folder")
    return Path(folder)


def _by_ytid(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_audio_files(root):
        if (match := _YTID.match(path.stem)) is None:
            continue
        ytid = match["exact"] or match["cut"]
        if ytid in found:
            raise ValueError(f"{root}: two files of YTID {ytid}: {found[ytid]} and {path}")
        found[ytid] = path
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8") from error


def _is_segment_list(path: Path) -> bool:
    """AudioSet's own begin with comments, or with a line of four fields whose second and third are numbers."""
    lines = _lines(path)
    if lines and lines[0].startswith("#"):
        return True
    fields = next(csv.reader(lines[:1], skipinitialspace=True), [])
    return len(fields) == 4 and _is_number(fields[1]) and _is_number(fields[2])


def _segment_rows(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    for line, text in enumerate(_lines(path), start=1):
        if not text.strip() or text.startswith("#"):
            continue
        fields = next(csv.reader([text], skipinitialspace=True))
        if len(fields) != 4 or not _is_number(fields[1]) or not _is_number(fields[2]):
            raise ValueError(f"{path}: line {line}: must be `YTID, start, end, MIDs`, received {text[:80]!r}")
        mids = [mid.strip() for mid in fields[3].split(",")]
        if not fields[0] or not all(mids):
            raise ValueError(f"{path}: line {line}: empty YTID or MID, received {text[:80]!r}")
        yield line, fields[0], mids


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(_lines(path), skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    unknown = [name for name in header if name not in _CSV_COLUMNS]
    absent = [name for name in _CSV_COLUMNS[:2] if name not in header]
    faults = [f"unknown column {name!r}" for name in unknown] + [f"no column {name!r}" for name in absent]
    if len(set(header)) < len(header):
        faults.append("a column twice")
    if faults:
        raise ValueError(
            f"{path}: line 1: columns must be path,labels and perhaps fold; {faults[0]} in {','.join(header)!r}"
        )
    for fields in reader:
        if not fields:
            continue
        if len(fields) != len(header):
            raise ValueError(
                f"{path}: line {reader.line_num}: {len(header)} columns are expected, received {len(fields)}: quote "
                "cells that hold commas"
            )
        yield reader.line_num, dict(zip(header, (field.strip() for field in fields), strict=True))


def _cell_labels(cell: str, where: str, classes: LabelSet | None, separator: str | None) -> list[str]:
    """`dog; rain` -> its labels."""
    if not cell:
        raise ValueError(f"{where}: column labels is empty")
    if classes is not None and cell in {*classes.names, *classes.mids}:
        return [cell]
    names = [name.strip() for name in (cell.split(separator) if separator else re.split(f"[{_SEPARATORS}]", cell))]
    if not all(names):
        raise ValueError(f"{where}: column labels has an empty label: {cell!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: column labels names a class twice: {cell!r}")
    if classes is None and separator is None and any("," in name for name in names):
        raise ValueError(f"{where}: column labels: separate labels by ; or |, or say `separator`: received {cell!r}")
    return names


def _labels_of(names: Iterable[str], where: str) -> LabelSet:
    names = sorted(names)
    if not names:
        raise ValueError(f"{where}: no recording in it")
    return LabelSet.from_names(names)


def _index(labels: LabelSet, name: str, where: str) -> int:
    try:
        return labels.index(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _checked(found: AudioList) -> AudioList:
    if not found.recordings:
        count = len(found.missing)
        lost = f"; {count} that it names are missing, {found.missing[0]} first" if count else ""
        raise ValueError(f"{found.source}: no recording in it{lost}")
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
