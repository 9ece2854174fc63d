"""Recordings -> an HDF5 pack of 16-bit waveforms, in the layout that PANNs' users have.

| dataset | type | holds |
| --- | --- | --- |
| `audio_name` | fixed-length bytes `(clips,)` | name of each recording |
| `waveform` | int16 `(clips, samples)` | 32,767 times the waveform, clipped; zeros after a short one's end |
| `target` | bool `(clips, classes)` | labels |
| `num_samples` | int32 `(clips,)` | samples that are sound; absent in PANNs' own packs: all of them |
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import kerastag
from kerastag import audio
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.careful_file import CarefulFile, writing

__all__ = ["AudioPack", "AudioPackReport", "is_audio_pack", "pack_audio", "to_int16"]

FORMAT_VERSION = 1
DEFAULT_SAMPLE_RATE = 32_000
_FULL_SCALE = 32_767
_KEYS = ("audio_name", "waveform", "target")
_AT_A_TIME = 32  # clips decoded, then written: 20 MB of ten-second clips at 32 kHz


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
    """Labelled recordings -> one pack of their waveforms, in constant memory.

    It is written beside and renamed. A run that was stopped is gone on with by the same call, unless the list, a file's
    size or date, or an argument has changed.

    Args:
        recordings: from `kerastag.data.audio_lists`.
        output: the pack to write, `.h5` or `.hdf5`.
        sample_rate: of the stored waveforms, Hz.
        clip_seconds: length of a stored clip: longer recordings are cut, shorter ones end in zeros.
        skip_corrupt: leave out files that cannot be read, and list them, instead of stopping at the first.
        attributes: what to store beside: source, licence and the like.
        progress: show a progress bar; None where standard error is a terminal.

    Raises:
        ValueError: an argument is out of range, a file cannot be read, or none can.
        OSError: the disk is full.
    """
    output = Path(output)
    if output.suffix not in (".h5", ".hdf5"):
        raise ValueError(f"`output` must end in .h5 or .hdf5, received {output}")
    if not audio.MIN_SAMPLE_RATE <= sample_rate <= audio.MAX_SAMPLE_RATE:
        raise ValueError(f"`sample_rate` must be {audio.MIN_SAMPLE_RATE} to {audio.MAX_SAMPLE_RATE}: {sample_rate}")
    if not 1 <= round(clip_seconds * sample_rate) < 2**31:
        raise ValueError(f"`clip_seconds` must be at least one sample, received {clip_seconds}")
    with _Writer(output, recordings, sample_rate, round(clip_seconds * sample_rate), attributes or {}) as writer:
        with _progress_bar(len(recordings), writer.done, progress) as bar:
            for some, decoded in _decode(recordings.recordings[writer.done :], sample_rate, clip_seconds):
                writer.append(some, [_kept(item, skip_corrupt) for item in decoded])
                bar.update(len(some))
        return writer.finish(recordings.missing)


def _kept(item: np.ndarray | Exception, skip_corrupt: bool) -> np.ndarray | str:
    if isinstance(item, Exception):
        if not skip_corrupt:
            raise item
        return str(item)
    return item


def _decode(
    recordings: Sequence[Recording], sample_rate: int, clip_seconds: float
) -> Iterator[tuple[Sequence[Recording], list[np.ndarray | Exception]]]:
    """Recordings, some at a time, and their waveforms or what is wrong with them; the decoders run in threads."""

    def read(recording: Recording) -> np.ndarray | Exception:
        try:
            # One sample more than a clip tells whether the recording is longer.
            return audio.load(recording.path, sample_rate, duration_seconds=clip_seconds + 1 / sample_rate)
        except (ValueError, OSError) as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, len(recordings), _AT_A_TIME):
            some = recordings[start : start + _AT_A_TIME]
            yield some, list(threads.map(read, some))


def _progress_bar(total: int, done: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    disable = None if progress is None else not progress
    return tqdm(total=total, initial=done, unit="clip", dynamic_ncols=True, disable=disable, file=sys.stderr)


class _Writer:
    """Clips -> a partial file that a stopped run goes on with, and a whole pack at the end."""

    def __init__(
        self, path: Path, recordings: AudioList, sample_rate: int, samples: int, attributes: dict[str, Any]
    ) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self._labels, self._samples = recordings.labels, samples
        self._attributes = attributes | {
            "sample_rate": np.int32(sample_rate),
            "class_names": json.dumps(list(recordings.labels.names)),
            "class_mids": json.dumps(list(recordings.labels.mids)),
            "format": "kerastag audio",
            "format_version": FORMAT_VERSION,
            "kerastag_version": kerastag.__version__,
        }
        self._name_bytes = max(len(recording.name.encode()) for recording in recordings.recordings)
        self._fingerprint = _fingerprint(recordings, sample_rate, samples)
        self.done, self._cut, self._skipped, self._saved = 0, 0, list[str](), False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._disk = CarefulFile.of(self.partial)
        self._file = self._resume() or self._create()

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
        start = len(self._file["waveform"])
        with writing(self._disk):
            for key, values in zip((*_KEYS, "num_samples"), (names, stored, targets, lengths), strict=True):
                self._file[key].resize(start + len(good), axis=0)
                self._file[key][start:] = values
            self.done += len(recordings)
            self._checkpoint()

    def finish(self, missing: Sequence[str]) -> AudioPackReport:
        clips = len(self._file["waveform"])
        if not clips:
            raise ValueError(f"{self.path}: none of {self.done} recordings can be read: {self._skipped[0]}")
        with writing(self._disk):
            del self._file["state"]
            for key, names in (("missing", missing), ("skipped", self._skipped)):
                if names:
                    self._file[key] = list(names)
            self._file.attrs.update(self._attributes)
            self._file.close()
        os.fsync(self._disk.fileno())
        self._disk.close()
        self.partial.replace(self.path)
        return AudioPackReport(self.path, clips, len(self._labels), self._cut, tuple(missing), tuple(self._skipped))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, RuntimeError):  # of a pack that is given up
            self._file.close()
        self._disk.close()
        if not self._saved:
            self.partial.unlink(missing_ok=True)

    def _checkpoint(self) -> None:
        """What is there so far survives a kill."""
        state = {
            "fingerprint": self._fingerprint,
            "done": self.done,
            "rows": len(self._file["waveform"]),
            "cut": self._cut,
            "skipped": self._skipped,
        }
        if "state" in self._file:
            del self._file["state"]
        self._file["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
        self._file.flush()
        self._saved = True

    def _create(self) -> h5py.File:
        self._disk.truncate(0)
        file = h5py.File(self._disk, "w")
        for key, shape, kind in (
            ("audio_name", (), f"S{self._name_bytes}"),
            ("waveform", (self._samples,), np.int16),
            ("target", (len(self._labels),), bool),
            ("num_samples", (), np.int32),
        ):
            # A row a chunk: training reads rows in random order.
            chunk = (1, *shape) if key == "waveform" else (1024, *shape)
            file.create_dataset(key, (0, *shape), kind, maxshape=(None, *shape), chunks=chunk)
        return file

    def _resume(self) -> h5py.File | None:
        file = None
        try:
            file = h5py.File(self._disk, "r+")
            state = json.loads(file["state"][:].tobytes())
            if state["fingerprint"] != self._fingerprint:
                raise ValueError("another list, or other files")
            for key in (*_KEYS, "num_samples"):
                if len(file[key]) < state["rows"]:
                    raise ValueError("rows are lost")
                file[key].resize(state["rows"], axis=0)
        except Exception:  # whatever a kill left behind: the recordings can always be read again
            if file is not None:
                file.close()
            return None
        self.done, self._cut, self._skipped = state["done"], state["cut"], state["skipped"]
        self._saved = True
        return file


def _fingerprint(recordings: AudioList, sample_rate: int, samples: int) -> str:
    """What a pack is made of, so that a partial one is only gone on with from the same files."""
    digest = hashlib.sha256(f"{FORMAT_VERSION} {sample_rate} {samples} {recordings.labels}".encode())
    for recording in recordings.recordings:
        with suppress(OSError):  # a file that has vanished is an error when its turn comes
            status = recording.path.stat()
            digest.update(f"{recording} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


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
    missing = [key for key in _KEYS if not isinstance(file.get(key), h5py.Dataset)]
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
