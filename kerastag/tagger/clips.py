"""The parts of a recording in which something was detected, as audio files."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import soundfile

from kerastag import audio
from kerastag.files import move_file, temporary_folder
from kerastag.tagger.tagged_recording import TaggedEvent

__all__ = ["CLIP_FORMATS", "write_clips"]

CLIP_FORMATS = ("flac", "wav")
"""Formats of clips."""
_MAX_NAME_LENGTH = 60


def write_clips(
    source: str | os.PathLike[str],
    events: Sequence[TaggedEvent],
    prefix: Path,
    sample_rate: int,
    format: str = "flac",
    channel: str | int = "mean",
) -> list[Path]:
    """Write the part of a recording that belongs to each event to a file of its own, in constant memory.

    Clips are mono, with 16 bits and the sample rate of the recording. The name of a clip is the prefix, onset and
    offset in seconds and the class: `a.wav_000012.800-000015.360_Dog_bark.flac`. Existing files are replaced.

    Args:
        source: Path of an audio file.
        events: Events sorted by onset.
        prefix: Folder and beginning of the names of the clips.
        sample_rate: Sample rate of the clips of a recording that libsndfile cannot open, Hz.
        format: `"flac"` or `"wav"`.
        channel: What to make of several channels, as in `kerastag.audio.load`.

    Returns:
        Paths of the clips, in the order in which they end.
    """
    if not events:
        return []
    with contextlib.suppress(soundfile.SoundFileError):  # Otherwise ffmpeg decodes it.
        sample_rate = soundfile.info(source).samplerate
    paths: list[Path] = []
    waiting = deque(events)
    active: list[tuple[TaggedEvent, soundfile.SoundFile]] = []
    position = 0

    def finish(end: float) -> None:
        for event, file in active:
            if round(event.offset_seconds * sample_rate) <= end:
                file.close()
                paths.append(prefix.with_name(Path(file.name).name))
                move_file(Path(file.name), paths[-1])
        active[:] = [(event, file) for event, file in active if not file.closed]

    with temporary_folder(prefix) as folder:
        try:
            for block in audio.read_blocks(source, sample_rate, channel=channel):
                while waiting and round(waiting[0].onset_seconds * sample_rate) < position + len(block):
                    event = waiting.popleft()
                    path = folder / _create_name(prefix.name, event, format)
                    active.append((event, soundfile.SoundFile(path, "w", sample_rate, 1, "PCM_16", format=format)))
                for event, file in active:
                    first = max(0, round(event.onset_seconds * sample_rate) - position)
                    file.write(block[first : round(event.offset_seconds * sample_rate) - position])
                position += len(block)
                finish(position)
            finish(float("inf"))
        finally:
            for _, file in active:
                file.close()
    return paths


def _create_name(prefix: str, event: TaggedEvent, format: str) -> str:
    class_name = re.sub(r"[^\w-]+", "_", event.tag.name).strip("_") or "sound"
    times = f"{event.onset_seconds:010.3f}-{event.offset_seconds:010.3f}"
    return f"{prefix}_{times}_{class_name[:_MAX_NAME_LENGTH]}.{format}"
