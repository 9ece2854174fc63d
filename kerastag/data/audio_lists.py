"""Labeled recordings, and lists of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from kerastag import audio
from kerastag.labels import LabelSet

Excerpts = Literal["cut", "mask", "whole"]
"""What labels with a start and an end make of a recording."""


@dataclass(frozen=True)
class Recording:
    """A labeled audio file, or a part of one.

    Attributes:
        path: Path of the file.
        name: Name in a pack: the path below the folder; for a part of a file, with its start and end.
        labels: Indices of its classes, at least one unless it has negative labels.
        fold: Fold of a cross-validation; empty if the list has none.
        start_seconds: Start of the part.
        end_seconds: End of the part; None for the whole file.
        labeled_parts: Starts and ends of the parts of the file outside of which it is silenced; none for no silence.
        negatives: Indices of the classes that it does not have by its negative labels.
    """

    path: Path
    name: str
    labels: tuple[int, ...]
    fold: str = ""
    start_seconds: float = 0.0
    end_seconds: float | None = None
    labeled_parts: tuple[tuple[float, float], ...] = ()
    negatives: tuple[int, ...] = ()

    @property
    def source(self) -> str:
        """Name of what must stay in one split: the file of a part, or else the recording itself."""
        return self.name if self.end_seconds is None else str(self.path)

    def load_waveform(
        self, sample_rate: int, max_seconds: float | None = None, channel: str | int = "mean"
    ) -> np.ndarray:
        """Load the waveform like `kerastag.audio.load`, at most `max_seconds` of it."""
        return np.concatenate(list(self.read_blocks(sample_rate, max_seconds, channel)))

    def read_blocks(
        self,
        sample_rate: int,
        max_seconds: float | None = None,
        channel: str | int = "mean",
        block_seconds: float = 10.0,
    ) -> Iterator[np.ndarray]:
        """Read the waveform like `kerastag.audio.read_blocks`, in constant memory."""
        seconds = [max_seconds, None if self.end_seconds is None else self.end_seconds - self.start_seconds]
        duration = min((s for s in seconds if s is not None), default=None)
        options = {"offset_seconds": self.start_seconds, "duration_seconds": duration, "channel": channel}
        blocks = audio.read_blocks(self.path, sample_rate, block_seconds, **options)  # type: ignore[arg-type]
        parts = np.rint(np.reshape(self.labeled_parts, (-1, 2)) * sample_rate).astype(int)
        position = 0
        for block in blocks:
            if len(parts):
                is_labeled = np.zeros(len(block), bool)
                for start, end in np.clip(parts - position, 0, None):
                    is_labeled[start:end] = True
                block = np.where(is_labeled, block, np.float32(0))
            yield block
            position += len(block)


@dataclass(frozen=True)
class AudioList:
    """Labeled recordings and their classes.

    Attributes:
        recordings: Recordings in the order of the list, or sorted by name.
        labels: Classes.
        missing: Names in the list for which there is no file.
        source: Path of the list or folder, for messages.
        format: Format of the list that was recognized; empty for folders.
        num_unlabeled: Number of recordings in the list that are left out because they have no label.
    """

    recordings: tuple[Recording, ...]
    labels: LabelSet
    missing: tuple[str, ...]
    source: str
    format: str = ""
    num_unlabeled: int = 0

    def __len__(self) -> int:
        return len(self.recordings)

    def __str__(self) -> str:
        num_files = len({recording.path for recording in self.recordings})
        num_parts = sum(recording.end_seconds is not None for recording in self.recordings)
        counts = [(num_parts, "labeled part"), (num_files, "recording"), (len(self.labels), "class")]
        texts = [f"{n:,} {noun}{'' if n == 1 else 'es' if noun == 'class' else 's'}" for n, noun in counts if n]
        if self.num_unlabeled:
            texts.append(f"{self.num_unlabeled:,} without a label left out")
        return f"{self.source}: {self.format or 'one folder per class'}: {', '.join(texts)}"

    def drop_empty_classes(self) -> AudioList:
        """Return the list with only those classes that have a recording."""
        present = sorted({index for recording in self.recordings for index in recording.labels})
        new_indices = {index: number for number, index in enumerate(present)}
        names, mids = ([values[index] for index in present] for values in (self.labels.names, self.labels.mids))
        recordings = tuple(
            replace(
                recording,
                labels=tuple(new_indices[index] for index in recording.labels),
                negatives=tuple(new_indices[index] for index in recording.negatives if index in new_indices),
            )
            for recording in self.recordings
        )
        return replace(self, recordings=recordings, labels=LabelSet(tuple(mids), tuple(names)))

    @property
    def targets(self) -> np.ndarray:
        """Labels, bool `(clips, classes)`."""
        targets = np.zeros((len(self), len(self.labels)), bool)
        for row, recording in enumerate(self.recordings):
            targets[row, list(recording.labels)] = True
        return targets

    @property
    def negatives(self) -> np.ndarray:
        """Negative labels, bool `(clips, classes)`."""
        return replace(self, recordings=tuple(replace(r, labels=r.negatives) for r in self.recordings)).targets


def report_list(clips: AudioList) -> None:
    """Name the format of a list and the recordings that are missing on standard error."""
    if clips.format:
        print(clips, file=sys.stderr)
    for name in clips.missing:
        print(f"missing: {name}", file=sys.stderr)


def report_skipped(errors: Sequence[object], total: int) -> None:
    """Name the recordings that are left out on standard error, by their errors, and count them."""
    for error in errors:
        print(f"skipped: {error}", file=sys.stderr)
    if errors:
        print(f"skipped: {len(errors)} of {total} recordings", file=sys.stderr)
