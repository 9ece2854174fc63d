"""Recordings -> an HDF5 pack of 16-bit waveforms; `audio_pack_reader` says what is in it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from kerastag import audio
from kerastag.data.audio_lists import AudioList
from kerastag.data.audio_pack_reader import DEFAULT_SAMPLE_RATE, AudioPack, is_audio_pack
from kerastag.data.audio_pack_writer import FORMAT_VERSION, AudioPackReport, AudioPackWriter, to_int16

__all__ = [
    "DEFAULT_SAMPLE_RATE",
    "AudioPack",
    "AudioPackReport",
    "is_audio_pack",
    "pack_audio",
    "pack_waveforms",
    "to_int16",
]

_AT_A_TIME = 32  # clips decoded, then written: 20 MB of ten-second clips at 32 kHz


def pack_audio(
    recordings: AudioList,
    output: str | os.PathLike[str],
    *,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    clip_seconds: float = 10.0,
    skip_corrupt: bool = False,
    attributes: dict[str, Any] | None = None,
    progress: bool | None = None,
) -> AudioPackReport:
    """Labeled recordings -> one pack of their waveforms, in constant memory.

    It is written beside and renamed. A run that was stopped is gone on with by the same call, unless the list, a file's
    size or date, or an argument has changed.

    Args:
        recordings: from `kerastag.data.audio_lists`.
        output: the pack to write, `.h5` or `.hdf5`.
        sample_rate: of the stored waveforms, Hz.
        clip_seconds: length of a stored clip: longer recordings are cut, shorter ones end in zeros.
        skip_corrupt: leave out files that cannot be read, and list them, instead of stopping at the first.
        attributes: what to store beside: source, license and the like.
        progress: show a progress bar; None where standard error is a terminal.

    Raises:
        ValueError: an argument is out of range, a file cannot be read, or none can.
        OSError: the disk is full.
    """
    output = _checked_output(output, sample_rate, clip_seconds)
    samples = round(clip_seconds * sample_rate)

    def read(row: int) -> np.ndarray | str:
        try:
            # One sample more than a clip tells whether the recording is longer.
            seconds = clip_seconds + 1 / sample_rate
            return audio.load(recordings.recordings[row].path, sample_rate, duration_seconds=seconds)
        except (ValueError, OSError) as error:
            if not skip_corrupt:
                raise
            return str(error)

    fingerprint = _fingerprint(recordings, sample_rate, samples)
    writer = AudioPackWriter(output, recordings, sample_rate, samples, attributes or {}, fingerprint)
    return _fill(writer, recordings, read, recordings.missing, progress)


def pack_waveforms(
    recordings: AudioList,
    waveform: Callable[[int], np.ndarray],
    output: str | os.PathLike[str],
    *,
    sample_rate: int,
    clip_seconds: float,
    fingerprint: str,
    attributes: dict[str, Any] | None = None,
    progress: bool | None = None,
) -> AudioPackReport:
    """Waveforms that a function makes -> one pack of them, as `pack_audio` writes it.

    Args:
        recordings: names and labels of the clips; their paths are not opened.
        waveform: number of a clip -> its samples; always the same for the same number. It is called in threads.
        output, sample_rate, clip_seconds, attributes, progress: as for `pack_audio`.
        fingerprint: says what `waveform` makes; a stopped run is gone on with only under the same one.

    Raises:
        ValueError: an argument is out of range.
        OSError: the disk is full.
    """
    output = _checked_output(output, sample_rate, clip_seconds)
    samples = round(clip_seconds * sample_rate)
    writer = AudioPackWriter(output, recordings, sample_rate, samples, attributes or {}, fingerprint)
    return _fill(writer, recordings, waveform, (), progress)


def _fill(
    writer: AudioPackWriter,
    recordings: AudioList,
    waveform: Callable[[int], np.ndarray | str],
    missing: Sequence[str],
    progress: bool | None,
) -> AudioPackReport:
    """Every recording's waveform, made in threads, into the pack; text in its place says why there is none."""
    with writer:
        with (
            _progress_bar(len(recordings), writer.done, progress) as bar,
            ThreadPoolExecutor(os.cpu_count()) as threads,
        ):
            for start in range(writer.done, len(recordings), _AT_A_TIME):
                some = recordings.recordings[start : start + _AT_A_TIME]
                writer.append(some, list(threads.map(waveform, range(start, start + len(some)))))
                bar.update(len(some))
        return writer.finish(missing)


def _checked_output(output: str | os.PathLike[str], sample_rate: int, clip_seconds: float) -> Path:
    output = Path(output)
    if output.suffix not in (".h5", ".hdf5"):
        raise ValueError(f"`output` must end in .h5 or .hdf5, received {output}")
    if not audio.MIN_SAMPLE_RATE <= sample_rate <= audio.MAX_SAMPLE_RATE:
        raise ValueError(f"`sample_rate` must be {audio.MIN_SAMPLE_RATE} to {audio.MAX_SAMPLE_RATE}: {sample_rate}")
    if not 1 <= round(clip_seconds * sample_rate) < 2**31:
        raise ValueError(f"`clip_seconds` must be at least one sample, received {clip_seconds}")
    return output


def _progress_bar(total: int, done: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    disable = None if progress is None else not progress
    return tqdm(total=total, initial=done, unit="clip", dynamic_ncols=True, disable=disable, file=sys.stderr)


def _fingerprint(recordings: AudioList, sample_rate: int, samples: int) -> str:
    """What a pack is made of, so that a partial one is only gone on with from the same files."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} {sample_rate} {samples} {recordings.labels}".encode())
    for recording in recordings.recordings:
        with suppress(OSError):  # a file that has vanished is an error when its turn comes
            status = recording.path.stat()
            digest.update(f"{recording} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
