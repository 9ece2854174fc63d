"""List labeled recordings: from a folder per class, a CSV file, or AudioSet's segment lists."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastag.audio.formats import find_audio_files
from kerastag.labels import LabelSet

_CSV_COLUMNS = ("path", "labels", "fold")
_YTID = re.compile(r"^Y?(?P<exact>[\w-]{11})$|^Y?(?P<cut>[\w-]{11})_\d", re.ASCII)


@dataclass(frozen=True)
class Recording:
    """A labeled audio file.

    Attributes:
        path: Path of the file.
        name: Name in a pack: the path below the folder, as it stands in the list.
        labels: Indices of its classes, at least one.
        fold: Fold of a cross-validation; empty if the list has none.
    """

    path: Path
    name: str
    labels: tuple[int, ...]
    fold: str = ""


@dataclass(frozen=True)
class AudioList:
    """Labeled recordings and their classes.

    Attributes:
        recordings: Recordings in the order of the list, or sorted by name.
        labels: Classes.
        missing: Names in the list for which there is no file.
        source: Path of the list or folder, for messages.
    """

    recordings: tuple[Recording, ...]
    labels: LabelSet
    missing: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.recordings)

    @property
    def targets(self) -> np.ndarray:
        """Labels, bool `(clips, classes)`."""
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
    """List the labeled recordings of a folder.

    A CSV file has the columns `path,labels` and optionally `fold`. A cell of labels holds names or MIDs; a name with a
    comma is ambiguous unless `classes` has it or `separator` is given. AudioSet's segment lists have lines of
    `YTID, start, end, MIDs`; a clip is a file with the ten seconds of its line, not the whole video, and is named after
    its YTID: `YTID.wav`, `YYTID.wav` as in PANNs, or `YTID_30.000_40.000.flac`, at any depth. Hidden files and files
    without an extension of audio are ignored.

    Args:
        audio_dir: Folder with one folder per class, or base of the paths in `list_file`.
        list_file: CSV file in UTF-8, or AudioSet's segment list; its content decides. None takes the names of folders.
        classes: Classes and their order; None takes those that occur, sorted, and AudioSet's for a segment list.
        separator: Text between the labels in a cell of a CSV file; None takes `;` or `|`.

    Returns:
        Recordings whose files exist, and the names of those whose files do not.

    Raises:
        FileNotFoundError: The folder or the list does not exist.
        ValueError: A line is faulty, a label is unknown, a recording or label is repeated, or there is no recording.

    >>> import tempfile
    >>> from kerastag.data import read_audio_list
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("cat", "dog"):
    ...     (folder / name).mkdir()
    ...     (folder / name / "a.wav").touch()
    >>> read_audio_list(folder).labels.names
    ('cat', 'dog')
    """
    if list_file is not None and not Path(list_file).is_file():
        raise FileNotFoundError(f"{list_file}: no such file")
    if not Path(audio_dir).is_dir():
        raise FileNotFoundError(f"`audio_dir`: {audio_dir}: no such folder")
    if list_file is None:
        return read_class_folders(Path(audio_dir), classes)
    if _is_segment_list(Path(list_file)):
        return _read_segment_list(Path(list_file), Path(audio_dir), classes or LabelSet.audioset())
    return _read_labels_csv(Path(list_file), Path(audio_dir), classes, separator)


def read_class_folders(root: Path, classes: LabelSet | None = None) -> AudioList:
    """List the recordings in one folder per class, at any depth; the name of the folder is their only label."""
    files = find_audio_files(root)
    outside = [path for path in files if len(path.parts) == 1]
    if outside:
        raise ValueError(f"{root / outside[0]}: must be in the folder of its class, or in a CSV file of labels")
    labels = classes or _sort_labels({path.parts[0] for path in files}, root)
    recordings = [
        Recording(root / path, path.as_posix(), _find_indices(labels, path.parts[:1], str(root / path)))
        for path in files
    ]
    return _make_list(recordings, labels, (), root)


def _read_labels_csv(path: Path, root: Path, classes: LabelSet | None, separator: str | None) -> AudioList:
    if separator == "":
        raise ValueError("`separator` must be at least one character; received: ''")
    rows = list(_read_csv_rows(path))
    cells = [_split_cell(row["labels"], f"{path}: line {line}", classes, separator) for line, row in rows]
    labels = classes or _sort_labels({name for names in cells for name in names}, path)
    line_of_file: dict[Path, int] = {}
    recordings, missing = [], []
    for (line, row), names in zip(rows, cells, strict=True):
        where = f"{path}: line {line}"
        if not row["path"]:
            raise ValueError(f"{where}: column path is empty")
        file = Path(os.path.normpath(root / row["path"]))
        if file in line_of_file:
            raise ValueError(f"{where}: column path repeats line {line_of_file[file]}: {row['path']}")
        line_of_file[file] = line
        indices = _find_indices(
            labels, names, where, f"column labels must name each class once; received: {row['labels']!r}"
        )
        if file.is_file():
            recordings.append(Recording(file, row["path"], indices, row.get("fold", "")))
        else:
            missing.append(row["path"])
    return _make_list(recordings, labels, missing, path)


def _read_segment_list(path: Path, root: Path, labels: LabelSet) -> AudioList:
    """List the downloaded clips of a segment list, whose files are named after their YTIDs, at any depth."""
    files: dict[str, Path] = {}
    for file in find_audio_files(root):
        if (match := _YTID.match(file.stem)) is not None:
            ytid = match["exact"] or match["cut"]
            if ytid in files:
                raise ValueError(f"{root}: two files of YTID {ytid}: {files[ytid]} and {file}")
            files[ytid] = file
    line_of_ytid: dict[str, int] = {}
    recordings, missing = [], []
    for line, ytid, mids in _read_segment_rows(path):
        where = f"{path}: line {line}"
        if ytid in line_of_ytid:
            raise ValueError(f"{where}: repeats YTID {ytid} of line {line_of_ytid[ytid]}")
        line_of_ytid[ytid] = line
        indices = _find_indices(labels, mids, where, f"must name each class once; received: {','.join(mids)!r}")
        if ytid in files:
            recordings.append(Recording(root / files[ytid], files[ytid].as_posix(), indices))
        else:
            missing.append(ytid)
    return _make_list(recordings, labels, missing, path)


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8") from error


def _is_segment_list(path: Path) -> bool:
    """Return whether the first line is a comment, or has four fields with numbers in the second and third."""
    first = next(iter(_read_lines(path)), "")
    return first.startswith("#") or bool(_split_segment(first))


def _split_segment(text: str) -> list[str]:
    """Split `YTID, start, end, MIDs` into its fields, or return none."""
    fields = next(csv.reader([text], skipinitialspace=True), [])
    try:
        list(map(float, fields[1:3]))
    except ValueError:
        return []
    return fields if len(fields) == 4 else []


def _read_segment_rows(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    for line, text in enumerate(_read_lines(path), start=1):
        if not text.strip() or text.startswith("#"):
            continue
        if not (fields := _split_segment(text)):
            raise ValueError(f"{path}: line {line}: must be `YTID, start, end, MIDs`; received: {text[:80]!r}")
        mids = [mid.strip() for mid in fields[3].split(",")]
        if not fields[0] or not all(mids):
            raise ValueError(f"{path}: line {line}: YTID and MIDs must not be empty; received: {text[:80]!r}")
        yield line, fields[0], mids


def _read_csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(_read_lines(path), skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    unknown = [name for name in header if name not in _CSV_COLUMNS]
    absent = [name for name in _CSV_COLUMNS[:2] if name not in header]
    faults = [f"unknown column {name!r}" for name in unknown] + [f"no column {name!r}" for name in absent]
    if len(set(header)) < len(header):
        faults.append("a column twice")
    if faults:
        raise ValueError(
            f"{path}: line 1: columns must be path,labels and optionally fold; "
            f"received: {faults[0]} in {','.join(header)!r}"
        )
    for fields in reader:
        if not fields:
            continue
        if len(fields) != len(header):
            raise ValueError(
                f"{path}: line {reader.line_num}: must have {len(header)} columns; received: {len(fields)}; "
                "quote cells that hold commas"
            )
        yield reader.line_num, dict(zip(header, (field.strip() for field in fields), strict=True))


def _split_cell(cell: str, where: str, classes: LabelSet | None, separator: str | None) -> list[str]:
    """Split a cell such as `dog; rain` into its labels."""
    if not cell:
        raise ValueError(f"{where}: column labels is empty")
    if classes is not None and cell in {*classes.names, *classes.mids}:
        return [cell]
    parts = cell.split(separator) if separator else re.split("[;|]", cell)
    names = [part.strip() for part in parts]
    if not all(names):
        raise ValueError(f"{where}: column labels must not have empty labels; received: {cell!r}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: column labels must name each class once; received: {cell!r}")
    if classes is None and separator is None and any("," in name for name in names):
        raise ValueError(f"{where}: column labels must be separated by ; or | or `separator`; received: {cell!r}")
    return names


def _sort_labels(names: Iterable[str], source: Path) -> LabelSet:
    names = sorted(names)
    if not names:
        raise ValueError(f"{source}: no recording in it")
    return LabelSet.from_names(names)


def _find_indices(labels: LabelSet, names: Sequence[str], where: str, repeated: str = "") -> tuple[int, ...]:
    try:
        indices = tuple(map(labels.index, names))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if len(set(indices)) < len(indices):
        raise ValueError(f"{where}: {repeated}")
    return indices


def _make_list(recordings: Sequence[Recording], labels: LabelSet, missing: Sequence[str], source: Path) -> AudioList:
    if not recordings:
        absent = f"; {len(missing)} files do not exist, first {missing[0]}" if missing else ""
        raise ValueError(f"{source}: no recording in it{absent}")
    return AudioList(tuple(recordings), labels, tuple(missing), str(source))
