"""Sources of sounds for soundscapes: labeled recordings, background recordings, and synthetic sounds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kerastag import audio
from kerastag.audio.formats import find_audio_files
from kerastag.data.audio_lists import AudioList, Recording, report_skipped
from kerastag.data.soundscape_mixer import MIX_SAMPLE_RATE, Excerpt
from kerastag.labels import LabelSet
from kerastag.rng import generator

_FRAME_SECONDS = 0.02
_SOUND_DB = -30.0  # below the loudest frame of the recording; a quieter frame would be inaudible over a background
_PAUSE_SECONDS = 1.0  # A longer pause separates two sounds.
_PEAK_DB = -15.0  # A sound whose loudest frame is further below the recording's is skipped: a breath before the bark.
_SILENCE = 1e-5  # -100 dB, as in `audio.measure_levels`
_SYNTHETIC_SECONDS = 0.4, 3.0  # length of the shortest and of the longest synthetic sound

Span = tuple[float, float]
"""Start and end within a recording, seconds."""


def find_sounds(blocks: Iterable[np.ndarray]) -> list[Span]:
    """Find the sounds in a recording.

    A sound consists of frames of 20 ms that are at most 30 dB below the loudest frame, without a pause of more than one
    second, and reaches within 15 dB of the loudest frame. One frame before and one after it belong to it.

    Args:
        blocks: Consecutive blocks of the waveform at `MIX_SAMPLE_RATE`.

    Returns:
        Start and end of every sound, seconds.

    >>> silence, tone = np.zeros(88_200), np.sin(np.arange(44_100))
    >>> find_sounds([silence, tone, silence])
    [(1.98, 3.02)]
    """
    levels, seconds = _measure_levels(blocks)
    loudest = levels.max(initial=0.0)
    if loudest <= _SILENCE:
        return []
    audible = np.flatnonzero(levels >= loudest * 10 ** (_SOUND_DB / 20))
    runs = np.split(audible, np.flatnonzero(np.diff(audible) > _PAUSE_SECONDS / _FRAME_SECONDS) + 1)
    loud_runs = [run for run in runs if levels[run].max() >= loudest * 10 ** (_PEAK_DB / 20)]
    spans = [(float(run[0] - 1) * _FRAME_SECONDS, float(run[-1] + 2) * _FRAME_SECONDS) for run in loud_runs]
    return [(round(max(0.0, start), 3), round(min(seconds, end), 3)) for start, end in spans]


class RecordedSounds:
    """Sounds in recordings of one class each, without the silence around them, for `SoundscapeMixer`.

    Args:
        clips: Recordings.
        spans: Start and end of the sounds of every recording, as `find_sounds` returns them.

    Raises:
        ValueError: A class has no recording, or a recording has no sound or several labels.
    """

    def __init__(self, clips: AudioList, spans: Sequence[Sequence[Span]]) -> None:
        self.clips, self.labels, self.spans = clips, clips.labels, [list(recording_spans) for recording_spans in spans]
        self._rows: list[list[int]] = [[] for _ in self.labels.names]
        for row, recording in enumerate(clips.recordings):
            if len(recording.labels) != 1:
                names = ", ".join(self.labels.names[k] for k in recording.labels)
                raise ValueError(f"{clips.source}: {recording.name}: must have one label; received: {names}")
            if not self.spans[row]:
                raise ValueError(f"{recording.path}: must not be silent")
            self._rows[recording.labels[0]].append(row)
        if empty := [name for name, rows in zip(self.labels.names, self._rows, strict=True) if not rows]:
            raise ValueError(f"{clips.source}: no recording of {', '.join(empty)}")

    @classmethod
    def from_recordings(
        cls, clips: AudioList, *, skip_corrupt: bool = False, progress: bool | None = None
    ) -> RecordedSounds:
        """Find the sounds in recordings. Every file is read once, in constant memory.

        Args:
            clips: Recordings of one class each.
            skip_corrupt: Whether to skip files that cannot be read or are silent, and to list them on standard error.
            progress: Whether to show a progress bar; None shows it if standard error is a terminal.

        Raises:
            ValueError: A file cannot be read, or the class refuses the recordings.
        """

        def find_sounds_in(recording: Recording) -> list[Span]:
            if not (spans := find_sounds(recording.read_blocks(MIX_SAMPLE_RATE))):
                raise ValueError(f"{recording.path}: must not be silent")
            start = recording.start_seconds
            return [(round(start + onset, 3), round(start + offset, 3)) for onset, offset in spans]

        spans = _read_all(clips.recordings, find_sounds_in, progress, skip_corrupt)
        recordings = tuple(recording for recording, its_spans in zip(clips.recordings, spans, strict=True) if its_spans)
        return cls(replace(clips, recordings=recordings), [its_spans for its_spans in spans if its_spans])

    def select(self, rows: Sequence[int] | np.ndarray, split: str) -> RecordedSounds:
        """Select the sounds of some recordings by row number; `split` names them in error messages."""
        recordings = tuple(self.clips.recordings[int(row)] for row in rows)
        clips = replace(self.clips, recordings=recordings, source=f"{self.clips.source}, split {split}")
        return RecordedSounds(clips, [self.spans[int(row)] for row in rows])

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        """Draw a class, a recording of it, one of its sounds, and an excerpt of at most `max_seconds`."""
        class_index = int(random.integers(len(self.labels)))
        row = int(random.choice(self._rows[class_index]))
        start, end = self.spans[row][random.integers(len(self.spans[row]))]
        seconds = round(min(end - start, max_seconds), 3)
        start = round(start + random.uniform(0, max(0.0, end - start - seconds)), 3)
        return Excerpt(class_index, self.clips.recordings[row].name, row, start, seconds)

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        return _load_excerpt(self.clips.recordings[excerpt.number].path, excerpt)


class RecordedBackground:
    """Background recordings of a folder, for `SoundscapeMixer`.

    Args:
        folder: Folder of recordings, at any depth.
        skip_corrupt: Whether to skip files that cannot be read or are silent, and to list them on standard error.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The folder holds no recording, or a file cannot be read or is silent.
    """

    def __init__(self, folder: str | os.PathLike[str], *, skip_corrupt: bool = False) -> None:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"`background_dir`: {folder}: no such folder")
        paths = [Path(folder) / path for path in find_audio_files(Path(folder))]

        def measure_seconds(path: Path) -> float:
            levels, seconds = _measure_levels(audio.read_blocks(path, MIX_SAMPLE_RATE))
            if levels.max() <= _SILENCE:
                raise ValueError(f"{path}: must not be silent")
            return seconds

        seconds = _read_all(paths, measure_seconds, progress=False, skip_corrupt=skip_corrupt)
        read = zip(paths, seconds, strict=True)
        self._spans = [(path, 0.0, length) for path, length in read if length is not None]
        if not self._spans:
            raise ValueError(f"{folder}: must hold a recording that can be read; received: {len(paths)} files")

    def split(self, num_parts: int) -> list[RecordedBackground]:
        """Return parts that share no sound: other recordings, or other parts of each where there are too few."""
        parts = [copy(self) for _ in range(num_parts)]
        for number, part in enumerate(parts):
            if len(self._spans) >= num_parts:
                part._spans = self._spans[number::num_parts]
            else:
                part._spans = [
                    (path, number / num_parts * end, (number + 1) / num_parts * end) for path, _, end in self._spans
                ]
        return parts

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        """Draw a recording and an excerpt of it, `max_seconds` long or the whole of a shorter recording."""
        row = int(random.integers(len(self._spans)))
        path, first, end = self._spans[row]
        start = round(random.uniform(first, max(first, end - max_seconds)), 3)
        return Excerpt(-1, path.name, row, start, min(max_seconds, end - first))

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        return _load_excerpt(self._spans[excerpt.number][0], excerpt)


class SyntheticSounds:
    """Synthetic sounds of five classes, all of them different, of 0.4 to 3 seconds, for `SoundscapeMixer`.

    >>> from kerastag.data import SyntheticSounds
    >>> sounds = SyntheticSounds()
    >>> excerpt = sounds.draw(np.random.default_rng(0), 5.0)
    >>> sounds.labels.names[excerpt.class_index], sounds.load_waveform(excerpt).shape
    ('sweeps', (48554,))
    """

    def __init__(self) -> None:
        self.labels = LabelSet.from_names(SYNTHETIC_EVENTS)

    def draw(self, random: np.random.Generator, max_seconds: float) -> Excerpt:
        """Draw a class, a length and a seed."""
        class_index = int(random.integers(len(self.labels)))
        seconds = round(random.uniform(*np.minimum(_SYNTHETIC_SECONDS, max_seconds)), 3)
        return Excerpt(class_index, self.labels.names[class_index], int(random.integers(2**63)), 0.0, seconds)

    def load_waveform(self, excerpt: Excerpt) -> np.ndarray:
        times = np.arange(round(excerpt.seconds * MIX_SAMPLE_RATE)) / MIX_SAMPLE_RATE
        return SYNTHETIC_EVENTS[self.labels.names[excerpt.class_index]](times, generator(excerpt.number))


def _make_chirps(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize short rising tones, as of a bird."""
    period, low, rise = random.uniform(0.12, 0.25), random.uniform(2000, 3500), random.uniform(4000, 9000)
    phase = t % period
    return np.sin(2 * np.pi * (low * phase + rise * phase**2)) * np.exp(-0.5 * ((phase / period - 0.4) / 0.15) ** 2)


