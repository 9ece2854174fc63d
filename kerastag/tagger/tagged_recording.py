"""Tags, events and probabilities over time of one recording, in memory that does not grow with its length."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from kerastag.events import Event, EventTracker, create_event_rules
from kerastag.tagger.results import Tag, WindowPooling
from kerastag.tagger.tagger import Tagger
from kerastag.tagger.windows import Recording

__all__ = ["FrameFile", "RecordingTagger", "TaggedEvent", "TaggedRecording"]

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class TaggedEvent:
    """An event of a recording; `tag` has its highest probability."""

    onset_seconds: float
    offset_seconds: float
    tag: Tag


class FrameFile:
    """Probabilities of the output frames of a recording, in a temporary file."""

    def __init__(self, num_classes: int) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._num_classes = num_classes
        self.num_frames = 0

    def append(self, frames: np.ndarray) -> None:
        """Append probabilities `(frames, classes)`."""
        self._file.write(np.ascontiguousarray(frames, np.float32).tobytes())
        self.num_frames += len(frames)

    def read_blocks(self, classes: Sequence[int]) -> Iterator[np.ndarray]:
        """Read the probabilities of some classes in blocks `(frames, classes)`."""
        row_bytes = 4 * self._num_classes
        for first in range(0, self.num_frames * row_bytes, size := max(1, _BLOCK_BYTES // row_bytes) * row_bytes):
            self._file.seek(first)
            yield np.frombuffer(self._file.read(size), np.float32).reshape(-1, self._num_classes)[:, classes]


@dataclass(frozen=True)
class TaggedRecording:
    """Predictions of one recording.

    Attributes:
        name: Name of the recording in the output.
        duration_seconds: Duration of the recording.
        started_at: Start of the recording, with a time zone if that is known; None if it is unknown.
        tags: Tags in descending order of probability.
        events: Events sorted by onset and class; None if they were not requested.
        frames: Probabilities over time, of the classes in `frame_mids`; None if they were not requested.
        seconds_per_frame: Hop from one frame to the next, seconds.
        clipwise: Probability of each class of the model, `(classes,)`.
    """

    name: str
    duration_seconds: float
    started_at: datetime | None
    tags: list[Tag]
    events: list[TaggedEvent] | None
    frames: FrameFile | None
    frame_mids: Sequence[str]
    seconds_per_frame: float
    clipwise: np.ndarray

    def format_time(self, seconds: float = 0.0) -> str:
        """Format the time of day at a position of the recording in ISO 8601; empty if it is unknown."""
        if self.started_at is None:
            return ""
        return (self.started_at + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


class RecordingTagger:
    """A tagger of recordings with the options of `kerastag tag`.

    Args:
        tagger: Tagger to use.
        top: Largest number of tags per recording.
        threshold: Least probability of a tag, and probability at which an event begins, in [0, 1]; None takes 0 for
            tags and the thresholds of the card for events.
        use_card_thresholds: Whether to take the thresholds of the card for tags too.
        classes: Names or identifiers of the only classes to use; none selects all.
        pooling: Pooling over the windows of a long recording.
        channel: What to make of several channels, as in `kerastag.audio.load`.
        off_threshold: Probability below which an event ends, at most the threshold; None is the share of it that the
            card has, by default half.
        durations: `smoothing_seconds`, `min_seconds`, `max_gap_seconds` and `refractory_seconds` of `EventRules`; None
            is that of the card, by default 0.

    Attributes:
        classes: Indices of the classes to use.
        thresholds: Least probability of a tag of each of them.
        rules: Rules for events of each of them.

    Raises:
        ValueError: The model has no such class, or a rule is out of range.
    """

    def __init__(
        self,
        tagger: Tagger,
        *,
        top: int = 5,
        threshold: float | None = None,
        use_card_thresholds: bool = False,
        classes: Sequence[str] = (),
        pooling: str = "max",
        channel: str | int = "mean",
        off_threshold: float | None = None,
        **durations: float | None,
    ) -> None:
        labels = tagger.labels
        self.tagger = tagger
        self._top, self._pooling, self._channel = top, pooling, channel
        self.classes = sorted({labels.index(name) for name in classes}) or list(range(len(labels)))
        self._mids = [labels.mids[k] for k in self.classes]
        self.thresholds = [threshold or 0.0] * len(self.classes)
        onset_thresholds = self.thresholds
        card_thresholds = tagger.card.thresholds or ()
        if threshold is None or use_card_thresholds:
            onset_thresholds = [card_thresholds[k] for k in self.classes]
        if use_card_thresholds:
            self.thresholds = onset_thresholds
        self._indices, self._least = np.array(self.classes), np.array(self.thresholds)
        card_rules = tagger.card.event_rules
        self.rules = create_event_rules(card_rules, onset_thresholds, off_threshold, self.classes, **durations)

    def process(
        self,
        source: Recording,
        name: str,
        *,
        started_at: datetime | None = None,
        events: bool = False,
        timeline: bool = False,
    ) -> TaggedRecording:
        """Tag a recording; see `Tagger.tag` for errors."""
        clipwise, frames, tracker = WindowPooling(self._pooling), None, None
        reports: list[Event] = []
        duration_seconds = seconds_per_frame = 0.0
        if not events and not timeline:
            for window, outputs in self.tagger.predict_windows(source, "clipwise", channel=self._channel):
                clipwise.add(outputs["clipwise"], window.new_seconds)
                duration_seconds = window.end_seconds
        else:
            seconds_per_frame = self.tagger.seconds_per_frame
            frames = FrameFile(len(self.classes)) if timeline else None
            tracker = EventTracker(len(self.classes), seconds_per_frame, self.rules) if events else None
            num_frames = 0
            for block in self.tagger.predict_frames(source, channel=self._channel):
                clipwise.add(block.clipwise, block.window.new_seconds)
                probabilities = block.probabilities[:, self.classes]
                if frames is not None:
                    frames.append(probabilities)
                if tracker is not None:
                    reports += tracker.update(num_frames * seconds_per_frame, probabilities)
                num_frames += len(probabilities)
                duration_seconds = block.window.end_seconds
            if tracker is not None:
                reports += tracker.flush()
        return TaggedRecording(
            name,
            duration_seconds,
            started_at,
            self._select_tags(clipwise.value),
            None if tracker is None else self._create_events(reports, duration_seconds),
            frames,
            self._mids,
            seconds_per_frame,
            clipwise.value,
        )

    def _select_tags(self, probabilities: np.ndarray) -> list[Tag]:
        names, selected = self.tagger.labels.names, probabilities[self._indices]
        order = np.argsort(-selected, kind="stable")
        order = order[selected[order] >= self._least[order]][: self._top]
        return [Tag(names[self.classes[k]], self._mids[k], float(selected[k])) for k in order.tolist()]

    def _create_events(self, reports: list[Event], duration_seconds: float) -> list[TaggedEvent]:
        labels, events = self.tagger.labels, []
        for event in sorted(reports, key=lambda event: (event.onset_seconds, event.class_index)):
            if event.offset_seconds is not None:  # The other reports are of beginnings.
                k = self.classes[event.class_index]
                tag = Tag(labels.names[k], labels.mids[k], event.peak_probability)
                events.append(TaggedEvent(event.onset_seconds, min(event.offset_seconds, duration_seconds), tag))
        return events
