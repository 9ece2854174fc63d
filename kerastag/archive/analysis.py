"""Tags, events and embeddings of one recording as columns, in memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from kerastag.archive.settings import ArchiveSettings
from kerastag.events import Event, EventTracker
from kerastag.tagger import Tagger, Window
from kerastag.tagger.tagged_recording import RecordingTagger

__all__ = ["Columns", "RecordingAnalyzer"]

Columns = dict[str, dict[str, np.ndarray]]
"""Rows of several tables, as arrays by table and column; `class` is the index of a class."""
_WINDOWS_PER_PART = 64
_SILENCE = 2e-5  # -100 dB of full scale, from the lowest sample to the highest


class RecordingAnalyzer:
    """An analyzer of recordings, which computes their rows with a tagger.

    Args:
        tagger: Tagger to use.
        settings: Settings of the archive.

    Attributes:
        num_passes: How many times `analyze` takes the samples of a recording.
        num_features: Length of an embedding; 0 without embeddings.

    Raises:
        ValueError: The model lacks an output that the settings need, or has no such class.
    """

    def __init__(self, tagger: Tagger, settings: ArchiveSettings) -> None:
        self._tagger, self._settings = tagger, settings
        self._rules: RecordingTagger | None = None
        if tagger.card.labels is not None:
            uses_card = settings.threshold is None and settings.top is None
            self._rules = RecordingTagger(
                tagger,
                threshold=settings.threshold,
                use_card_thresholds=uses_card,
                classes=settings.classes,
                off_threshold=settings.off_threshold,
                smoothing_seconds=settings.smoothing_seconds,
                min_seconds=settings.min_seconds,
                max_gap_seconds=settings.max_gap_seconds,
                refractory_seconds=settings.refractory_seconds,
            )
            self._classes = np.array(self._rules.classes, np.int32)
            self._thresholds = np.array(self._rules.thresholds, np.float32)
        elif settings.events or not settings.embeddings:
            raise ValueError(f"{tagger.name}: must have classes, or be used with `embeddings` only; received: none")
        if settings.events:
            _ = tagger.seconds_per_frame  # raises where there are no output frames
        self.num_features = 0
        self._embeds_windows = settings.embeddings and settings.segment_seconds is None and self._rules is not None
        self.num_passes = 1 + (settings.embeddings and not self._embeds_windows and self._rules is not None)
        if settings.embeddings:
            seconds = settings.segment_seconds or tagger.card.window_seconds
            silence = np.zeros(round(seconds * tagger.card.sample_rate), np.float32)
            embedding = tagger.embed(
                silence, sample_rate=tagger.card.sample_rate, segment_seconds=settings.segment_seconds
            )
            self.num_features = embedding.shape[-1]

    def analyze(
        self, read_pass: Callable[[], Iterator[np.ndarray]], send: Callable[[Columns, float], object]
    ) -> dict[str, Any]:
        """Analyze one recording.

        Args:
            read_pass: Function that returns the samples of the recording in blocks, at the sample rate of the model;
                it is called `num_passes` times.
            send: Function that takes the rows, part by part, and how much of the recording was processed, seconds.

        Returns:
            Values for the row of the recording in the table `files`: `duration_seconds`, `num_windows`, `num_tags`,
            `num_events`, `top_class` (an index or None), `top_probability`, `is_silent`; and `tags_by_class`, the
            number of tags by the index of their class.
        """
        self._summary = _Summary()
        self._rows, self._num_pending, self._send = _Rows(), 0, send
        if self._rules is not None:
            (self._analyze_events if self._settings.events else self._analyze_windows)(read_pass())
        if self._settings.embeddings and not self._embeds_windows:
            for window, embedding in self._tagger.embed_windows(
                read_pass(), segment_seconds=self._settings.segment_seconds
            ):
                if self._rules is None:
                    self._summary.add_window(window)
                self._add_embedding(window, embedding)
                self._finish_window()
        self._flush()
        return self._summary.as_dict()

    def _analyze_windows(self, blocks: Iterator[np.ndarray]) -> None:
        names = ("clipwise", "embedding") if self._embeds_windows else ("clipwise",)
        for window, outputs in self._tagger.predict_windows(blocks, *names):
            self._add_window(window, outputs)

    def _analyze_events(self, blocks: Iterator[np.ndarray]) -> None:
        assert self._rules is not None  # for the type checker: events need classes
        names = ("embedding",) if self._embeds_windows else ()
        seconds_per_frame, num_frames, events = self._tagger.seconds_per_frame, 0, list[Event]()
        tracker = EventTracker(len(self._classes), seconds_per_frame, self._rules.rules)
        for frames in self._tagger.predict_frames(blocks, *names):
            self._add_window(frames.window, frames.outputs)
            events += tracker.update(num_frames * seconds_per_frame, frames.probabilities[:, self._classes])
            num_frames += len(frames.probabilities)
        events += tracker.flush()
        self._add_events([event for event in events if event.offset_seconds is not None])

    def _add_window(self, window: Window, outputs: Mapping[str, np.ndarray]) -> None:
        probabilities = outputs["clipwise"][self._classes]
        if not np.isfinite(probabilities).all():
            raise ValueError(f"`clipwise` must be finite; received: NaN or infinity at {window.start_seconds:g} s")
        order = np.argsort(-probabilities, kind="stable")[: self._settings.top]
        order = order[probabilities[order] >= self._thresholds[order]]
        classes, times = self._classes[order], np.ones(len(order))
        self._summary.add_window(window)
        self._summary.add_tags(self._classes, probabilities, classes)
        self._rows.add(
            "tags",
            {
                "start_seconds": window.start_seconds * times,
                "end_seconds": window.end_seconds * times,
                "class": classes,
                "probability": probabilities[order],
            },
        )
        if self._embeds_windows:
            self._add_embedding(window, outputs["embedding"])
        self._finish_window()

    def _add_embedding(self, window: Window, embedding: np.ndarray) -> None:
        start, end = np.array([window.start_seconds]), np.array([window.end_seconds])
        row = {"start_seconds": start, "end_seconds": end, "embedding": embedding[None]}
        self._rows.add("embeddings", row)

    def _add_events(self, events: list[Event]) -> None:
        events = sorted(events, key=lambda event: (event.onset_seconds, event.class_index))
        self._summary.num_events = len(events)
        offsets = [min(event.offset_seconds or 0.0, self._summary.duration_seconds) for event in events]
        self._rows.add(
            "events",
            {
                "onset_seconds": np.array([event.onset_seconds for event in events], np.float64),
                "offset_seconds": np.array(offsets, np.float64),
                "class": self._classes[np.array([event.class_index for event in events], np.int64)],
                "peak_probability": np.array([event.peak_probability for event in events], np.float32),
                "mean_probability": np.array([event.mean_probability for event in events], np.float32),
            },
        )

    def _finish_window(self) -> None:
        self._num_pending += 1
        if self._num_pending == _WINDOWS_PER_PART:
            self._flush()

    def _flush(self) -> None:
        self._send(self._rows.take(), self._summary.duration_seconds)
        self._num_pending = 0


class _Rows:
    """Rows that were not sent yet."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, list[np.ndarray]]] = {}

    def add(self, table: str, columns: Mapping[str, np.ndarray]) -> None:
        parts = self._columns.setdefault(table, {name: [] for name in columns})
        for name, values in columns.items():
            parts[name].append(values)

    def take(self) -> Columns:
        tables = {
            table: {name: np.concatenate(parts) for name, parts in columns.items()}
            for table, columns in self._columns.items()
        }
        self._columns = {}
        return tables


class _Summary:
    """Sums over the windows of a recording."""

    def __init__(self) -> None:
        self.duration_seconds, self.num_windows, self.num_events = 0.0, 0, 0
        self._is_silent = True
        self._top: tuple[float, int] | None = None
        self._tags_by_class: dict[int, int] = {}

    def add_window(self, window: Window) -> None:
        self.duration_seconds = window.end_seconds
        self.num_windows += 1
        self._is_silent = self._is_silent and float(np.ptp(window.waveform)) < _SILENCE

    def add_tags(self, classes: np.ndarray, probabilities: np.ndarray, tags: np.ndarray) -> None:
        best = int(probabilities.argmax())
        if self._top is None or probabilities[best] > self._top[0]:
            self._top = float(probabilities[best]), int(classes[best])
        for k in tags.tolist():
            self._tags_by_class[k] = self._tags_by_class.get(k, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        top_probability, top_class = self._top or (None, None)
        return {
            "duration_seconds": self.duration_seconds,
            "num_windows": self.num_windows,
            "num_tags": sum(self._tags_by_class.values()),
            "num_events": self.num_events,
            "top_class": top_class,
            "top_probability": top_probability,
            "is_silent": self._is_silent,
            "tags_by_class": self._tags_by_class,
        }
