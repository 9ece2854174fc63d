"""Write packs of segment embeddings, and verify their content by a digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerastag.data.packs import (
    FEATURE_KEYS,
    SCAN_ROWS,
    check_feature_layout,
    open_hdf5,
    read_num_segments,
    to_bytes_array,
)
from kerastag.data.resumable_file import ResumableFile
from kerastag.files import atomic_path

__all__ = ["FeaturePackWriter", "compute_digest", "count_clips", "verify_digest"]

_FORMAT_VERSION = 1
_X_CHUNK_ROWS = 64
_CHUNK_ROWS = 1024


class FeaturePackWriter(ResumableFile):
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
        id_bytes: Expected length of the longest clip name, bytes; longer names widen the column.
        attributes: Attributes to store: source, license, class names and the like.
        fingerprint: Text that identifies the source of the rows; a partial file with another one is started again.
            None never resumes.

    Raises:
        ValueError: An argument is out of range.
    """

    _keys = FEATURE_KEYS

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_classes: int,
        num_segments: int = 10,
        num_features: int = 128,
        dtype: str | np.dtype = "uint8",
        id_bytes: int = 11,
        attributes: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if not 1 <= num_segments <= 255:
            raise ValueError(f"`num_segments` must be in [1, 255]; received: {num_segments}")
        self._dtype = np.dtype(dtype)
        if self._dtype not in (np.uint8, np.float32):
            raise ValueError(f"`dtype` must be uint8 or float32; received: {self._dtype}")
        self.skipped: list[str] = []
        self._shape, self._num_classes, self._id_bytes = (num_segments, num_features), num_classes, id_bytes
        self._attributes, self._digest = dict(attributes or {}), _PackDigest()
        self._sources: list[tuple[str, int]] = []  # name of each finished source file, and the row at which it ends
        super().__init__(Path(path), fingerprint)
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
        x, targets = np.asarray(x), np.asarray(targets, bool)
        num_segments = np.asarray(num_segments)
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
            self._widen_ids(ids.dtype.itemsize)
        columns = (x, num_segments, targets, ids)
        self._append_rows(dict(zip(self._keys, columns, strict=True)))
        self._digest.update(*columns)

    def mark_file_end(self, name: str, rows: int) -> None:
        """Record that the source file `name` ends after `rows` rows of the pack."""
        self._sources.append((name, rows))

    def checkpoint(self) -> None:
        """Make the rows of all finished source files survive a kill. Call it between files."""
        self._save_checkpoint(digest=self._digest.hexdigest(), skipped=self.skipped, sources=self._sources)

    def finish(self) -> str:
        """Complete the pack: sort its clips by the names of their source files, and rename it.

        Returns:
            Digest of the pack.

        Raises:
            ValueError: Nothing was appended.
        """
        if not len(self):
            raise ValueError(f"{self.path}: no clip to write")
        names = [name for name, _ in self._sources]
        if names != sorted(names):
            with self._explain_write_errors():
                self._sort_source_files()
        digest = self._digest.hexdigest()
        if self.skipped:
            with self._explain_write_errors():
                self._file["skipped"] = self.skipped
        attributes = {"format": "kerastag features", "format_version": _FORMAT_VERSION, "digest": digest}
        self._finish(self._attributes | attributes)
        return digest

    def _create_datasets(self, file: h5py.File) -> None:
        columns: dict[str, tuple[tuple[int, ...], Any, int, dict[str, Any]]] = {
            "x": (self._shape, self._dtype, _X_CHUNK_ROWS, {}),
            "y": ((self._num_classes,), bool, _CHUNK_ROWS, {"compression": "gzip", "compression_opts": 1}),
            "video_id_list": ((), f"S{self._id_bytes}", _CHUNK_ROWS, {}),
            "num_segments": ((), np.uint8, _CHUNK_ROWS, {}),
        }
        for key, (shape, dtype, chunk_rows, options) in columns.items():
            file.create_dataset(
                key, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk_rows, *shape), **options
            )

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        digest = _digest_rows(file, state["rows"])
        if state["digest"] != digest.hexdigest():
            raise ValueError("rows are damaged")
        self.skipped, self._digest = state["skipped"], digest
        self._sources = [(name, rows) for name, rows in state["sources"]]

    def _widen_ids(self, id_bytes: int) -> None:
        self._id_bytes = id_bytes
        with self._explain_write_errors():
            names = self._file["video_id_list"][:].astype(f"S{id_bytes}")
            del self._file["video_id_list"]
            self._file.create_dataset("video_id_list", data=names, maxshape=(None,), chunks=(_CHUNK_ROWS,))

    def _sort_source_files(self) -> None:
        """Copy the rows into a new partial file, source file by source file in the order of their names."""
        starts = [0, *(rows for _, rows in self._sources[:-1])]
        spans = sorted((name, start, stop) for (name, stop), start in zip(self._sources, starts, strict=True))
        self._id_bytes = self._file["video_id_list"].dtype.itemsize
        unsorted_file, unsorted_stream = self._file, self._stream
        with atomic_path(self.partial) as temporary_path, unsorted_stream, unsorted_file:
            self._stream = type(unsorted_stream).open_or_create(temporary_path)
            self._file, self._digest = self._create(), _PackDigest()
            for batch in _group_spans(((start, stop) for _, start, stop in spans), SCAN_ROWS):
                self.append(
                    *(np.concatenate([unsorted_file[key][start:stop] for start, stop in batch]) for key in self._keys)
                )


def compute_digest(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 digest of the content of a pack of embeddings in constant memory.

    Args:
        path: Path of the pack.

    Returns:
        64 hexadecimal digits, equal for equal clips in equal order, whatever the layout of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged or not a pack of embeddings.
    """
    with _open_checked(path) as file:
        return _digest_rows(file, file["x"].shape[0]).hexdigest()


def verify_digest(path: str | os.PathLike[str]) -> str:
    """Verify that the content of a pack matches the digest that was stored when it was written.

    Returns:
        The digest.

    Raises:
        ValueError: The pack has no digest, or does not match it.
    """
    with _open_checked(path) as file:
        stored = file.attrs.get("digest")
    if stored is None:
        raise ValueError(f"{path}: attribute digest is missing: a pack that kerastag has not written has none")
    computed = compute_digest(path)
    if stored != computed:
        raise ValueError(f"{path}: the content does not match its digest: {stored} stored, {computed} computed")
    return computed


def count_clips(path: str | os.PathLike[str]) -> tuple[int, int, np.ndarray]:
    """Count the clips of a pack of embeddings in constant memory.

    Returns:
        Number of clips, number of clips with fewer segments than a full one, and number of clips of every class.
    """
    with _open_checked(path) as file:
        clips, segments = file["x"].shape[:2]
        counts = np.zeros(file["y"].shape[1], np.int64)
        for start in range(0, clips, SCAN_ROWS):
            counts += file["y"][start : start + SCAN_ROWS].astype(bool).sum(axis=0)
        return clips, int((read_num_segments(Path(path), file) < segments).sum()), counts


class _PackDigest:
    """SHA-256 over embeddings, lengths, labels and names in row order, however the rows are batched."""

    def __init__(self) -> None:
        self._columns = [hashlib.sha256() for _ in FEATURE_KEYS]

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


@contextmanager
def _open_checked(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    with open_hdf5(Path(path)) as file:
        check_feature_layout(Path(path), file)
        yield file


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
