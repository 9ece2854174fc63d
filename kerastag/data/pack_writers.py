"""Write packs of embeddings and packs of waveforms, and verify the content of the former by a digest."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from kerastag import audio
from kerastag._version import __version__
from kerastag.data.audio_lists import AudioList, Recording
from kerastag.data.packs import (
    DEFAULT_SAMPLE_RATE,
    FEATURES,
    SCAN_ROWS,
    check_layout,
    open_hdf5,
    read_lengths,
    to_bytes_array,
)
from kerastag.files import atomic_path

_FORMAT_VERSION = 1
_CHUNK_ROWS = 1024
_BLOCK_CLIPS = 32  # clips decoded, then written: 20 MB of ten-second clips at 32 kHz
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Stream(io.FileIO):
    """A file for HDF5 to write to, which stores its first write error and ignores all further writes.

    HDF5 would crash on closing if a write failed.
    """

    write_error: OSError | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+b" if path.is_file() else "w+b")

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest and self.write_error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.write_error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.write_error = self.write_error or error
            return size or 0


class _PackWriter:
    """Base class of the writers, whose files can be resumed.

    Rows are written to `NAME.partial`, which is renamed when it is complete. A checkpoint makes the rows so far survive
    a kill: the next writer with the same fingerprint continues after them. `_restore` restores what a subclass passed
    to `_save_checkpoint`; the constructor calls it, so that a subclass sets its attributes before. `columns` holds the
    shape of a row, the type, the number of rows per chunk and further options of every dataset, by key.
    """

    def __init__(self, path: Path, columns: dict[str, Any], fingerprint: str | None) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self._columns, self._fingerprint, self._has_checkpoint = columns, fingerprint, False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = _Stream(self.partial)
        self._file = self._resume() or self._create()

    def close(self) -> None:
        """Close the file without finishing it. A partial file stays if it has a checkpoint."""
        with suppress(OSError, RuntimeError):  # An unfinished file is of no further use, nor are its errors.
            self._file.close()
        self._stream.close()
        if not self._has_checkpoint:
            self.partial.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._file[next(iter(self._columns))])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define `_restore(file, state)`")

    def _append_rows(self, *columns: np.ndarray) -> None:
        start = len(self)
        with self._explain_write_errors():
            for key, values in zip(self._columns, columns, strict=True):
                self._file[key].resize(start + len(values), axis=0)
                self._file[key][start:] = values

    def _save_checkpoint(self, **state: Any) -> None:
        """Make the rows so far survive a kill, together with `state`, which holds JSON values."""
        state = {"fingerprint": self._fingerprint, "rows": len(self), **state}
        with self._explain_write_errors():
            if "state" in self._file:
                del self._file["state"]
            self._file["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
            self._file.flush()
        self._has_checkpoint = self._fingerprint is not None

    def _finish(self, attributes: Mapping[str, Any], **names: Sequence[str]) -> None:
        """Write lists of names and the attributes, and rename the file."""
        with self._explain_write_errors():
            if "state" in self._file:
                del self._file["state"]
            for key, values in names.items():
                if values:
                    self._file[key] = list(values)
            self._file.attrs.update({**attributes, "format_version": _FORMAT_VERSION, "kerastag_version": __version__})
            self._file.close()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self.partial.replace(self.path)

    @contextmanager
    def _explain_write_errors(self) -> Iterator[None]:
        """Turn a failed write, a full disk above all, into an error of one line."""
        try:
            yield
        except (OSError, RuntimeError):
            if self._stream.write_error is None:
                raise
        if (error := self._stream.write_error) is not None:
            reason = "the disk is full" if error.errno in _FULL_DISK else error.strerror
            message = f"{reason}: make room and run the same command again"
            raise OSError(error.errno, message, str(self.partial)) from error

    def _create(self) -> h5py.File:
        self._stream.truncate(0)
        file = h5py.File(self._stream, "w")
        for key, (shape, dtype, chunk_rows, options) in self._columns.items():
            sizes = {"maxshape": (None, *shape), "chunks": (chunk_rows, *shape)}
            file.create_dataset(key, (0, *shape), dtype, **sizes, **options)
        return file

    def _resume(self) -> h5py.File | None:
        if self._fingerprint is None:
            return None
        file = None
        try:
            file = h5py.File(self._stream, "r+")
            state = json.loads(file["state"][:].tobytes())
            if state["fingerprint"] != self._fingerprint:
                raise ValueError("the rows come from another source")
            for key in self._columns:
                if len(file[key]) < state["rows"]:
                    raise ValueError("rows are missing")
                file[key].resize(state["rows"], axis=0)
            self._restore(file, state)
        except Exception:  # A kill can leave anything behind; the rows can always be read again from their source.
            if file is not None:
                file.close()
            return None
        self._has_checkpoint = True
        return file


class FeaturePackWriter(_PackWriter):
    """Writer of a pack of embeddings, batch by batch.

    The pack is written to `NAME.h5.partial` and renamed by `finish`. After `checkpoint`, a writer with the same
    `fingerprint` continues from the partial file, once its rows match their digest: its source continues after
    `resumed_files` files. A partial file that does not match is started again.

    Args:
        path: Path of the pack to write.
        num_classes: Number of classes, at least 1.
        num_segments: Largest number of segments of a clip, 1 to 255.
        num_features: Number of features of a segment, at least 1.
        dtype: Type of the stored embeddings: `uint8` or `float32`.
        attributes: Attributes to store: source, license, class names and the like.
        fingerprint: Text that identifies the source of the rows; a partial file with another one is started again.
            None never resumes.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_classes: int,
        num_segments: int = 10,
        num_features: int = 128,
        dtype: str | np.dtype = "uint8",
        attributes: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if not 1 <= num_segments <= 255:
            raise ValueError(f"`num_segments` must be in [1, 255]; received: {num_segments}")
        self._dtype = np.dtype(dtype)
        if self._dtype not in (np.uint8, np.float32):
            raise ValueError(f"`dtype` must be uint8 or float32; received: {self._dtype}")
        self.skipped: list[str] = []
        self._shape, self._num_classes = (num_segments, num_features), num_classes
        self._attributes, self._digest = dict(attributes or {}), _PackDigest()
        self._sources: list[tuple[str, int]] = []  # name of each finished source file, and the row at which it ends
        columns: dict[str, Any] = {
            "x": (self._shape, self._dtype, 64, {}),
            "num_segments": ((), np.uint8, _CHUNK_ROWS, {}),
            "y": ((num_classes,), bool, _CHUNK_ROWS, {"compression": "gzip", "compression_opts": 1}),
            "video_id_list": ((), "S11", _CHUNK_ROWS, {}),
        }
        super().__init__(Path(path), columns, fingerprint)
        self.resumed_files = len(self._sources)

    def append(
        self,
        x: np.ndarray,
        num_segments: Sequence[int] | np.ndarray,
        targets: np.ndarray,
        ids: Sequence[bytes | str] | np.ndarray,
    ) -> None:
        """Append clips.

        Args:
            x: Embeddings of the pack's type, `(clips, segments, features)`, zero after the last segment of a clip.
            num_segments: Number of valid segments of every clip, `(clips,)`, 1 to the pack's number of segments.
            targets: Labels of 0 and 1, `(clips, classes)`.
            ids: Clip names, `(clips,)`.

        Raises:
            ValueError: The shapes, the type or the numbers of segments do not fit.
            OSError: The disk is full.
        """
        x, targets, num_segments = np.asarray(x), np.asarray(targets, bool), np.asarray(num_segments)
        ids = to_bytes_array(np.asarray(ids, object))
        if x.shape[1:] != self._shape or x.dtype != self._dtype:
            expected = f"{self._dtype} (clips, {self._shape[0]}, {self._shape[1]})"
            raise ValueError(f"`x` must be {expected}; received: {x.dtype} {x.shape}")
        if targets.shape != (len(x), self._num_classes):
            raise ValueError(f"`targets` must have shape {(len(x), self._num_classes)}; received: {targets.shape}")
        if not len(x) == len(num_segments) == len(ids):
            raise ValueError(
                f"`num_segments` and `ids` must have {len(x)} entries as `x`; "
                f"received: {len(num_segments)} and {len(ids)}"
            )
        if len(x) and not (num_segments.min() >= 1 and num_segments.max() <= self._shape[0]):
            raise ValueError(
                f"`num_segments` must be in [1, {self._shape[0]}]; "
                f"received: {num_segments.min()} to {num_segments.max()}"
            )
        if ids.dtype.itemsize > self._file["video_id_list"].dtype.itemsize:
            self._widen_ids(ids.dtype)
        self._append_rows(x, num_segments, targets, ids)
        self._digest.update(x, num_segments, targets, ids)

    def mark_file_end(self, name: str, rows: int) -> None:
        """Record that the source file `name` ends after `rows` rows of the pack."""
        self._sources.append((name, rows))

    def checkpoint(self) -> None:
        """Make the rows of all finished source files survive a kill. Call it between files."""
        self._save_checkpoint(digest=self._digest.hexdigest(), skipped=self.skipped, sources=self._sources)

    def finish(self) -> str:
        """Complete the pack, with its clips sorted by the names of their source files, and return its digest."""
        if not len(self):
            raise ValueError(f"{self.path}: no clip to write")
        names = [name for name, _ in self._sources]
        if names != sorted(names):
            with self._explain_write_errors():
                self._sort_source_files()
        digest = self._digest.hexdigest()
        self._finish({**self._attributes, "format": "kerastag features", "digest": digest}, skipped=self.skipped)
        return digest

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        digest = _digest_rows(file, state["rows"])
        if state["digest"] != digest.hexdigest():
            raise ValueError("rows are damaged")
        self.skipped, self._digest = state["skipped"], digest
        self._sources = [(name, rows) for name, rows in state["sources"]]

    def _widen_ids(self, dtype: np.dtype) -> None:
        with self._explain_write_errors():
            names = self._file["video_id_list"][:].astype(dtype)
            del self._file["video_id_list"]
            self._file.create_dataset("video_id_list", data=names, maxshape=(None,), chunks=(_CHUNK_ROWS,))

    def _sort_source_files(self) -> None:
        """Copy the rows into a new partial file, source file by source file in the order of their names."""
        starts = [0, *(rows for _, rows in self._sources[:-1])]
        spans = sorted((name, start, stop) for (name, stop), start in zip(self._sources, starts, strict=True))
        unsorted_file, unsorted_stream = self._file, self._stream
        with atomic_path(self.partial) as temporary_path, unsorted_stream, unsorted_file:
            self._stream = _Stream(temporary_path)
            self._file, self._digest = self._create(), _PackDigest()
            for batch in _group_spans(((start, stop) for _, start, stop in spans), SCAN_ROWS):
                parts = ([unsorted_file[key][start:stop] for start, stop in batch] for key in self._columns)
                self.append(*map(np.concatenate, parts))


