"""Write packs of weakly labeled soundscapes, with event tables of their ground truth beside them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from kerastag import audio
from kerastag._version import __version__
from kerastag.data.audio_list_reading import read_audio_list
from kerastag.data.audio_lists import AudioList, Excerpts, Recording, report_list
from kerastag.data.audio_pack_writer import pack_waveforms
from kerastag.data.other_sounds import OtherSounds
from kerastag.data.pack_layout import DEFAULT_SAMPLE_RATE
from kerastag.data.sound_sources import RecordedBackground, RecordedSounds, SyntheticSounds
from kerastag.data.soundscape_mixer import BackgroundSource, Soundscape, SoundscapeConfig, SoundscapeMixer, SoundSource
from kerastag.data.splits import DEFAULT_SPLITS, Split, assign_recordings
from kerastag.files import format_csv, write_atomically, write_json, write_text
from kerastag.labels import LabelSet
from kerastag.locks import hold_lock

DEFAULT_COUNT = 1000


@dataclass(frozen=True)
class SoundscapeReport:
    """Counts of a pack of soundscapes that was written.

    Attributes:
        pack: Path of the pack.
        events_file: Path of the event table beside it.
        num_soundscapes: Number of soundscapes.
        num_events: Number of events in all of them.
    """

    pack: Path
    events_file: Path
    num_soundscapes: int
    num_events: int

    def __str__(self) -> str:
        return f"{self.pack}: {self.num_soundscapes:,} soundscapes; {self.events_file}: {self.num_events:,} events"


def make_soundscapes(
    audio_dir: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    list_file: str | os.PathLike[str] | None = None,
    classes: LabelSet | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
    excerpts: Excerpts = "cut",
    splits: Sequence[Split] = DEFAULT_SPLITS,
    counts: Mapping[str, int] | None = None,
    config: SoundscapeConfig | None = None,
    seed: int = 0,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    background_dir: str | os.PathLike[str] | None = None,
    skip_corrupt: bool = False,
    with_audio: bool = False,
    with_jams: bool = False,
    progress: bool | None = None,
) -> list[SoundscapeReport]:
    """Mix the recordings of a folder into soundscapes, and write a pack and an event table for every split.

    Args:
        audio_dir: Folder with one folder per class, or base of the paths in `list_file`.
        output: Folder for `SPLIT.h5` and `SPLIT.tsv`.
        list_file: Table of labels, as in `read_audio_list`.
        classes: Classes and their order; None takes those that occur, sorted.
        path_column: Name of the column of file names, as in `read_audio_list`.
        label_column: Name of the column of labels, as in `read_audio_list`.
        separator: Text between the labels in a cell, as in `read_audio_list`.
        excerpts: What labels with a start and an end make of a recording, as in `read_audio_list`.
        splits: Part of the recordings for every split.
        counts: Number of soundscapes by split; 1,000 for splits that are not in it.
        config: Configuration of the soundscapes.
        seed: Seed, a non-negative integer. Soundscapes of one seed differ between sample rates in nothing else.
        sample_rate: Sample rate of the soundscapes, Hz.
        background_dir: Folder of background recordings; None for noise between pink and brown.
        skip_corrupt: Whether to skip recordings that cannot be read or are silent, and to list them on standard error.
        with_audio: Whether to write `SPLIT/NAME.wav` too.
        with_jams: Whether to write `SPLIT/NAME.jams` too.
        progress: Whether to show progress bars; None shows them if standard error is a terminal.

    Returns:
        Counts of every split.

    Raises:
        FileNotFoundError: A folder or the list does not exist.
        ValueError: An argument is out of range; a recording cannot be read, is silent or has several labels; or a class
            has no recording in a split.
        OSError: The disk is full.
    """
    counts, names = dict(counts or {}), [split.name for split in splits]
    if unknown := sorted(counts.keys() - set(names)):
        raise ValueError(f"`counts` must be of the splits {', '.join(names)}; received: {unknown[0]!r}")
    clips = read_audio_list(
        audio_dir,
        list_file,
        classes=classes,
        path_column=path_column,
        label_column=label_column,
        separator=separator,
        excerpts=excerpts,
    )
    report_list(clips)
    sounds = RecordedSounds.from_recordings(clips, skip_corrupt=skip_corrupt, progress=progress)
    rows = assign_recordings(sounds.clips, splits, seed)
    # All splits are checked before the first one is written.
    sounds_of_split = {split.name: sounds.select(rows[split.name], split.name) for split in splits}
    backgrounds: dict[str, BackgroundSource] = {}
    if background_dir is not None:
        parts = RecordedBackground(background_dir, skip_corrupt=skip_corrupt).split(len(splits))
        backgrounds = {split.name: part for split, part in zip(splits, parts, strict=True)}
    return [
        write_soundscapes(
            sounds_of_split[split.name],
            output,
            split.name,
            counts.get(split.name, DEFAULT_COUNT),
            sample_rate=sample_rate,
            config=config,
            seed=seed,
            background=backgrounds.get(split.name),
            attributes={
                "source": f"soundscapes of {clips.source}, folds {','.join(split.folds) or 'none'}, seed {seed}"
            },
            with_audio=with_audio,
            with_jams=with_jams,
            progress=progress,
        )
        for split in splits
    ]


def write_synthetic_soundscapes(
    folder: str | os.PathLike[str],
    *,
    sample_rate: int,
    counts: Mapping[str, int] | None = None,
    config: SoundscapeConfig | None = None,
    seed: int = 0,
    with_audio: bool = False,
    with_jams: bool = False,
    progress: bool | None = False,
) -> dict[str, SoundscapeReport]:
    """Mix synthetic sounds into soundscapes, and write a pack and an event table for every split.

    Args:
        folder: Folder for `SPLIT.h5` and `SPLIT.tsv`.
        sample_rate: Sample rate of the soundscapes, Hz.
        counts: Number of soundscapes by split; None for 300 of `bal_train` and 120 of `eval`.
        config: Configuration of the soundscapes.
        seed: Seed, a non-negative integer.
        with_audio: Whether to write `SPLIT/NAME.wav` too.
        with_jams: Whether to write `SPLIT/NAME.jams` too.
        progress: Whether to show progress bars; None shows them if standard error is a terminal.

    Returns:
        Counts of every split, by its name.

    Raises:
        ValueError: An argument is out of range.
    """
    counts = {"bal_train": 300, "eval": 120} if counts is None else counts
    return {
        split: write_soundscapes(
            SyntheticSounds(),
            folder,
            split,
            count,
            sample_rate=sample_rate,
            config=config,
            seed=seed,
            attributes={"source": f"kerastag, synthesized, seed {seed}", "license": "CC0-1.0"},
            with_audio=with_audio,
            with_jams=with_jams,
            progress=progress,
        )
        for split, count in counts.items()
    }


def parse_counts(texts: Iterable[str], splits: Sequence[Split] = DEFAULT_SPLITS) -> dict[str, int]:
    """Parse numbers of soundscapes: `NAME=N`, for a split, or `N`, for all splits that are not named.

    >>> parse_counts(["500", "eval=200"])
    {'bal_train': 500, 'eval': 200}
    """
    names = [split.name for split in splits]
    counts = dict.fromkeys(names, DEFAULT_COUNT)
    for text in sorted(texts, key=lambda text: "=" in text):
        name, _, number = text.rpartition("=")
        if not number.isdecimal() or (name and name not in names):
            raise ValueError(f"`count` must be N or NAME=N with NAME one of {', '.join(names)}; received: {text!r}")
        counts |= {name: int(number)} if name else dict.fromkeys(names, int(number))
    return counts


def write_soundscapes(
    sounds: SoundSource,
    folder: str | os.PathLike[str],
    split: str,
    count: int,
    *,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    config: SoundscapeConfig | None = None,
    seed: int = 0,
    background: BackgroundSource | None = None,
    attributes: Mapping[str, Any] | None = None,
    with_audio: bool = False,
    with_jams: bool = False,
    progress: bool | None = None,
) -> SoundscapeReport:
    """Write a pack of soundscapes `SPLIT.h5` and the event table `SPLIT.tsv`, in the format of DCASE.

    An interrupted call is resumed by the same call. One process at a time can write a split.

    Args:
        sounds: Source of the events.
        folder: Folder to write to.
        split: Name of the split.
        count: Number of soundscapes, at least 1.
        sample_rate: Sample rate of the soundscapes, Hz.
        config: Configuration of the soundscapes.
        seed: Seed, a non-negative integer.
        background: Source of the background; None for noise between pink and brown.
        attributes: Attributes to store in the pack.
        with_audio: Whether to write `SPLIT/NAME.wav` too.
        with_jams: Whether to write `SPLIT/NAME.jams` too.
        progress: Whether to show a progress bar; None shows it if standard error is a terminal.

    Returns:
        Counts of the pack.

    Raises:
        ValueError: An argument is out of range.
        OSError: The disk is full.
        BlockingIOError: Another process is writing the split.
    """
    if not audio.MIN_SAMPLE_RATE <= sample_rate <= audio.MAX_SAMPLE_RATE:
        allowed = f"[{audio.MIN_SAMPLE_RATE}, {audio.MAX_SAMPLE_RATE}] Hz"
        raise ValueError(f"`sample_rate` must be in {allowed}; received: {sample_rate}")
    if count < 1:
        raise ValueError(f"`count` must be at least 1; received: {count} for {split}")
    other_sounds = OtherSounds() if config is not None and config.max_other_sounds else None
    mixer = SoundscapeMixer(sounds, config, seed=seed, split=split, background=background, other_sounds=other_sounds)
    soundscapes = [mixer.compose(i) for i in range(count)]
    names = [f"{split}_{i:06d}.wav" for i in range(count)]
    folder = Path(folder)
    pack, events_file = folder / f"{split}.h5", folder / f"{split}.tsv"

    def make_waveform(i: int) -> np.ndarray:
        waveform, path = mixer.render(soundscapes[i], sample_rate), folder / split / names[i]
        if with_audio:
            write_atomically(path, lambda file: soundfile.write(file, waveform, sample_rate, "PCM_16"))
        if with_jams:
            write_json(path.with_suffix(".jams"), _make_jams(soundscapes[i], names[i], mixer))
        return waveform

    # The lock of the pack is held by its writer; this one is of the table and the recordings, too.
    with hold_lock(folder / split):
        # The old table is removed before the new pack exists: a pack with another's table would give wrong metrics.
        events_file.unlink(missing_ok=True)
        clips = tuple(Recording(folder / name, name, s.labels) for name, s in zip(names, soundscapes, strict=True))
        pack_waveforms(
            AudioList(clips, sounds.labels, (), split),
            make_waveform,
            pack,
            sample_rate=sample_rate,
            clip_seconds=mixer.config.soundscape_seconds,
            fingerprint=hashlib.sha256(repr((soundscapes, sample_rate, with_audio, with_jams)).encode()).hexdigest(),
            attributes={**(attributes or {}), "seed": seed, "config": repr(mixer.config)},
            progress=progress,
        )
        rows = [("filename", "onset", "offset", "event_label")]
        for name, soundscape in zip(names, soundscapes, strict=True):
            for event in soundscape.events:
                label = sounds.labels.names[event.excerpt.class_index]
                rows.append((name, f"{event.onset_seconds:.3f}", f"{event.offset_seconds:.3f}", label))
        write_text(events_file, format_csv(rows, delimiter="\t"))
    return SoundscapeReport(pack, events_file, count, sum(len(soundscape.events) for soundscape in soundscapes))


def _make_jams(soundscape: Soundscape, name: str, mixer: SoundscapeMixer) -> dict[str, Any]:
    """Return a soundscape as JAMS: one annotation with an open vocabulary, and the details in sandboxes."""
    seconds, labels = mixer.config.soundscape_seconds, mixer.sounds.labels.names
    made_by = f"kerastag {__version__}"
    data, details = [], []
    for event in soundscape.events:
        excerpt = event.excerpt
        times = {"time": event.onset_seconds, "duration": excerpt.seconds}
        data.append({**times, "value": labels[excerpt.class_index], "confidence": 1.0})
        details.append({"source": excerpt.source, "source_start": excerpt.start_seconds, "snr_db": event.snr_db})
    annotation = {
        "namespace": "segment_open",
        "data": data,
        "annotation_metadata": {"annotation_tools": made_by, "data_source": "mixed", "version": ""},
        "sandbox": {"events": details},
        "time": 0,
        "duration": seconds,
    }
    metadata = {"title": name, "artist": "", "release": "", "duration": seconds, "identifiers": {}}
    return {
        "annotations": [annotation],
        "file_metadata": {**metadata, "jams_version": "0.3.4"},
        "sandbox": {"background_db": soundscape.background_db, "made_by": made_by},
    }
