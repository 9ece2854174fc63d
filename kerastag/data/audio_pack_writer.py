"""Write packs of waveforms, from recordings or from a function that makes them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kerastag import audio
from kerastag.audio.channels import parse_channel
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.pack_layout import DEFAULT_SAMPLE_RATE, SCAN_ROWS
from kerastag.data.resumable_writer import FORMAT_VERSION, Column, ResumableWriter

_CHUNK_ROWS = 1024
_BLOCK_CLIPS = 32  # clips decoded, then written: 20 MB of ten-second clips at 32 kHz
_CHECKPOINT_SECONDS = 5.0  # A checkpoint waits for the disk.


@dataclass(frozen=True)
class AudioPackReport:
    """Counts of a pack of waveforms that was written.

    Attributes:
        path: Path of the pack.
        num_clips: Number of clips in it.
        num_classes: Number of classes.
        truncated: Number of recordings longer than a clip, of which only the beginning is in the pack.
        missing: Names in the list of recordings for which there is no file.
        skipped: Error messages of the files that cannot be read.
        lost_classes: Names of the classes whose recordings are all among these files.
    """

    path: Path
    num_clips: int
    num_classes: int
    truncated: int
    missing: tuple[str, ...]
    skipped: tuple[str, ...]
    lost_classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        problems = {"truncated": self.truncated, "missing": len(self.missing), "skipped": len(self.skipped)}
        counts = "".join(f", {number:,} {name}" for name, number in problems.items() if number)
        lost = f"; no recording can be read of {', '.join(self.lost_classes)}" if self.lost_classes else ""
        return f"{self.path}: {self.num_clips:,} clips, {self.num_classes} classes{counts}{lost}"


def pack_audio(
    recordings: AudioList,
    output: str | os.PathLike[str],
    *,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    clip_seconds: float = 10.0,
    channel: str | int = "mean",
    skip_corrupt: bool = False,
    progress: bool | None = None,
) -> AudioPackReport:
    """Write the waveforms of labeled recordings into a pack, in constant memory.

    An interrupted call is resumed by the same call, unless the list, the size or time of a file or an argument has
    changed.

    Args:
        recordings: Recordings, as `read_audio_list` returns them.
        output: Path of the pack to write, which ends in `.h5` or `.hdf5`.
        sample_rate: Sample rate of the stored waveforms, Hz.
        clip_seconds: Length of a stored clip, seconds; longer recordings are truncated, shorter ones padded with zeros.
        channel: What to make of several channels, as in `kerastag.audio.load`.
        skip_corrupt: Whether to skip files that cannot be read, and to list them, instead of stopping at the first.
        progress: Whether to show a progress bar; None shows it if standard error is a terminal.

    Returns:
        Counts of the pack.

    Raises:
        ValueError: An argument is out of range, a file cannot be read, or none of them can.
        OSError: The disk is full.
    """

    def load_clip(number: int) -> np.ndarray | str:
        try:
            # One sample more than a clip shows whether the recording is longer.
            seconds = clip_seconds + 1 / sample_rate
            return recordings.recordings[number].load_waveform(sample_rate, seconds, channel)
        except (ValueError, OSError) as error:
            if not skip_corrupt:
                raise
            return str(error)

    channel = parse_channel(channel)
    samples = round(clip_seconds * sample_rate)
    settings = f"{FORMAT_VERSION} {sample_rate} {samples} {channel} {skip_corrupt} {recordings.labels}"
    digest = hashlib.sha256(settings.encode())
    for recording in recordings.recordings:
        with suppress(OSError):  # A file that has vanished raises an error when it is loaded.
            status = recording.path.stat()
            digest.update(f"{recording} {status.st_size} {status.st_mtime_ns}\n".encode())
    return pack_waveforms(
        recordings,
        load_clip,
        output,
        sample_rate=sample_rate,
        clip_seconds=clip_seconds,
        fingerprint=digest.hexdigest(),
        progress=progress,
    )


def pack_waveforms(
    recordings: AudioList,
    make_waveform: Callable[[int], np.ndarray | str],
    output: str | os.PathLike[str],
    *,
    sample_rate: int,
    clip_seconds: float,
    fingerprint: str,
    attributes: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> AudioPackReport:
    """Write waveforms that a function makes into a pack, in constant memory.

    Args:
        recordings: Names and labels of the clips; their files are not opened.
        make_waveform: Function that takes the number of a clip and returns its samples, the same ones each time, or an
            error message to skip it. It is called in several threads.
        output: Path of the pack to write, which ends in `.h5` or `.hdf5`.
        sample_rate: Sample rate of the waveforms, Hz.
        clip_seconds: Length of a stored clip, seconds.
        fingerprint: Text that identifies the waveforms; an interrupted call is resumed only with the same one.
        attributes: Attributes to store: source, license and the like.
        progress: Whether to show a progress bar; None shows it if standard error is a terminal.

    Returns:
        Counts of the pack.

    Raises:
        ValueError: An argument is out of range, or all clips are skipped.
        OSError: The disk is full.
    """
    from tqdm import tqdm

    if Path(output).suffix not in (".h5", ".hdf5"):
        raise ValueError(f"`output` must end in .h5 or .hdf5; received: {output}")
    if not audio.MIN_SAMPLE_RATE <= sample_rate <= audio.MAX_SAMPLE_RATE:
        allowed = f"{audio.MIN_SAMPLE_RATE}, {audio.MAX_SAMPLE_RATE}"
        raise ValueError(f"`sample_rate` must be in [{allowed}]; received: {sample_rate}")
    samples = round(clip_seconds * sample_rate)
    if not 1 <= samples < 2**31:
        raise ValueError(f"`clip_seconds` must be at least one sample; received: {clip_seconds}")
    writer = _AudioPackWriter(
        Path(output), recordings, samples, {**(attributes or {}), "sample_rate": np.int32(sample_rate)}, fingerprint
    )
    total, first = len(recordings), writer.num_processed
    disable = None if progress is None else not progress
    bar = tqdm(total=total, initial=first, unit="clip", dynamic_ncols=True, disable=disable, file=sys.stderr)
    with writer, bar, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(first, total, _BLOCK_CLIPS):
            block = recordings.recordings[start : start + _BLOCK_CLIPS]
            writer.append(block, list(threads.map(make_waveform, range(start, start + len(block)))))
            bar.update(len(block))
        return writer.finish()


def convert_to_int16(waveform: np.ndarray) -> np.ndarray:
    """Convert a waveform in [-1, 1] to 16-bit integers as PANNs does; samples beyond full scale are clipped.

    >>> convert_to_int16(np.array([-1.0, 0.5, 2.0], np.float32)).tolist()
    [-32767, 16384, 32767]
    """
    return np.rint(np.clip(waveform, -1, 1) * np.float32(32_767)).astype(np.int16)


class _AudioPackWriter(ResumableWriter):
    """Writer of a pack of waveforms, with `samples` samples per clip of `recordings`."""

    def __init__(
        self, path: Path, recordings: AudioList, samples: int, attributes: Mapping[str, Any], fingerprint: str
    ) -> None:
        self._recordings, self._samples, self._attributes = recordings, samples, attributes
        self.num_processed, self._truncated, self._skipped = 0, 0, list[str]()
        self._state: dict[str, Any] | None = None  # of the next checkpoint; None while rows are appended
        self._next_checkpoint = time.monotonic() + _CHECKPOINT_SECONDS
        id_bytes = max(len(os.fsencode(recording.name)) for recording in recordings.recordings)
        columns = {
            "audio_name": Column((), np.dtype(f"S{id_bytes}"), _CHUNK_ROWS),
            "waveform": Column((samples,), np.dtype(np.int16), 1),  # Training reads rows in random order.
            "target": Column((len(recordings.labels),), np.dtype(bool), _CHUNK_ROWS),
            "num_samples": Column((), np.dtype(np.int32), _CHUNK_ROWS),
        }
        super().__init__(path, columns, fingerprint)

    def append(self, recordings: Sequence[Recording], waveforms: Sequence[np.ndarray | str]) -> None:
        """Append the next recordings of the list; an error message instead of a waveform skips one."""
        self._state = None
        clips = [(r, w) for r, w in zip(recordings, waveforms, strict=True) if not isinstance(w, str)]
        self._skipped += [w for w in waveforms if isinstance(w, str)]
        stored = np.zeros((len(clips), self._samples), np.int16)
        targets = np.zeros((len(clips), len(self._recordings.labels)), bool)
        lengths = np.zeros(len(clips), np.int32)
        for row, (recording, waveform) in enumerate(clips):
            lengths[row] = min(len(waveform), self._samples)
            stored[row, : lengths[row]] = convert_to_int16(waveform[: self._samples])
            targets[row, list(recording.labels)] = True
            self._truncated += len(waveform) > self._samples
        names = np.array([os.fsencode(recording.name) for recording, _ in clips], self._columns["audio_name"].dtype)
        self._append_rows(names, stored, targets, lengths)
        self.num_processed += len(recordings)
        self._state = {"done": self.num_processed, "cut": self._truncated, "skipped": self._skipped}
        if time.monotonic() >= self._next_checkpoint:
            self._save_checkpoint(**self._state)
            self._next_checkpoint = time.monotonic() + _CHECKPOINT_SECONDS

    def finish(self) -> AudioPackReport:
        """Complete the pack, and raise a ValueError if no recording can be read."""
        if not (clips := len(self)):
            raise ValueError(
                f"{self.path}: none of {self.num_processed} recordings can be read; the first one: {self._skipped[0]}"
            )
        labels, missing = self._recordings.labels, self._recordings.missing
        classes = {"class_names": json.dumps(list(labels.names)), "class_mids": json.dumps(list(labels.mids))}
        has_clips = np.zeros(len(labels), bool)
        with self._write_file(missing=missing, skipped=self._skipped) as file:
            self._copy_rows(file)
            for start in range(0, clips, SCAN_ROWS):
                has_clips |= file["target"][start : start + SCAN_ROWS].any(axis=0)
            file.attrs.update({**self._attributes, **classes, "format": "kerastag audio"})
        self._state = None
        listed = sorted({label for recording in self._recordings.recordings for label in recording.labels})
        lost = tuple(labels.names[k] for k in listed if not has_clips[k])
        return AudioPackReport(self.path, clips, len(labels), self._truncated, missing, tuple(self._skipped), lost)

    def close(self) -> None:
        """Close the files, after a checkpoint of all clips so far if the pack is not finished."""
        if self._state is not None:
            with suppress(OSError):
                self._save_checkpoint(**self._state)
        super().close()

    def _restore(self, state: dict[str, Any]) -> None:
        self.num_processed, self._truncated, self._skipped = state["done"], state["cut"], state["skipped"]
