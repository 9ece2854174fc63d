"""Write packs of 16-bit waveforms, from audio files or from a function that makes waveforms."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerastag import audio
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.packs import AUDIO_KEYS, DEFAULT_SAMPLE_RATE
from kerastag.data.resumable_file import ResumableFile

__all__ = ["AudioPackReport", "convert_to_int16", "pack_audio", "pack_waveforms"]

_FORMAT_VERSION = 1
_BLOCK_CLIPS = 32  # clips decoded, then written: 20 MB of ten-second clips at 32 kHz


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
    """

    path: Path
    num_clips: int
    num_classes: int
    truncated: int
    missing: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        counts = [f"{self.num_clips:,} clips", f"{self.num_classes} classes"]
        for number, name in (
            (self.truncated, "truncated"),
            (len(self.missing), "missing"),
            (len(self.skipped), "skipped"),
        ):
            if number:
                counts.append(f"{number:,} {name}")
        return f"{self.path}: {', '.join(counts)}"


def pack_audio(
    recordings: AudioList,
    output: str | os.PathLike[str],
    *,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    clip_seconds: float = 10.0,
    skip_corrupt: bool = False,
    attributes: Mapping[str, Any] | None = None,
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
        skip_corrupt: Whether to skip files that cannot be read, and to list them, instead of stopping at the first.
        attributes: Attributes to store: source, license and the like.
        progress: Whether to show a progress bar; None shows it if standard error is a terminal.

    Returns:
        Counts of the pack.

    Raises:
        ValueError: An argument is out of range, a file cannot be read, or none of them can.
        OSError: The disk is full.
    """
    samples = _check_arguments(output, sample_rate, clip_seconds)

    def load_clip(number: int) -> np.ndarray | str:
        try:
            # One sample more than a clip shows whether the recording is longer.
            seconds = clip_seconds + 1 / sample_rate
            return audio.load(recordings.recordings[number].path, sample_rate, duration_seconds=seconds)
        except (ValueError, OSError) as error:
            if not skip_corrupt:
                raise
            return str(error)

    fingerprint = _compute_fingerprint(recordings, sample_rate, samples)
    writer = _AudioPackWriter(Path(output), recordings, sample_rate, samples, attributes, fingerprint)
    return _write_clips(writer, recordings, load_clip, recordings.missing, progress)


def pack_waveforms(
    recordings: AudioList,
    make_waveform: Callable[[int], np.ndarray],
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
        make_waveform: Function that takes the number of a clip and returns its samples, the same ones each time. It is
            called in several threads.
        output: Path of the pack to write, which ends in `.h5` or `.hdf5`.
        sample_rate: Sample rate of the waveforms, Hz.
        clip_seconds: Length of a stored clip, seconds.
        fingerprint: Text that identifies the waveforms; an interrupted call is resumed only with the same one.
        attributes: Attributes to store: source, license and the like.
        progress: Whether to show a progress bar; None shows it if standard error is a terminal.

    Returns:
        Counts of the pack.

    Raises:
        ValueError: An argument is out of range.
        OSError: The disk is full.
    """
    samples = _check_arguments(output, sample_rate, clip_seconds)
    writer = _AudioPackWriter(Path(output), recordings, sample_rate, samples, attributes, fingerprint)
    return _write_clips(writer, recordings, make_waveform, (), progress)


def convert_to_int16(waveform: np.ndarray) -> np.ndarray:
    """Convert a waveform in [-1, 1] to 16-bit integers as PANNs does; samples beyond full scale are clipped.

    >>> convert_to_int16(np.array([-1.0, 0.5, 2.0], np.float32)).tolist()
    [-32767, 16384, 32767]
    """
    return np.rint(np.clip(waveform, -1, 1) * np.float32(32_767)).astype(np.int16)


class _AudioPackWriter(ResumableFile):
    """Writer of a pack of waveforms.

    Args:
        path: Path of the pack to write.
        recordings: Names and labels of all clips.
        sample_rate: Sample rate of the waveforms, Hz.
        samples: Length of a stored clip, samples.
        attributes: Attributes to store.
        fingerprint: Text that identifies the waveforms.
    """

    _keys = AUDIO_KEYS

    def __init__(
        self,
        path: Path,
        recordings: AudioList,
        sample_rate: int,
        samples: int,
        attributes: Mapping[str, Any] | None,
        fingerprint: str,
    ) -> None:
        self._labels, self._samples = recordings.labels, samples
        self._attributes = {
            **(attributes or {}),
            "sample_rate": np.int32(sample_rate),
            "class_names": json.dumps(list(recordings.labels.names)),
            "class_mids": json.dumps(list(recordings.labels.mids)),
            "format": "kerastag audio",
            "format_version": _FORMAT_VERSION,
        }
        self._id_bytes = max(len(recording.name.encode()) for recording in recordings.recordings)
        self.num_processed, self._truncated, self._skipped = 0, 0, list[str]()
        super().__init__(path, fingerprint)

    def append(self, recordings: Sequence[Recording], waveforms: Sequence[np.ndarray | str]) -> None:
        """Append the next recordings of the list; an error message instead of a waveform skips one."""
        clips = [(r, w) for r, w in zip(recordings, waveforms, strict=True) if not isinstance(w, str)]
        self._skipped += [w for w in waveforms if isinstance(w, str)]
        stored = np.zeros((len(clips), self._samples), np.int16)
        targets = np.zeros((len(clips), len(self._labels)), bool)
        lengths = np.zeros(len(clips), np.int32)
        for row, (recording, waveform) in enumerate(clips):
            lengths[row] = min(len(waveform), self._samples)
            stored[row, : lengths[row]] = convert_to_int16(waveform[: self._samples])
            targets[row, list(recording.labels)] = True
            self._truncated += len(waveform) > self._samples
        names = np.array([recording.name.encode() for recording, _ in clips], f"S{self._id_bytes}")
        self._append_rows(dict(zip(self._keys, (names, stored, targets, lengths), strict=True)))
        self.num_processed += len(recordings)
        self._save_checkpoint(done=self.num_processed, cut=self._truncated, skipped=self._skipped)

    def finish(self, missing: Sequence[str]) -> AudioPackReport:
        """Complete the pack; `missing` names the recordings for which there is no file.

        Raises:
            ValueError: No recording can be read.
        """
        clips = len(self)
        if not clips:
            raise ValueError(
                f"{self.path}: none of {self.num_processed} recordings can be read; the first one: {self._skipped[0]}"
            )
        with self._explain_write_errors():
            for key, names in (("missing", missing), ("skipped", self._skipped)):
                if names:
                    self._file[key] = list(names)
        self._finish(self._attributes)
        return AudioPackReport(
            self.path, clips, len(self._labels), self._truncated, tuple(missing), tuple(self._skipped)
        )

    def _create_datasets(self, file: h5py.File) -> None:
        for key, shape, dtype in (
            ("audio_name", (), f"S{self._id_bytes}"),
            ("waveform", (self._samples,), np.int16),
            ("target", (len(self._labels),), bool),
            ("num_samples", (), np.int32),
        ):
            # One row per chunk: training reads rows in random order.
            chunk_rows = 1 if key == "waveform" else 1024
            file.create_dataset(key, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk_rows, *shape))

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        self.num_processed, self._truncated, self._skipped = state["done"], state["cut"], state["skipped"]