def _make_clicks(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize short bursts of a ringing body, as of a ratchet."""
    phase = t % random.uniform(0.08, 0.2)
    return np.exp(-phase * random.uniform(200, 500)) * np.sin(2 * np.pi * random.uniform(1500, 3500) * phase)


def _make_bursts(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize noise that swells and fades, as of steam."""
    envelope = 0.5 - 0.5 * np.cos(2 * np.pi * t * random.uniform(1, 2.5) + random.uniform(0, 2 * np.pi))
    return random.standard_normal(len(t)) * envelope**2


def _make_hums(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize a low tone with harmonics, as of a transformer."""
    base, partials = random.uniform(90, 250), np.arange(1, 9)[:, None]
    phases = random.uniform(0, 2 * np.pi, partials.shape)
    return (np.sin(2 * np.pi * base * partials * t + phases) / partials).sum(axis=0)


def _make_sweeps(t: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Synthesize a tone that rises and falls, as of a siren."""
    middle, width, speed = random.uniform(700, 1200), random.uniform(250, 500), random.uniform(0.4, 1.2)
    return np.sin(2 * np.pi * middle * t + width / speed * np.sin(2 * np.pi * speed * t + random.uniform(0, 6)))


SYNTHETIC_EVENTS: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "bursts": _make_bursts,
    "chirps": _make_chirps,
    "clicks": _make_clicks,
    "hums": _make_hums,
    "sweeps": _make_sweeps,
}
"""Functions that synthesize the samples of a sound at given times, seconds, by name of the class."""


def _measure_levels(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, float]:
    """Return the standard deviation of every frame, and the length of the recording in seconds."""
    length, rest, total = round(_FRAME_SECONDS * MIX_SAMPLE_RATE), np.zeros(0), 0
    levels = [np.zeros(0)]
    for block in blocks:
        total += len(block)
        rest = np.concatenate([rest, block])
        whole = len(rest) // length * length
        levels.append(rest[:whole].reshape(-1, length).std(axis=1))
        rest = rest[whole:]
    if len(rest):
        levels.append(rest[None].std(axis=1))
    return np.concatenate(levels), total / MIX_SAMPLE_RATE


def _load_excerpt(path: Path, excerpt: Excerpt) -> np.ndarray:
    return audio.load(path, MIX_SAMPLE_RATE, offset_seconds=excerpt.start_seconds, duration_seconds=excerpt.seconds)


def _read_all(
    recordings: Sequence[Any], read: Callable[[Any], Any], progress: bool | None, skip_corrupt: bool = False
) -> list[Any]:
    """Read recordings in threads, and return their results; None for those that are skipped."""
    from tqdm import tqdm

    def try_to_read(recording: Any) -> tuple[Any, Exception | None]:
        try:
            return read(recording), None
        except (ValueError, OSError) as error:
            return None, error

    disable = None if progress is None else not progress
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        options: dict[str, Any] = {"unit": "file", "disable": disable, "file": sys.stderr}
        results = list(tqdm(threads.map(try_to_read, recordings), "finding sounds", len(recordings), **options))
    errors = [error for _, error in results if error is not None]
    if errors and not skip_corrupt:
        raise errors[0]
    report_skipped(errors, len(recordings))
    return [result for result, _ in results]
