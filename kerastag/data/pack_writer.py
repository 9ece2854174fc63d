"""Batches of clips -> an HDF5 pack that appears whole or not at all, and that a stopped run can go on with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kerastag.data.careful_file import CarefulFile
from kerastag.data.pack_digest import SCAN_ROWS, PackDigest, as_bytes, digest_rows
from kerastag.data.resumable_file import ResumableFile

__all__ = ["FORMAT_VERSION", "PackWriter"]

FORMAT_VERSION = 1
_X_CHUNK_ROWS = 64
_Y_CHUNK_ROWS = 1024


class PackWriter(ResumableFile):
    """Batches of clips -> one HDF5 pack, written beside as `NAME.h5.partial` and renamed when finished.

    `checkpoint` makes what was appended so far survive a kill: a writer opened with the same
    `fingerprint` finds the partial file, checks the kept rows against their digest, and goes on after
    `resumed_files` source files. A partial file that fails the check is started again.

    Args:
        path: the pack to write.
        num_classes: labels of a clip, 1 or more.
        segments: most segments of a clip, 1 to 255.
        features: features of a segment, 1 or more.
        dtype: `uint8` or `float32`.
        id_bytes: longest clip name in bytes.
        attributes: what to store beside the data: source, license, split and the like.
        fingerprint: what the rows come from; a partial file with another one is started again.
            None never resumes.
    """

    _keys = ("x", "num_segments", "y", "video_id_list")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_classes: int,
        segments: int = 10,
        features: int = 128,
        dtype: str | np.dtype = "uint8",
        id_bytes: int = 11,
        attributes: Mapping[str, Any] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if not 1 <= segments <= 255:
            raise ValueError(f"`segments` must be 1 to 255, received {segments}")
        if np.dtype(dtype) not in (np.uint8, np.float32):
            raise ValueError(f"`dtype` must be uint8 or float32, received {np.dtype(dtype)}")
        self.skipped: list[str] = []
        self._shapes = (segments, features), num_classes, np.dtype(dtype), id_bytes
        self._attributes, self._digest = dict(attributes or {}), PackDigest()
        self._sources: list[tuple[str, int]] = []
        super().__init__(Path(path), fingerprint)
        self._sorted = self.path.with_name(self.path.name + ".sorted")
        self.resumed_files = len(self._sources)

    def append(
        self,
        x: np.ndarray,
        num_segments: Sequence[int] | np.ndarray,
        targets: np.ndarray,
        ids: Sequence[bytes | str] | np.ndarray,
    ) -> None:
        """Adds clips after those already there.

        Args:
            x: `(clips, segments, features)` of the pack's type; zeros after a clip's last segment.
            num_segments: 1 to `segments`, one a clip.
            targets: 0 or 1, `(clips, classes)`.
            ids: clip names.

        Raises:
            ValueError: shapes that do not fit.
            OSError: the disk is full.
        """
        shape, num_classes, dtype, _ = self._shapes
        x, targets = np.asarray(x), np.asarray(targets, bool)
        num_segments = np.asarray(num_segments)
        ids = as_bytes(np.asarray(ids, object))
        if x.shape[1:] != shape or x.dtype != dtype:
            raise ValueError(f"`x` must be {dtype} (clips, {shape[0]}, {shape[1]}), received {x.dtype} {x.shape}")
        if targets.shape != (len(x), num_classes):
            raise ValueError(f"`targets` must have shape {(len(x), num_classes)}, received {targets.shape}")
        if not len(x) == len(num_segments) == len(ids):
            raise ValueError(
                f"`num_segments` and `ids` must have {len(x)} entries as `x`, "
                f"received {len(num_segments)} and {len(ids)}"
            )
        if len(x) and not (num_segments.min() >= 1 and num_segments.max() <= shape[0]):
            raise ValueError(
                f"`num_segments` must be 1 to {shape[0]}, received {num_segments.min()} to {num_segments.max()}"
            )
        if ids.dtype.itemsize > self._file["video_id_list"].dtype.itemsize:
            self._widen_ids(ids.dtype.itemsize)
        columns = (x, num_segments, targets, ids)
        self._append(dict(zip(self._keys, columns, strict=True)))
        self._digest.update(*columns)

    def file_done(self, name: str, rows: int) -> None:
        """Notes that the source file `name` ends after `rows` rows of the pack."""
        self._sources.append((name, rows))

    def checkpoint(self) -> None:
        """Makes the rows of all finished source files survive a kill from here on; call it between files."""
        self._checkpoint(digest=self._digest.hexdigest(), skipped=self.skipped, sources=self._sources)

    def finish(self) -> str:
        """Writes the attributes, puts clips into the order of their source files' names, renames -> the digest.

        Raises:
            ValueError: nothing was appended.
        """
        if not len(self):
            raise ValueError(f"{self.path}: no clip to write")
        names = [name for name, _ in self._sources]
        if names != sorted(names):
            with self._writing():
                self._reorder()
        digest = self._digest.hexdigest()
        if self.skipped:
            with self._writing():
                self._file["skipped"] = self.skipped
        written = {"format": "kerastag features", "format_version": FORMAT_VERSION, "digest": digest}
        self._put_in_place(self._attributes | written)
        return digest

    def close(self) -> None:
        super().close()
        self._sorted.unlink(missing_ok=True)

    def _create_datasets(self, file: h5py.File) -> None:
        (segments, features), num_classes, dtype, id_bytes = self._shapes
        rows, y_rows = _X_CHUNK_ROWS, _Y_CHUNK_ROWS
        file.create_dataset(
            "x", (0, segments, features), dtype, maxshape=(None, segments, features), chunks=(rows, segments, features)
        )
        file.create_dataset(
            "y",
            (0, num_classes),
            bool,
            maxshape=(None, num_classes),
            chunks=(y_rows, num_classes),
            compression="gzip",
            compression_opts=1,
        )
        file.create_dataset("video_id_list", (0,), f"S{id_bytes}", maxshape=(None,), chunks=(y_rows,))
        file.create_dataset("num_segments", (0,), np.uint8, maxshape=(None,), chunks=(y_rows,))

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        digest = digest_rows(file, state["rows"])
        if state["digest"] != digest.hexdigest():
            raise ValueError("rows are damaged")
        self.skipped, self._digest = state["skipped"], digest
        self._sources = [(name, rows) for name, rows in state["sources"]]

    def _widen_ids(self, id_bytes: int) -> None:
        with self._writing():
            names = self._file["video_id_list"][:].astype(f"S{id_bytes}")
            del self._file["video_id_list"]
            self._file.create_dataset("video_id_list", data=names, maxshape=(None,), chunks=(_Y_CHUNK_ROWS,))

    def _reorder(self) -> None:
        """A source that lists its files unsorted: copies their rows, file after file, into a sorted partial."""
        starts = [0, *(rows for _, rows in self._sources[:-1])]
        spans = sorted((name, start, stop) for (name, stop), start in zip(self._sources, starts, strict=True))
        id_bytes = self._file["video_id_list"].dtype.itemsize
        arrived, arrived_disk = self._file, self._disk
        self._shapes = (*self._shapes[:3], id_bytes)
        self._disk = CarefulFile.of(self._sorted)
        self._file, self._digest = self._create(), PackDigest()
        with arrived_disk, arrived:
            for batch in _batched(((start, stop) for _, start, stop in spans), SCAN_ROWS):
                self.append(
                    *(np.concatenate([arrived[key][start:stop] for start, stop in batch]) for key in self._keys)
                )
        self._sorted.replace(self.partial)


def _batched(spans: Iterable[tuple[int, int]], rows: int) -> Iterator[list[tuple[int, int]]]:
    """Row spans -> lists of them with about `rows` rows each."""
    batch: list[tuple[int, int]] = []
    for start, stop in spans:
        for begin in range(start, stop, rows):
            batch.append((begin, min(begin + rows, stop)))
            if sum(b - a for a, b in batch) >= rows:
                yield batch
                batch = []
    if batch:
        yield batch
