"""The answers of a review: which classes the parts of recordings contain, in one SQLite file per run.

| column | holds |
| --- | --- |
| `file` | absolute path of the recording, without symbolic links; bytes where it is not valid UTF-8 |
| `start_seconds`, `end_seconds` | the part of it that was played; `end_seconds` is NULL for the rest of the file |
| `class_name` | the class that was asked about |
| `answer` | 1 where the part contains the class, else 0 |
| `reviewer`, `created_at`, `run` | who answered, when (UTC), and in the review of which run |
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastag.custom.clips import BACKGROUND, Clips
from kerastag.data.audio_lists import Recording

__all__ = ["Answer", "AnswerStore", "apply_answers", "assign_part_folds", "read_answers"]

_FORMAT = 1
_COLUMNS = "file, start_seconds, end_seconds, class_name, answer, reviewer, created_at, run"
_TABLE = """\
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, file NOT NULL, start_seconds REAL NOT NULL, end_seconds REAL,
    class_name TEXT NOT NULL, answer INTEGER NOT NULL CHECK (answer IN (0, 1)), reviewer TEXT NOT NULL,
    created_at TEXT NOT NULL, run TEXT NOT NULL
)"""
_BUSY_SECONDS = 30.0
_BLOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """An answer to the question whether a part of a recording contains a class.

    Attributes:
        file: Absolute path of the recording, without symbolic links.
        start_seconds: Start of the part.
        end_seconds: End of the part; None for the end of the recording.
        class_name: Name of the class.
        answer: Whether the part contains the class.
        reviewer: Name of the person who answered.
        created_at: Time of the answer, ISO 8601 in UTC.
        run: Path of the run that was reviewed.
    """

    file: str
    start_seconds: float
    end_seconds: float | None
    class_name: str
    answer: bool
    reviewer: str = ""
    created_at: str = ""
    run: str = ""

    @property
    def part(self) -> tuple[str, float, float | None]:
        """The part of the recording that the answer is about."""
        return self.file, self.start_seconds, self.end_seconds


class AnswerStore:
    """A file of answers that are on the disk before `add` returns, whatever happens to the process afterwards.

    Several threads and processes may use one file.

    Args:
        path: Path of the file, which is created if it is missing.

    Raises:
        ValueError: The file is not one of answers, or is damaged.
        OSError: The file cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path, self._lock = Path(path), threading.Lock()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _translate_errors(self._path):
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                # The journal is a file that exists only during a write, also on network file systems.
                self._connection.execute("PRAGMA journal_mode = DELETE")
                self._connection.execute("PRAGMA synchronous = EXTRA")
                _check_format(self._connection, self._path, is_new_allowed=True)
                with self._write():
                    self._connection.execute(_TABLE)
                    self._connection.execute(f"PRAGMA user_version = {_FORMAT}")
            except BaseException:
                self._connection.close()
                raise

    def add(self, answers: Iterable[Answer]) -> list[int]:
        """Save answers, all or none, and return their numbers."""
        rows = [
            (
                _encode_path(answer.file),
                *(answer.start_seconds, answer.end_seconds, answer.class_name, int(answer.answer)),
                *(answer.reviewer, answer.created_at, answer.run),
            )
            for answer in answers
        ]
        statement = f"INSERT INTO answers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        with self._lock, _translate_errors(self._path), self._write():
            return [int(self._connection.execute(statement, row).lastrowid or 0) for row in rows]

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove the answers with these numbers, all or none."""
        with self._lock, _translate_errors(self._path), self._write():
            self._connection.executemany("DELETE FROM answers WHERE id = ?", [(number,) for number in numbers])

    def read(self) -> list[Answer]:
        """Return the last answer to each question, in the order of the answers."""
        with self._lock, _translate_errors(self._path):
            return _select_last(self._connection)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def read_answers(path: str | os.PathLike[str]) -> list[Answer]:
    """Read the last answer to each question of a review, in the order of the answers.

    Args:
        path: Path of the file of answers, `review.sqlite` in a run folder.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not one of answers, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no answers of a review")
    with _translate_errors(path), contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
        _check_format(connection, path)
        return _select_last(connection)


