"""An HDF5 pack of 16-bit waveforms, in the layout that PANNs' users have -> its clips.

| dataset | type | holds |
| --- | --- | --- |
| `audio_name` | fixed-length bytes `(clips,)` | name of each recording |
| `waveform` | int16 `(clips, samples)` | 32,767 times the waveform, clipped; zeros after a short one's end |
| `target` | bool `(clips, classes)` | labels |
| `num_samples` | int32 `(clips,)` | samples that are sound; absent in PANNs' own packs: all of them |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

__all__ = ["DEFAULT_SAMPLE_RATE", "KEYS", "AudioPack", "is_audio_pack"]

DEFAULT_SAMPLE_RATE = 32_000
KEYS = ("audio_name", "waveform", "target")


def is_audio_pack(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an HDF5 file of waveforms, not of embeddings."""
    try:
        with h5py.File(path, "r") as file:
            return "waveform" in file
    except OSError:
        return False


class AudioPack:
    """An HDF5 pack of waveforms -> its clips by row number, in any order, read from the file when asked.

    PANNs' own packs (no `num_samples`, no class names) are read as they are.

    Args:
        path: of the pack.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not HDF5, damaged, empty, or not of this layout.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{path}: no such pack")
        try:
            self._file = h5py.File(self.path, "r")
            _check_layout(self.path, self._file)
            self.attributes: dict[str, object] = dict(self._file.attrs)
            self.targets: np.ndarray = self._file["target"][:].astype(bool)
            self.ids: np.ndarray = self._file["audio_name"][:]
            self._waveform = self._file["waveform"]
            self.lengths: np.ndarray = _lengths(self.path, self._file)
        except (OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path}: not an HDF5 file, truncated or damaged ({reason})") from error
        self.skipped: tuple[int, ...] = ()

    @property
    def sample_rate(self) -> int:
        """Hz; 32,000 where the pack does not say."""
        return int(self.attributes.get("sample_rate", DEFAULT_SAMPLE_RATE))  # type: ignore[call-overload]

    @property
    def num_classes(self) -> int:
        return self.targets.shape[1]

    @property
    def x_shape(self) -> tuple[int, int]:
        """Clips, samples of a clip."""
        return self._waveform.shape

    def __len__(self) -> int:
        return len(self.targets)

    def rows(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers, in any order and repeated at will -> `(waveform, num_samples, target)` of those rows.

        Raises:
            IndexError: an index out of range.
        """
        indices = np.asarray(indices, np.int64)
        whole = np.zeros(len(indices), np.int64)
        return self.crops(indices, whole, self.x_shape[1]), self.lengths[indices], self.targets[indices]

    def crops(self, indices: np.ndarray, starts: np.ndarray, samples: int) -> np.ndarray:
        """Row numbers and where to start in each -> int16 `(rows, samples)`, zeros beyond a clip's end.

        Raises:
            IndexError: an index out of range.
        """
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            wrong = indices[(indices < 0) | (indices >= len(self))][0]
            raise IndexError(f"{self.path}: `indices` must lie in [0, {len(self)}), received {wrong}")
        found = np.zeros((len(indices), samples), np.int16)
        for row, index, start in zip(found, indices.tolist(), starts.tolist(), strict=True):
            stop = min(start + samples, self.x_shape[1])
            self._waveform.read_direct(row, np.s_[index, start:stop], np.s_[: stop - start])
        return found

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __enter__(self) -> AudioPack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"AudioPack({str(self.path)!r}, {len(self)} clips, {self.num_classes} classes)"


def _check_layout(path: Path, file: h5py.File) -> None:
    missing = [key for key in KEYS if not isinstance(file.get(key), h5py.Dataset)]
    if missing:
        found = ", ".join(file) or "nothing"
        raise ValueError(f"{path}: key {missing[0]} is missing: not a pack of waveforms (it has: {found})")
    waveform, target, names = file["waveform"], file["target"], file["audio_name"]
    if waveform.ndim != 2 or waveform.dtype != np.int16:
        raise ValueError(f"{path}: key waveform must be int16 (clips, samples), is {waveform.dtype} {waveform.shape}")
    if target.ndim != 2 or len(target) != len(waveform):
        raise ValueError(f"{path}: key target must have one row a clip ({len(waveform)}), is {target.shape}")
    if names.shape != (len(waveform),):
        raise ValueError(f"{path}: key audio_name must have one entry a clip ({len(waveform)}), is {names.shape}")
    if 0 in waveform.shape or target.shape[1] == 0:
        raise ValueError(f"{path}: empty pack: waveform {waveform.shape}, target {target.shape}")


def _lengths(path: Path, file: h5py.File) -> np.ndarray:
    clips, samples = file["waveform"].shape
    if "num_samples" not in file:
        return np.full(clips, samples, np.int32)
    lengths = file["num_samples"][:]
    if lengths.shape != (clips,):
        raise ValueError(f"{path}: key num_samples must have {clips} entries, is {lengths.shape}")
    if lengths.min() < 1 or lengths.max() > samples:
        row = int(np.argmax((lengths < 1) | (lengths > samples)))
        raise ValueError(f"{path}: key num_samples, row {row}: must be 1 to {samples}, received {lengths[row]}")
    return lengths
