"""Write packs of embeddings, count their clips, and verify their content by a digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerastag._command import replace_unprintable
from kerastag.data.hdf5_files import open_hdf5, read_attributes
from kerastag.data.pack_layout import FEATURES, SCAN_ROWS, check_layout, read_lengths, read_names, to_bytes_array
from kerastag.data.resumable_writer import Column, ResumableWriter

_CHUNK_ROWS = 1024


class FeaturePackWriter(ResumableWriter):
    """Writer of a pack of embeddings, batch by batch.

    The rows are collected in the folder `NAME.h5.partial`, from which `finish` writes the pack. After `checkpoint`, a
    writer with the same `fingerprint` continues from there, once the rows match their digests: its source continues
    after `resumed_files` files. A folder that does not match is started again. One process at a time can write a pack.

    Args:
        path: Path of the pack to write.
        num_classes: Number of classes, at least 1.
        num_segments: Largest number of segments of a clip, 1 to 255.
        num_features: Number of features of a segment, at least 1.
        dtype: Type of the stored embeddings: `uint8` or `float32`.
        attributes: Attributes to store: source, license, class names and the like.
        fingerprint: Text that identifies the source of the rows; rows of another one are not used. None never resumes.

    Raises:
        ValueError: An argument is out of range.
        BlockingIOError: Another process is writing the pack.
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
        self._attributes = dict(attributes or {})
        self._sources: list[tuple[str, int]] = []  # name of each finished source file, and the row at which it ends
        columns = {
            "x": Column(self._shape, self._dtype, 64),
            "num_segments": Column((), np.dtype(np.uint8), _CHUNK_ROWS),
            "y": Column((num_classes,), np.dtype(bool), _CHUNK_ROWS, {"compression": "gzip", "compression_opts": 1}),
            "video_id_list": Column((), np.dtype("S11"), _CHUNK_ROWS),
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
        if ids.dtype.itemsize > self._columns["video_id_list"].dtype.itemsize:
            self._convert_column("video_id_list", ids.dtype)
        self._append_rows(x, num_segments, targets, ids)

    def mark_file_end(self, name: str, rows: int) -> None:
        """Record that the source file `name` ends after `rows` rows of the pack."""
        self._sources.append((name, rows))

    def checkpoint(self) -> None:
        """Make the rows of all finished source files survive a kill. Call it between files."""
        self._save_checkpoint(skipped=self.skipped, sources=self._sources)

    def finish(self) -> str:
        """Complete the pack, with its clips sorted by the names of their source files, and return its digest."""
        if not len(self):
            raise ValueError(f"{self.path}: no clip to write")
        digest = _PackDigest()
        with self._write_file(skipped=self.skipped) as file:
            self._copy_rows(file, self._sort_rows(), digest.update)
            file.attrs.update({**self._attributes, "format": "kerastag features", "digest": digest.hexdigest()})
        return digest.hexdigest()

    def _restore(self, state: dict[str, Any]) -> None:
        sources = [(name, rows) for name, rows in state["sources"]]
        self.skipped, self._sources = state["skipped"], sources

    def _sort_rows(self) -> np.ndarray | None:
        """Return the rows in the order of the names of their source files; None if they are in this order."""
        names = [name for name, _ in self._sources]
        if names == sorted(names):
            return None
        starts = [0, *(rows for _, rows in self._sources[:-1])]
        spans = sorted((name, start, stop) for (name, stop), start in zip(self._sources, starts, strict=True))
        return np.concatenate([np.arange(start, stop) for _, start, stop in spans])


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
        lengths, names, digest = read_lengths(file, FEATURES), read_names(file["video_id_list"]), _PackDigest()
        for start in range(0, len(names), SCAN_ROWS):
            block = slice(start, start + SCAN_ROWS)
            digest.update(file["x"][block], lengths[block], file["y"][block], names[block])
        return digest.hexdigest()


def verify_digest(path: str | os.PathLike[str]) -> str:
    """Verify that a pack matches the digest that was stored when it was written, and return the digest.

    Raises:
        ValueError: The pack has no digest, or does not match it.
    """
    with open_hdf5(path) as file:
        check_layout(file, FEATURES)
        stored = read_attributes(file).get("digest")
    if stored is None:
        raise ValueError(f"{path}: attribute digest is missing: a pack that kerastag has not written has none")
    if (stored := replace_unprintable(str(stored))) != (computed := compute_digest(path)):
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