def apply_answers(clips: Clips, answers: Sequence[Answer]) -> Clips:
    """Correct the labels of clips by the answers of a review, and add the other parts with answers as clips.

    Labels of an added part are known only for the classes that were asked about, unless every clip has one label: then
    one class in a part excludes the others. A part that contains none of the classes is background, where the clips
    have such a class. An added part of a file that has clips is in their fold; the others are always trained on.
    Answers about classes that the clips do not have are left out, and counted on standard error.

    Args:
        clips: Clips of a run.
        answers: Answers, of which a later one replaces an earlier one to the same question.

    Returns:
        The clips in their order, and then the added parts in the order of their first answers.
    """
    rows = {
        (str(clip.path.resolve()), clip.start_seconds, clip.end_seconds): row
        for row, clip in enumerate(clips.audio)
        if isinstance(clip, Recording)
    }
    folds = {file: int(clips.folds[row]) for (file, _, _), row in reversed(rows.items())}
    known = [answer for answer in answers if answer.class_name in clips.class_names]
    if len(known) < len(answers):
        missing = sorted({answer.class_name for answer in answers} - set(clips.class_names))
        count = len(answers) - len(known)
        print(f"answers left out, about classes without a clip: {count} ({', '.join(missing)})", file=sys.stderr)
    answered: dict[int, None] = {}
    parts: list[Recording] = []
    for answer in known:
        if answer.part not in rows:
            rows[answer.part] = len(clips) + len(parts)
            parts.append(_make_part(answer))
        answered[rows[answer.part]] = None
    added = np.zeros((len(parts), len(clips.class_names)), bool)
    targets, is_known = np.concatenate([clips.targets, added]), np.concatenate([clips.is_known, added])
    for answer in known:
        cell = rows[answer.part], clips.class_names.index(answer.class_name)
        targets[cell], is_known[cell] = answer.answer, True
    _complete_labels(targets, is_known, list(answered), clips)
    part_folds = [folds.get(str(part.path), -1) for part in parts]
    return replace(
        clips,
        audio=(*clips.audio, *parts),
        targets=targets,
        folds=np.concatenate([clips.folds, np.array(part_folds, int)]),
        is_known=is_known,
    )


def assign_part_folds(clips: Clips, num_clips: int) -> np.ndarray:
    """Assign folds to the parts that `apply_answers` has added, which are then held out too.

    Parts of one minute of a file are in one fold.

    Args:
        clips: Clips with added parts.
        num_clips: Number of clips before the parts.

    Returns:
        Folds of all clips, int `(clips,)`; those of the first `num_clips` are as before.
    """
    folds = clips.folds.copy()
    num_folds = int(folds[:num_clips].max(initial=0)) + 1
    for row in range(num_clips, len(clips)):
        part = clips.audio[row]
        if folds[row] < 0 and isinstance(part, Recording):
            minute = f"{part.path} {part.start_seconds // _BLOCK_SECONDS:.0f}"
            folds[row] = zlib.crc32(minute.encode(errors="surrogateescape")) % num_folds
    return folds


def _complete_labels(targets: np.ndarray, is_known: np.ndarray, rows: Sequence[int], clips: Clips) -> None:
    """Set the labels in these rows that follow from the others."""
    is_background = np.array([name == BACKGROUND for name in clips.class_names])
    for row in rows:
        has_class = bool((targets[row] & ~is_background).any())
        if has_class and clips.has_single_labels:
            is_known[row] = True
        has_none = bool((~targets[row] & is_known[row])[~is_background].all())
        if has_class or has_none:
            targets[row, is_background], is_known[row, is_background] = has_none, True


def _make_part(answer: Answer) -> Recording:
    path = Path(answer.file)
    end = "" if answer.end_seconds is None else f"_{answer.end_seconds:.3f}"
    name = f"{path.stem}_{answer.start_seconds:.3f}{end}{path.suffix}"
    return Recording(path, name, (), start_seconds=answer.start_seconds, end_seconds=answer.end_seconds)


def _encode_path(path: str) -> str | bytes:
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _select_last(connection: sqlite3.Connection) -> list[Answer]:
    last: dict[Any, Answer] = {}
    for file, start, end, name, answer, *rest in connection.execute(f"SELECT {_COLUMNS} FROM answers ORDER BY id"):
        item = Answer(os.fsdecode(file), start, end, name, bool(answer), *rest)
        last[item.part, name] = item
    return list(last.values())


def _check_format(connection: sqlite3.Connection, path: Path, is_new_allowed: bool = False) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (num_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if version != _FORMAT and not (is_new_allowed and version == num_tables == 0):
        raise ValueError(f"{path}: must be a file of answers of format {_FORMAT}; received: format {version}")


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # The disk is full, or the folder cannot be written.
        raise OSError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(f"{path}: must be a file of answers; received: {error}") from error
