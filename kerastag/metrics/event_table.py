"""Events of many clips as arrays: read from a table, or found in framewise probabilities."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kerastag.events import Event, EventRules, EventTracker
from kerastag.labels import LabelSet

__all__ = ["EventTable", "read_events"]

_COLUMNS = ("filename", "onset", "offset", "event_label")


@dataclass(frozen=True, eq=False)
class EventTable:
    """Events of clips, one a row, by clip, class and onset.

    Args:
        clip: number of the clip, int `(events,)`.
        class_index: class that sounds, int `(events,)`.
        onset: where it begins in the clip, seconds, `(events,)`.
        offset: where it ends, above the onset, seconds, `(events,)`.
        num_clips: clips, with or without events.
        num_classes: classes, with or without events.

    Raises:
        ValueError: lengths that differ, a clip or class out of range, an offset that is not above its onset.

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

    def __post_init__(self) -> None:
        arrays = {name: np.asarray(getattr(self, name), int) for name in ("clip", "class_index")}
        arrays |= {name: np.asarray(getattr(self, name), float) for name in ("onset", "offset")}
        if len({values.shape for values in arrays.values()}) > 1 or arrays["clip"].ndim != 1:
            shapes = ", ".join(f"{name} {values.shape}" for name, values in arrays.items())
            raise ValueError(f"columns must be (events,) of one length, received {shapes}")
        for name, most in (("clip", self.num_clips), ("class_index", self.num_classes)):
            if ((values := arrays[name]) < 0).any() or (values >= most).any():
                raise ValueError(f"`{name}` must lie in [0, {most}), received {values.min()} to {values.max()}")
        if not (arrays["offset"] > arrays["onset"]).all() or not np.isfinite(arrays["offset"] - arrays["onset"]).all():
            raise ValueError("`offset` must be above `onset`, both finite")
        order = np.lexsort((arrays["onset"], arrays["class_index"], arrays["clip"]))
        for name, values in arrays.items():
            object.__setattr__(self, name, values[order])

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def seconds(self) -> np.ndarray:
        """How long each event is, `(events,)`."""
        return self.offset - self.onset

    @property
    def targets(self) -> np.ndarray:
        """Which classes sound in which clip, bool `(clips, classes)`."""
        targets = np.zeros((self.num_clips, self.num_classes), bool)
        targets[self.clip, self.class_index] = True
        return targets

    @property
    def pair(self) -> np.ndarray:
        """A number for each clip and class, `(events,)`, in rising order."""
        return self.clip * self.num_classes + self.class_index

    @classmethod
    def of(cls, clips: Iterable[Iterable[Event]], num_classes: int) -> EventTable:
        """The events of each clip, as `kerastag.events.find_events` gives them -> a table."""
        rows, num_clips = [], 0
        for clip, events in enumerate(clips):
            num_clips = clip + 1
            rows += [(clip, e.class_index, e.onset_seconds, e.offset_seconds or math.nan) for e in events]
        return cls.from_rows(rows, num_clips, num_classes)

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, float, float]], num_clips: int, num_classes: int) -> EventTable:
        """`(clip, class_index, onset, offset)` of each event -> a table."""
        clip, class_index, onset, offset = np.reshape(np.asarray(rows, float), (-1, 4)).T
        return cls(clip.astype(int), class_index.astype(int), onset, offset, num_clips, num_classes)

    @classmethod
    def found(cls, framewise: np.ndarray, seconds_per_frame: float, rules: EventRules) -> EventTable:
        """Framewise probabilities of clips -> their events.

        Args:
            framewise: in [0, 1], `(clips, frames, classes)`.
            seconds_per_frame: from one frame to the next, above 0.
            rules: what an event is.

        Raises:
            ValueError: another shape or a value outside [0, 1]; thresholds of another number of classes.
        """
        framewise = check_framewise(framewise)
        tracker = EventTracker(framewise.shape[2], seconds_per_frame, rules)
        clips = ([*tracker.update(0.0, frames), *tracker.flush()] for frames in framewise)
        finished = ([event for event in events if event.offset_seconds is not None] for events in clips)
        return cls.of(finished, framewise.shape[2])


def read_events(path: str | os.PathLike[str], names: Sequence[str | bytes], labels: LabelSet) -> EventTable:
    """A table as DCASE has it -> the events of some clips.

    Args:
        path: tab-separated, with the columns `filename onset offset event_label`; a clip without events may stand there
            with empty cells.
        names: of the clips, in order; rows of other clips are passed over.
        labels: the classes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a faulty row, named by its line, or no row of any of the clips.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table of events; `kerastag scenes` writes one beside each pack")
    number = {name.decode() if isinstance(name, bytes) else str(name): i for i, name in enumerate(names)}
    rows, known = [], False
    for line, row in _rows(path):
        known = known or row["filename"] in number
        if row["filename"] in number and row["event_label"]:
            rows.append((number[row["filename"]], *_event(row, labels, f"{path}: line {line}")))
    if not known:
        first = next(iter(number), "none")
        raise ValueError(f"{path}: no row of any of {len(number)} clips ({first}, ...): is it another pack's table?")
    return EventTable.from_rows(rows, len(number), len(labels))


def check_framewise(framewise: np.ndarray) -> np.ndarray:
    """Raise unless it is (clips, frames, classes) of probabilities."""
    framewise = np.asarray(framewise)
    if framewise.ndim != 3 or not framewise.size:
        raise ValueError(f"`framewise` must be (clips, frames, classes), received shape {framewise.shape}")
    if not (framewise.min() >= 0 and framewise.max() <= 1):
        raise ValueError(f"`framewise` must be in [0, 1], received {framewise.min()} to {framewise.max()}")
    return framewise


def _rows(path: Path) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter="\t")
            header = next(reader, [])
            if sorted(header) != sorted(_COLUMNS):
                wanted, received = " ".join(_COLUMNS), " ".join(header)[:80]
                raise ValueError(f"{path}: line 1: the columns must be {wanted}, tab-separated, received {received!r}")
            for fields in reader:
                if len(fields) != len(header) and fields:
                    raise ValueError(f"{path}: line {reader.line_num}: must have 4 columns, has {len(fields)}")
                if fields:
                    yield reader.line_num, dict(zip(header, fields, strict=True))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8") from error


def _event(row: dict[str, str], labels: LabelSet, where: str) -> tuple[int, float, float]:
    try:
        onset, offset = float(row["onset"]), float(row["offset"])
    except ValueError:
        times = f"{row['onset']!r} and {row['offset']!r}"
        raise ValueError(f"{where}: onset and offset must be seconds, are {times}") from None
    if not 0 <= onset < offset < math.inf:
        raise ValueError(f"{where}: offset must be above onset, onset at least 0, are {offset:g} and {onset:g}")
    try:
        return labels.index(row["event_label"]), onset, offset
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