def _write_clips(
    writer: _AudioPackWriter,
    recordings: AudioList,
    load_clip: Callable[[int], np.ndarray | str],
    missing: Sequence[str],
    progress: bool | None,
) -> AudioPackReport:
    """Load the waveforms in threads, block by block, and write them."""
    from tqdm import tqdm

    total, first = len(recordings), writer.num_processed
    disable = None if progress is None else not progress
    bar = tqdm(total=total, initial=first, unit="clip", dynamic_ncols=True, disable=disable, file=sys.stderr)
    with writer, bar, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(first, total, _BLOCK_CLIPS):
            block = recordings.recordings[start : start + _BLOCK_CLIPS]
            writer.append(block, list(threads.map(load_clip, range(start, start + len(block)))))
            bar.update(len(block))
        return writer.finish(missing)


def _check_arguments(output: str | os.PathLike[str], sample_rate: int, clip_seconds: float) -> int:
    """Check the arguments and return the length of a clip in samples."""
    if Path(output).suffix not in (".h5", ".hdf5"):
        raise ValueError(f"`output` must end in .h5 or .hdf5; received: {output}")
    if not audio.MIN_SAMPLE_RATE <= sample_rate <= audio.MAX_SAMPLE_RATE:
        allowed = f"{audio.MIN_SAMPLE_RATE}, {audio.MAX_SAMPLE_RATE}"
        raise ValueError(f"`sample_rate` must be in [{allowed}]; received: {sample_rate}")
    samples = round(clip_seconds * sample_rate)
    if not 1 <= samples < 2**31:
        raise ValueError(f"`clip_seconds` must be at least one sample; received: {clip_seconds}")
    return samples


def _compute_fingerprint(recordings: AudioList, sample_rate: int, samples: int) -> str:
    """Identify the files of a pack, so that an interrupted call is resumed only with the same ones."""
    digest = hashlib.sha256(f"{_FORMAT_VERSION} {sample_rate} {samples} {recordings.labels}".encode())
    for recording in recordings.recordings:
        with suppress(OSError):  # A file that has vanished raises an error when it is loaded.
            status = recording.path.stat()
            digest.update(f"{recording} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
