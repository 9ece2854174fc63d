"""Events of many clips as arrays, read from a file or found in framewise probabilities."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kerastag.events import Event, EventRules, find_events
from kerastag.label_tables import RecordingIndex, read_label_table
from kerastag.labels import LabelSet

__all__ = ["EventTable", "read_events"]


@dataclass(frozen=True, eq=False)
class EventTable:
    """Events of clips as columns `(events,)`, sorted by clip, class and onset.

    Args:
        clip: Index of the clip of each event.
        class_index: Index of the class of each event.
        onset: Start of each event in its clip, seconds.
        offset: End of each event in its clip, seconds, above `onset`.
        num_clips: Number of clips, with or without events.
        num_classes: Number of classes, with or without events.
        source: Path and format of the table that the events come from; may be empty.

    Raises:
        ValueError: The columns differ in length, an index is out of range, or an offset is not above its onset.

    >>> from kerastag.metrics import EventTable
    >>> table = EventTable([1, 0], [0, 2], [0.5, 1.0], [1.5, 2.0], num_clips=2, num_classes=3)
    >>> table.clip.tolist(), table.targets.astype(int).tolist()
    ([0, 1], [[0, 0, 1], [1, 0, 0]])
    """

    clip: np.ndarray
    class_index: np.ndarray
    onset: np.ndarray
    offset: np.ndarray
    num_clips: int
    num_classes: int
    source: str = ""

    def __post_init__(self) -> None:
        columns = {name: np.asarray(getattr(self, name), int) for name in ("clip", "class_index")}
        columns |= {name: np.asarray(getattr(self, name), float) for name in ("onset", "offset")}
        if len({values.shape for values in columns.values()}) > 1 or columns["clip"].ndim != 1:
            shapes = ", ".join(f"{name} {values.shape}" for name, values in columns.items())
            raise ValueError(f"columns must be (events,) of one length; received: {shapes}")
        for name, limit in (("clip", self.num_clips), ("class_index", self.num_classes)):
            values = columns[name]
            if not ((values >= 0) & (values < limit)).all():
                raise ValueError(f"`{name}` must be in [0, {limit}); received: {values.min()} to {values.max()}")
        durations = columns["offset"] - columns["onset"]
        if not (columns["offset"] > columns["onset"]).all() or not np.isfinite(durations).all():
            raise ValueError("`offset` must be above `onset`, both finite")
        order = np.lexsort((columns["onset"], columns["class_index"], columns["clip"]))
        for name, values in columns.items():
            object.__setattr__(self, name, values[order])

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def durations(self) -> np.ndarray:
        """Length of each event, seconds, `(events,)`."""
        return self.offset - self.onset

    @property
    def targets(self) -> np.ndarray:
        """Whether a class has an event in a clip, bool `(clips, classes)`."""
        targets = np.zeros((self.num_clips, self.num_classes), bool)
        targets[self.clip, self.class_index] = True
        return targets

    @property
    def pair_index(self) -> np.ndarray:
        """Number of the pair of clip and class of each event, `clip * num_classes + class_index`, ascending."""
        return self.clip * self.num_classes + self.class_index

    @classmethod
    def from_events(cls, clips: Iterable[Iterable[Event]], num_classes: int) -> EventTable:
        """Build a table from the events of each clip, such as those that `kerastag.events.find_events` returns."""
        clips = list(clips)
        events = ((clip, event) for clip, events in enumerate(clips) for event in events)
        rows = [(clip, e.class_index, e.onset_seconds, e.offset_seconds or math.nan) for clip, e in events]
        return cls.from_rows(rows, len(clips), num_classes)

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, float, float]], num_clips: int, num_classes: int) -> EventTable:
        """Build a table from rows of `(clip, class_index, onset, offset)`."""
        clip, class_index, onset, offset = np.reshape(np.asarray(rows, float), (-1, 4)).T
        return cls(clip.astype(int), class_index.astype(int), onset, offset, num_clips, num_classes)

    @classmethod
    def from_framewise(cls, framewise: np.ndarray, seconds_per_frame: float, rules: EventRules) -> EventTable:
        """Find the events in framewise probabilities in [0, 1], `(clips, frames, classes)`.

        Arguments and errors are those of `kerastag.events.find_events`, which processes each clip.
        """
        framewise = check_framewise(framewise)
        clips = (find_events(frames, seconds_per_frame, rules) for frames in framewise)
        return cls.from_events(clips, framewise.shape[2])


def read_events(
    path: str | os.PathLike[str],
    clip_names: Sequence[str | bytes],
    labels: LabelSet,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
) -> EventTable:
    r"""Read the events of some clips from a table of labels with starts and ends.

    Args:
        path: Path of a table in DCASE's format, tab-separated with the columns `filename onset offset event_label`, or
            in another one of `kerastag.label_tables`; other cells of a clip without events may be empty. A table that
            names no recording belongs to the only clip, or to the one that it is named after.
        clip_names: File names of the clips, in order; rows of other clips are ignored.
        labels: Classes of the events.
        path_column: Name of the column of file names; None takes the usual names, such as `filename`.
        label_column: Name of the column of labels; None takes the usual names, such as `event_label`.
        separator: Text between the labels of a cell; None takes `;` or `|`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A row is invalid, labels have no starts and ends, or no row belongs to any of the clips.

    >>> import tempfile
    >>> from kerastag.metrics import read_events
    >>> path = Path(tempfile.mkdtemp(), "eval.tsv")
    >>> _ = path.write_text("filename\tonset\toffset\tevent_label\na.wav\t0.5\t2.0\tRain\n")
    >>> read_events(path, ["a.wav"], LabelSet.from_names(["Bark", "Rain"])).durations
    array([1.5])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `kerastag make-soundscapes` writes one beside each pack")
    table = read_label_table(
        path, classes=labels, path_column=path_column, label_column=label_column, separator=separator
    )
    index = RecordingIndex(os.fsdecode(name) for name in clip_names)
    unnamed_clip = index.find_table(path) if any(not row.recording for row in table.rows) else None
    events, has_clips = set(), False
    for row in table.rows:
        try:
            clip = index.find(row.recording) if row.recording else unnamed_clip
            if clip is None:
                continue
            has_clips = True
            for name in row.labels:
                if row.onset is None or row.offset is None:
                    raise ValueError("labels must have an onset and an offset")
                events.add((clip, labels.index(name), row.onset, row.offset))
        except ValueError as error:
            raise ValueError(f"{path}: {row.place}: {error}") from None
    if not has_clips:
        first = os.fsdecode(next(iter(clip_names), "none"))
        raise ValueError(f"{path}: must have a row of one of {len(clip_names)} clips ({first}, ...); received: none")
    event_table = EventTable.from_rows(sorted(events), len(clip_names), len(labels))
    return replace(event_table, source=f"{path}: {table.format}")


