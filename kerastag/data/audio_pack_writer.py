"""Waveforms -> an HDF5 pack of them, which a stopped run goes on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.audio_pack_reader import KEYS
from kerastag.data.resumable_file import ResumableFile

__all__ = ["FORMAT_VERSION", "AudioPackReport", "AudioPackWriter", "to_int16"]

FORMAT_VERSION = 1
_FULL_SCALE = 32_767


@dataclass(frozen=True)
class AudioPackReport:
    """What `pack_audio` did.

    Attributes:
        path: of the pack.
        clips: recordings in it.
        classes: classes in it.
        cut: recordings longer than a clip, of which the beginning was taken.
        missing: names that the list has and the folder has not.
        skipped: messages of the files that could not be read.
    """

    path: Path
    clips: int
    classes: int
    cut: int
    missing: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        counts = [f"{self.clips:,} clips, {self.classes} classes"]
        counts += [
            f"{number:,} {what}"
            for number, what in (
                (self.cut, "cut to the clip's length"),
                (len(self.missing), "missing"),
                (len(self.skipped), "not readable"),
            )
            if number
        ]
        return f"{self.path}: {', '.join(counts)}"


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Waveform in [-1, 1] -> int16, as PANNs stores it: beyond full scale is clipped.

    >>> to_int16(np.array([-1.0, 0.5, 2.0], np.float32)).tolist()
    [-32767, 16384, 32767]
    """
    return np.rint(np.clip(waveform, -1, 1) * np.float32(_FULL_SCALE)).astype(np.int16)


class AudioPackWriter(ResumableFile):
    """Clips -> a partial file that a stopped run goes on with, and a whole pack at the end.

    Args:
        path: the pack to write.
        recordings: names and labels of all clips.
        sample_rate: of the waveforms, Hz.
        samples: length of a stored clip.
        attributes: what to store beside.
        fingerprint: what the waveforms come from.
    """

    _keys = (*KEYS, "num_samples")

    def __init__(
        self,
        path: Path,
        recordings: AudioList,
        sample_rate: int,
        samples: int,
        attributes: dict[str, Any],
        fingerprint: str,
    ) -> None:
        self._labels, self._samples = recordings.labels, samples
        self._attributes = attributes | {
            "sample_rate": np.int32(sample_rate),
            "class_names": json.dumps(list(recordings.labels.names)),
            "class_mids": json.dumps(list(recordings.labels.mids)),
            "format": "kerastag audio",
            "format_version": FORMAT_VERSION,
        }
        self._name_bytes = max(len(recording.name.encode()) for recording in recordings.recordings)
        self.done, self._cut, self._skipped = 0, 0, list[str]()
        super().__init__(path, fingerprint)

    def append(self, recordings: Sequence[Recording], waveforms: Sequence[np.ndarray | str]) -> None:
        """The next recordings of the list; text in the place of a waveform says why there is none."""
        good = [(r, w) for r, w in zip(recordings, waveforms, strict=True) if not isinstance(w, str)]
        self._skipped += [w for w in waveforms if isinstance(w, str)]
        stored = np.zeros((len(good), self._samples), np.int16)
        targets = np.zeros((len(good), len(self._labels)), bool)
        lengths = np.zeros(len(good), np.int32)
        for row, (recording, waveform) in enumerate(good):
            lengths[row] = min(len(waveform), self._samples)
            stored[row, : lengths[row]] = to_int16(waveform[: self._samples])
            targets[row, list(recording.labels)] = True
            self._cut += len(waveform) > self._samples
        names = np.array([recording.name.encode() for recording, _ in good], f"S{self._name_bytes}")
        self._append(dict(zip(self._keys, (names, stored, targets, lengths), strict=True)))
        self.done += len(recordings)
        self._checkpoint(done=self.done, cut=self._cut, skipped=self._skipped)

    def finish(self, missing: Sequence[str]) -> AudioPackReport:
        """The pack under its name -> what is in it; `missing` are recordings that the list has and the disk has not.

        Raises:
            ValueError: no recording could be read.
        """
        clips = len(self)
        if not clips:
            raise ValueError(f"{self.path}: none of {self.done} recordings can be read: {self._skipped[0]}")
        with self._writing():
            for key, names in (("missing", missing), ("skipped", self._skipped)):
                if names:
                    self._file[key] = list(names)
        self._put_in_place(self._attributes)
        return AudioPackReport(self.path, clips, len(self._labels), self._cut, tuple(missing), tuple(self._skipped))

    def _create_datasets(self, file: h5py.File) -> None:
        for key, shape, kind in (
            ("audio_name", (), f"S{self._name_bytes}"),
            ("waveform", (self._samples,), np.int16),
            ("target", (len(self._labels),), bool),
            ("num_samples", (), np.int32),
        ):
            # A row a chunk: training reads rows in random order.
            chunk = (1, *shape) if key == "waveform" else (1024, *shape)
            file.create_dataset(key, (0, *shape), kind, maxshape=(None, *shape), chunks=chunk)

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        self.done, self._cut, self._skipped = state["done"], state["cut"], state["skipped"]
