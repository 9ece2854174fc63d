"""Labeled recordings -> the sounds in them, without the silence around."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastag import audio
from kerastag.audio.formats import find_audio_files
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.mixing import MIX_RATE, Excerpt

__all__ = ["RecordedBackground", "RecordedSounds", "find_sounds"]

_FRAME_SECONDS = 0.02
_SOUND_DB = -30.0  # below the loudest frame of the recording: what is quieter would drown in a scene's background
_PAUSE_SECONDS = 1.0  # a longer silence parts two sounds
_AS_LOUD_DB = -15.0  # a sound none of whose frames comes as near to the loudest is left out: a breath before the bark
_SILENT = 1e-5  # -100 dB, as `audio.measure_levels` has it

Part = tuple[float, float]


def find_sounds(waveform: Iterable[np.ndarray]) -> list[Part]:
    """A recording at `MIX_RATE`, in blocks -> where each sound in it begins and ends, seconds.

    A sound is what is at most 30 dB below the loudest 20 ms, without a pause longer than a second, if it comes within
    15 dB of them; 20 ms before and after belong to it.

    >>> silence, tone = np.zeros(88_200), np.sin(np.arange(44_100))
    >>> find_sounds([silence, tone, silence])
    [(1.98, 3.02)]
    """
    levels, seconds = _levels(waveform)
    loudest = levels.max(initial=0.0)
    if loudest <= _SILENT:
        return []
    heard = np.flatnonzero(levels >= loudest * 10 ** (_SOUND_DB / 20))
    runs = np.split(heard, np.flatnonzero(np.diff(heard) > _PAUSE_SECONDS / _FRAME_SECONDS) + 1)
    return [
        (
            round(max(0.0, float(run[0] - 1) * _FRAME_SECONDS), 3),
            round(min(seconds, float(run[-1] + 2) * _FRAME_SECONDS), 3),
        )
        for run in runs
        if levels[run].max() >= loudest * 10 ** (_AS_LOUD_DB / 20)
    ]


class RecordedSounds:
    """Recordings of one class each -> the sounds in them, for `Mixer`.

    Args:
        clips: the recordings.
        parts: where the sounds of each recording are, from `find_sounds`.

    Raises:
        ValueError: a class without recordings, or a recording without sounds or with several labels.
    """

    def __init__(self, clips: AudioList, parts: Sequence[Sequence[Part]]) -> None:
        self.clips, self.labels, self.parts = clips, clips.labels, [list(some) for some in parts]
        self._rows: list[list[int]] = [[] for _ in self.labels.names]
        for row, recording in enumerate(clips.recordings):
            if len(recording.labels) != 1:
                names = ", ".join(self.labels.names[k] for k in recording.labels)
                raise ValueError(f"{clips.source}: {recording.name} must have one label to be an event, has {names}")
            if not self.parts[row]:
                raise ValueError(f"{recording.path}: nothing but silence in it")
            self._rows[recording.labels[0]].append(row)
        if empty := [name for name, rows in zip(self.labels.names, self._rows, strict=True) if not rows]:
            raise ValueError(f"{clips.source}: no recording of {', '.join(empty)}")

    @classmethod
    def listen(cls, clips: AudioList, *, skip_corrupt: bool = False, progress: bool | None = None) -> RecordedSounds:
        """Recordings -> their sounds; every file is read once, in constant memory.

        Args:
            clips: recordings of one class each.
            skip_corrupt: leave out files that cannot be read or are silent, and name them on standard error.
            progress: show a progress bar; None where standard error is a terminal.

        Raises:
            ValueError: as for the class; or a file cannot be read.
        """
        heard = _each(clips.recordings, _parts_of, "listening", progress)
        if skip_corrupt:
            for _, error in heard:
                if error is not None:
                    print(f"left out: {error}", file=sys.stderr)
        elif first := next((error for _, error in heard if error is not None), None):
            raise first
        kept = [(recording, parts) for recording, (parts, _) in zip(clips.recordings, heard, strict=True) if parts]
        recordings = tuple(recording for recording, _ in kept)
        return cls(replace(clips, recordings=recordings), [parts for _, parts in kept])

    def only(self, rows: Sequence[int] | np.ndarray, split: str) -> RecordedSounds:
        """The sounds of some of the recordings.

        Raises:
            ValueError: a class has no recording among them; `split` names them.
        """
        some = tuple(self.clips.recordings[int(row)] for row in rows)
        source = f"{self.clips.source}, split {split}"
        return RecordedSounds(replace(self.clips, recordings=some, source=source), [self.parts[int(r)] for r in rows])

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        class_index = int(random.integers(len(self.labels)))
        row = int(random.choice(self._rows[class_index]))
        start, end = self.parts[row][int(random.integers(len(self.parts[row])))]
        seconds = round(min(end - start, max_seconds), 3)
        start = round(start + random.uniform(0, max(0.0, end - start - seconds)), 3)
        return Excerpt(class_index, self.clips.recordings[row].name, row, start, seconds)

    def waveform(self, excerpt: Excerpt) -> np.ndarray:
        path = self.clips.recordings[excerpt.number].path
        return audio.load(path, MIX_RATE, offset_seconds=excerpt.start_seconds, duration_seconds=excerpt.seconds)


class RecordedBackground:
    """A folder of recordings -> what sounds behind events, for `Mixer`; shorter recordings than a scene are repeated.

    Args:
        folder: of recordings, at any depth.
        part: which of `parts` equal parts of the recordings to take, so that splits do not share any.
        parts: how many parts there are.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: fewer recordings than parts, or a file that cannot be read or is silent.
    """

    def __init__(self, folder: str | os.PathLike[str], part: int = 0, parts: int = 1) -> None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"`background_dir`: {folder}: no such folder")
        found = find_audio_files(Path(folder))
        if len(found) < parts:
            raise ValueError(f"{folder}: must hold at least {parts} recordings, one a split, has {len(found)}")
        self._paths = [Path(folder) / path for path in found[part::parts]]
        recordings = [Recording(path, str(path), ()) for path in self._paths]
        read = _each(recordings, _seconds_of, "backgrounds", False)
        if first := next((error for _, error in read if error is not None), None):
            raise first
        self._seconds = [seconds for seconds, _ in read]

    def draw(self, random: np.random.Generator, seconds: float) -> Excerpt:
        row = int(random.integers(len(self._paths)))
        start = round(random.uniform(0, max(0.0, self._seconds[row] - seconds)), 3)
        return Excerpt(-1, self._paths[row].name, row, start, min(seconds, self._seconds[row]))

    def waveform(self, excerpt: Excerpt) -> np.ndarray:
        path = self._paths[excerpt.number]
        return audio.load(path, MIX_RATE, offset_seconds=excerpt.start_seconds, duration_seconds=excerpt.seconds)


def _levels(waveform: Iterable[np.ndarray]) -> tuple[np.ndarray, float]:
    """Blocks -> the root mean square of every 20 ms without its mean, and the length in seconds."""
    length, rest, total = round(_FRAME_SECONDS * MIX_RATE), np.zeros(0), 0
    levels: list[np.ndarray] = []
    for block in waveform:
        total += len(block)
        rest = np.concatenate([rest, block])
        whole = len(rest) // length * length
        levels.append(rest[:whole].reshape(-1, length).std(axis=1))
        rest = rest[whole:]
    if len(rest):
        levels.append(rest[None].std(axis=1))
    return np.concatenate([np.zeros(0), *levels]), total / MIX_RATE


def _parts_of(recording: Recording) -> list[Part]:
    parts = find_sounds(audio.read_blocks(recording.path, MIX_RATE))
    if not parts:
        raise ValueError(f"{recording.path}: nothing but silence in it")
    return parts


def _seconds_of(recording: Recording) -> float:
    levels, seconds = _levels(audio.read_blocks(recording.path, MIX_RATE))
    if levels.max() <= _SILENT:
        raise ValueError(f"{recording.path}: nothing but silence in it")
    return seconds


def _each(
    recordings: Sequence[Recording], read: Callable[[Recording], Any], what: str, progress: bool | None
) -> list[tuple[Any, Exception | None]]:
    """Each recording -> what `read` gives of it, or why it gives nothing; in threads."""
    from tqdm import tqdm

    def tried(recording: Recording) -> tuple[Any, Exception | None]:
        try:
            return read(recording), None
        except (ValueError, OSError) as error:
            return None, error

    disable = None if progress is None else not progress
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        results = threads.map(tried, recordings)
        return list(tqdm(results, what, len(recordings), unit="file", disable=disable, file=sys.stderr))