def check_framewise(framewise: np.ndarray, ground_truth: EventTable | None = None) -> np.ndarray:
    """Return framewise probabilities as an array, or raise unless they fit the ground truth."""
    framewise = np.asarray(framewise)
    if framewise.ndim != 3 or not framewise.size:
        raise ValueError(f"`framewise` must be (clips, frames, classes); received: shape {framewise.shape}")
    if not (framewise.min() >= 0 and framewise.max() <= 1):
        raise ValueError(f"`framewise` must be in [0, 1]; received: {framewise.min()} to {framewise.max()}")
    if ground_truth is not None and framewise.shape[::2] != (ground_truth.num_clips, ground_truth.num_classes):
        shape = f"({ground_truth.num_clips}, frames, {ground_truth.num_classes})"
        raise ValueError(f"`framewise` must be {shape} like the ground truth; received: shape {framewise.shape}")
    return framewise


def join_sorted_keys(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row numbers of every pair of equal keys of two sorted arrays."""
    first, end = np.searchsorted(right, left, "left"), np.searchsorted(right, left, "right")
    return expand_ranges(first, end - first)


def expand_ranges(first: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row number and the value of every integer in ranges that begin at `first`."""
    rows = np.repeat(np.arange(len(first)), counts)
    values = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[rows]
    return rows, values