def compute_digest(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 digest of the content of a pack of embeddings in constant memory.

    Returns:
        64 hexadecimal digits, equal for equal clips in equal order, whatever the layout of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged or not a pack of embeddings.
    """
    with open_hdf5(path) as file:
        check_layout(file, FEATURES)
        return _digest_rows(file, len(file["x"])).hexdigest()


def verify_digest(path: str | os.PathLike[str]) -> str:
    """Verify that a pack matches the digest that was stored when it was written, and return the digest.

    Raises:
        ValueError: The pack has no digest, or does not match it.
    """
    with open_hdf5(path) as file:
        check_layout(file, FEATURES)
        stored = file.attrs.get("digest")
    if stored is None:
        raise ValueError(f"{path}: attribute digest is missing: a pack that kerastag has not written has none")
    if stored != (computed := compute_digest(path)):
        raise ValueError(f"{path}: the content does not match its digest: {stored} stored, {computed} computed")
    return computed


def count_clips(path: str | os.PathLike[str]) -> tuple[int, int, np.ndarray]:
    """Count the clips of a pack of embeddings in constant memory.

    Returns:
        Number of clips, number of clips with fewer segments than a full one, and number of clips of every class.
    """
    with open_hdf5(path) as file:
        check_layout(file, FEATURES)
        clips, segments = file["x"].shape[:2]
        counts = np.zeros(file["y"].shape[1], np.int64)
        for start in range(0, clips, SCAN_ROWS):
            counts += file["y"][start : start + SCAN_ROWS].astype(bool).sum(axis=0)
        return clips, int((read_lengths(file, FEATURES) < segments).sum()), counts


class _PackDigest:
    """SHA-256 over embeddings, lengths, labels and names in row order, however the rows are batched."""

    def __init__(self) -> None:
        self._columns = [hashlib.sha256() for _ in range(4)]

    def update(self, x: np.ndarray, num_segments: np.ndarray, targets: np.ndarray, ids: np.ndarray) -> None:
        if not len(x):
            return
        little_endian = np.ascontiguousarray(x, x.dtype.newbyteorder("<"))
        names = np.frombuffer(b"".join(name + b"\n" for name in ids.tolist()), np.uint8)
        columns = little_endian, num_segments.astype(np.uint8), np.packbits(targets.astype(bool), axis=1), names
        for digest, column in zip(self._columns, columns, strict=True):
            digest.update(column.data)

    def hexdigest(self) -> str:
        return hashlib.sha256(b"".join(column.digest() for column in self._columns)).hexdigest()


def _digest_rows(file: h5py.File, num_rows: int) -> _PackDigest:
    digest = _PackDigest()
    for start in range(0, num_rows, SCAN_ROWS):
        block = slice(start, min(start + SCAN_ROWS, num_rows))
        x = file["x"][block]
        lengths = file["num_segments"][block] if "num_segments" in file else np.full(len(x), x.shape[1], np.uint8)
        digest.update(x, lengths, file["y"][block], to_bytes_array(file["video_id_list"][block]))
    return digest


def _group_spans(spans: Iterable[tuple[int, int]], rows: int) -> Iterator[list[tuple[int, int]]]:
    """Group spans of rows into lists of about `rows` rows each."""
    group: list[tuple[int, int]] = []
    for start, stop in spans:
        for begin in range(start, stop, rows):
            group.append((begin, min(begin + rows, stop)))
            if sum(b - a for a, b in group) >= rows:
                yield group
                group = []
    if group:
        yield group


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
        problems = {"truncated": self.truncated, "missing": len(self.missing), "skipped": len(self.skipped)}
        counts = "".join(f", {number:,} {name}" for name, number in problems.items() if number)
        return f"{self.path}: {self.num_clips:,} clips, {self.num_classes} classes{counts}"


def pack_audio(
    recordings: AudioList,
    output: str | os.PathLike[str],
    *,
    sample_rate: int = DEFAULT_SAMPLE_RATE,
    clip_seconds: float = 10.0,
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
            return audio.load(recordings.recordings[number].path, sample_rate, duration_seconds=seconds)
        except (ValueError, OSError) as error:
            if not skip_corrupt:
                raise
            return str(error)

    samples = round(clip_seconds * sample_rate)
    digest = hashlib.sha256(f"{_FORMAT_VERSION} {sample_rate} {samples} {recordings.labels}".encode())
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


class _AudioPackWriter(_PackWriter):
    """Writer of a pack of waveforms, with `samples` samples per clip of `recordings`."""

    def __init__(
        self, path: Path, recordings: AudioList, samples: int, attributes: Mapping[str, Any], fingerprint: str
    ) -> None:
        self._recordings, self._samples, self._attributes = recordings, samples, attributes
        self.num_processed, self._truncated, self._skipped = 0, 0, list[str]()
        id_bytes = max(len(recording.name.encode()) for recording in recordings.recordings)
        columns: dict[str, Any] = {
            "audio_name": ((), f"S{id_bytes}", _CHUNK_ROWS, {}),
            "waveform": ((samples,), np.int16, 1, {}),  # One row per chunk: training reads rows in random order.
            "target": ((len(recordings.labels),), bool, _CHUNK_ROWS, {}),
            "num_samples": ((), np.int32, _CHUNK_ROWS, {}),
        }
        super().__init__(path, columns, fingerprint)

    def append(self, recordings: Sequence[Recording], waveforms: Sequence[np.ndarray | str]) -> None:
        """Append the next recordings of the list; an error message instead of a waveform skips one."""
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
        names = np.array([recording.name.encode() for recording, _ in clips], self._columns["audio_name"][1])
        self._append_rows(names, stored, targets, lengths)
        self.num_processed += len(recordings)
        self._save_checkpoint(done=self.num_processed, cut=self._truncated, skipped=self._skipped)

    def finish(self) -> AudioPackReport:
        """Complete the pack, and raise a ValueError if no recording can be read."""
        if not (clips := len(self)):
            raise ValueError(
                f"{self.path}: none of {self.num_processed} recordings can be read; the first one: {self._skipped[0]}"
            )
        labels, missing = self._recordings.labels, self._recordings.missing
        classes = {"class_names": json.dumps(list(labels.names)), "class_mids": json.dumps(list(labels.mids))}
        attributes = {**self._attributes, **classes, "format": "kerastag audio"}
        self._finish(attributes, missing=missing, skipped=self._skipped)
        return AudioPackReport(self.path, clips, len(labels), self._truncated, missing, tuple(self._skipped))

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        self.num_processed, self._truncated, self._skipped = state["done"], state["cut"], state["skipped"]
