"""Packs: clips of segment embeddings with their labels in one HDF5 file, written in order and read by row.

| dataset | type | holds |
| --- | --- | --- |
| `x` | uint8 (or float32) `(clips, segments, features)` | embeddings; zeros after a clip's last segment |
| `y` | bool `(clips, classes)`, gzip | labels |
| `video_id_list` | fixed-length bytes `(clips,)` | clip names |
| `num_segments` | uint8 `(clips,)` | segments that hold sound; absent in the papers' authors' packs: every one counts |
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

__all__ = ["FORMAT_VERSION", "FeaturePack", "PackWriter", "count_clips", "digest_of", "verify"]

FORMAT_VERSION = 1
_X_CHUNK_ROWS = 64
_Y_CHUNK_ROWS = 1024
_SCAN_ROWS = 4096
_FULL_DISK = ("No space left", "Disk quota", "File too large", "errno = 28", "errno = 27", "errno = 122")


class PackDigest:
    """A running SHA-256 over features, lengths, labels and names in row order, however the rows are batched."""

    def __init__(self) -> None:
        self._parts = [hashlib.sha256() for _ in range(4)]

    def update(self, x: np.ndarray, num_segments: np.ndarray, targets: np.ndarray, ids: np.ndarray) -> None:
        names = b"".join(name + b"\n" for name in ids.tolist())
        little = x.dtype.newbyteorder("<")
        arrays = np.ascontiguousarray(x, little), num_segments.astype(np.uint8), np.packbits(targets.astype(bool), 1)
        for part, data in zip(self._parts, (*(memoryview(a).cast("B") for a in arrays if a.size), names)):
            part.update(data)

    def hexdigest(self) -> str:
        return hashlib.sha256(b"".join(part.digest() for part in self._parts)).hexdigest()


def digest_of(path: str | os.PathLike) -> str:
    """A pack -> the SHA-256 of its content, read through in constant memory.

    Args:
        path: an HDF5 pack.

    Returns:
        64 hexadecimal digits, equal for equal clips in equal order, whatever the file's layout.
    """
    with FeaturePack.open(path, in_memory=False, check_values=False) as pack:
        return _digest_rows(pack.file, len(pack)).hexdigest()


def verify(path: str | os.PathLike) -> str:
    """A pack -> its digest, after comparing it with the one that was stored when it was written.

    Raises:
        ValueError: the pack stores no digest, or another one.
    """
    with FeaturePack.open(path, in_memory=False, check_values=False) as pack:
        stored = pack.attributes.get("digest")
        computed = _digest_rows(pack.file, len(pack)).hexdigest()
    if stored is None:
        raise ValueError(f"{path}: attribute `digest` is missing: not written by kerastag, nothing to verify")
    if stored != computed:
        raise ValueError(f"{path}: content does not match its digest: stored {stored}, computed {computed}")
    return computed


def count_clips(path: str | os.PathLike) -> tuple[int, int, np.ndarray]:
    """A pack -> its clips, those shorter than a full bag, and the clips of every class, in constant memory."""
    with h5py.File(path, "r") as file:
        clips, segments = file["x"].shape[:2]
        counts = np.zeros(file["y"].shape[1], np.int64)
        for start in range(0, clips, _SCAN_ROWS):
            counts += file["y"][start : start + _SCAN_ROWS].astype(bool).sum(axis=0)
        return clips, int((_read_lengths(Path(path), file) < segments).sum()), counts


def _digest_rows(file: h5py.File, rows: int) -> PackDigest:
    digest = PackDigest()
    for start in range(0, rows, _SCAN_ROWS):
        part = slice(start, min(start + _SCAN_ROWS, rows))
        x = file["x"][part]
        lengths = file["num_segments"][part] if "num_segments" in file else np.full(len(x), x.shape[1], np.uint8)
        digest.update(x, lengths, file["y"][part], _as_bytes(file["video_id_list"][part]))
    return digest


def _as_bytes(names: np.ndarray) -> np.ndarray:
    """HDF5 strings, of fixed or variable length -> a fixed-length bytes array."""
    if names.dtype.kind == "S":
        return names
    names = [name.encode() if isinstance(name, str) else bytes(name) for name in names.tolist()]
    return np.array(names, dtype=f"S{max([11, *map(len, names)])}")


class FeaturePack:
    """An HDF5 pack on disk -> rows of embeddings with their labels, in any order.

    Packs of the papers' authors (`x`, `y`, `video_id_list` only) are read too; each of their clips
    counts as full. Use `FeaturePack.open`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "tiny.h5"
    >>> with PackWriter(path, num_classes=2, segments=10, features=4) as writer:
    ...     writer.append(np.ones((3, 10, 4), np.uint8), [10, 10, 7], np.eye(3, 2, dtype=bool), [b"a", b"b", b"c"])
    ...     _ = writer.finish()
    >>> with FeaturePack.open(path, in_memory=False) as pack:
    ...     x, num_segments, targets = pack.rows([2, 0, 2])
    >>> x.shape, num_segments.tolist(), targets[1].tolist()
    ((3, 10, 4), [7, 10, 7], [True, False])
    """

    def __init__(self, path: Path, file: h5py.File, in_memory: bool, skip_corrupt: bool, check_values: bool) -> None:
        self.path, self.file = path, file
        self.attributes: dict[str, object] = dict(file.attrs)
        self.skipped: tuple[int, ...] = ()
        self._keep: np.ndarray | None = None
        _check_layout(path, file)
        stored = file["x"]
        if check_values and stored.dtype.kind == "f":
            self._leave_out(_rows_not_finite(stored), skip_corrupt)
        self.targets = self._select(_read_targets(path, file["y"]))
        self.ids = self._select(_as_bytes(file["video_id_list"][:]))
        self.num_segments = self._select(_read_lengths(path, file))
        self._x = self._select(stored[:]) if in_memory else stored
        self._direct = None if in_memory else _DirectRows.of(path, stored)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        in_memory: bool = True,
        *,
        skip_corrupt: bool = False,
        check_values: bool = True,
    ) -> FeaturePack:
        """A pack's path -> the opened pack.

        Args:
            path: an HDF5 file.
            in_memory: True reads all embeddings now (1,280 bytes a clip); False reads rows when asked.
            skip_corrupt: leave out rows with NaN or infinity (floating-point packs) and list them in
                `skipped`, instead of refusing the pack.
            check_values: look for NaN and infinity in floating-point packs.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not HDF5, truncated, foreign, empty, shapes that disagree, or values that are not finite.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such pack")
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise ValueError(f"{path}: not an HDF5 file, or truncated ({_first_line(error)})") from error
        try:
            return cls(path, file, in_memory, skip_corrupt, check_values)
        except OSError as error:
            file.close()
            raise ValueError(f"{path}: damaged HDF5 file ({_first_line(error)})") from error
        except BaseException:
            file.close()
            raise

    @property
    def x(self) -> np.ndarray | h5py.Dataset:
        """All embeddings: an array when in memory, the HDF5 dataset otherwise."""
        if self._keep is not None and isinstance(self._x, h5py.Dataset):
            raise ValueError(
                f"{self.path}: rows were left out, so `x` on disk has others: use `rows`, or in_memory=True"
            )
        return self._x

    @property
    def num_classes(self) -> int:
        return self.targets.shape[1]

    def __len__(self) -> int:
        return len(self.num_segments)

    def rows(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row numbers, in any order and repeated at will -> `(x, num_segments, targets)` of those rows.

        Args:
            indices: integers in `[0, len(pack))`.

        Raises:
            IndexError: an index out of range.
        """
        indices = np.asarray(indices, np.int64)
        if indices.size and not (0 <= indices.min() and indices.max() < len(self)):
            wrong = indices[(indices < 0) | (indices >= len(self))][0]
            raise IndexError(f"{self.path}: `indices` must lie in [0, {len(self)}), received {wrong}")
        return self._gather(indices), self.num_segments[indices], self.targets[indices]

    def close(self) -> None:
        self.file.close()
        self._direct = None

    def __enter__(self) -> FeaturePack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FeaturePack({str(self.path)!r}, {len(self)} clips, {self.num_classes} classes)"

    def _gather(self, indices: np.ndarray) -> np.ndarray:
        if isinstance(self._x, np.ndarray):
            return self._x[indices]
        stored = indices if self._keep is None else self._keep[indices]
        if self._direct is not None:
            return self._direct.read(stored)
        unique, inverse = np.unique(stored, return_inverse=True)
        return self._x[unique][inverse]

    def _select(self, array: np.ndarray) -> np.ndarray:
        return array if self._keep is None else array[self._keep]

    def _leave_out(self, corrupt: np.ndarray, skip_corrupt: bool) -> None:
        rows = self.file["x"].shape[0]
        if not len(corrupt):
            return
        if not skip_corrupt:
            raise ValueError(
                f"{self.path}: key x, row {corrupt[0]}: NaN or infinity ({len(corrupt)} of {rows} rows have one)"
            )
        if len(corrupt) == rows:
            raise ValueError(f"{self.path}: key x: NaN or infinity in every one of its {rows} rows")
        self.skipped = tuple(corrupt.tolist())
        self._keep = np.setdiff1d(np.arange(rows), corrupt)


class _DirectRows:
    """Rows of an uncompressed dataset read from their places in the file: no chunk is read for one row's sake."""

    def __init__(self, path: Path, dataset: h5py.Dataset, starts: np.ndarray, chunk_rows: int) -> None:
        self._bytes = np.memmap(path, np.uint8, "r")
        self._dtype, self._shape = dataset.dtype, dataset.shape[1:]
        self._row_bytes = dataset.dtype.itemsize * int(np.prod(self._shape))
        self._starts, self._chunk_rows = starts, chunk_rows

    @classmethod
    def of(cls, path: Path, dataset: h5py.Dataset) -> _DirectRows | None:
        if dataset.compression or dataset.shuffle or dataset.fletcher32 or dataset.scaleoffset is not None:
            return None
        if dataset.chunks is None:
            offset = dataset.id.get_offset()
            return None if offset is None else cls(path, dataset, np.array([offset]), dataset.shape[0])
        if dataset.chunks[1:] != dataset.shape[1:] or not hasattr(dataset.id, "chunk_iter"):
            return None
        starts = np.full(-(-dataset.shape[0] // dataset.chunks[0]), -1, np.int64)

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            starts[chunk.chunk_offset[0] // dataset.chunks[0]] = chunk.byte_offset

        dataset.id.chunk_iter(note)
        return None if (starts < 0).any() else cls(path, dataset, starts, dataset.chunks[0])

    def read(self, rows: np.ndarray) -> np.ndarray:
        begins = self._starts[rows // self._chunk_rows] + rows % self._chunk_rows * self._row_bytes
        gathered = np.empty((len(rows), self._row_bytes), np.uint8)
        for row, begin in zip(gathered, begins.tolist()):
            row[:] = self._bytes[begin : begin + self._row_bytes]
        return gathered.view(self._dtype).reshape(len(rows), *self._shape)


def _check_layout(path: Path, file: h5py.File) -> None:
    missing = [key for key in ("x", "y", "video_id_list") if not isinstance(file.get(key), h5py.Dataset)]
    if missing:
        raise ValueError(f"{path}: key {missing[0]} is missing: not a pack (it has: {', '.join(file) or 'nothing'})")
    x, y, ids = file["x"], file["y"], file["video_id_list"]
    if x.ndim != 3 or x.dtype not in (np.uint8, np.float32):
        raise ValueError(
            f"{path}: key x must be uint8 or float32 (clips, segments, features), received {x.dtype} {x.shape}"
        )
    if y.ndim != 2 or y.shape[0] != x.shape[0]:
        raise ValueError(f"{path}: key y must have one row a clip: {x.shape[0]} in x, received shape {y.shape}")
    if ids.shape != (x.shape[0],):
        raise ValueError(f"{path}: key video_id_list must have {x.shape[0]} entries as x, received shape {ids.shape}")
    if 0 in x.shape or y.shape[1] == 0:
        raise ValueError(f"{path}: empty pack: x {x.shape}, y {y.shape}")


def _read_targets(path: Path, y: h5py.Dataset) -> np.ndarray:
    targets = np.empty(y.shape, bool)
    for start in range(0, len(y), _SCAN_ROWS):
        part = y[start : start + _SCAN_ROWS]
        if part.dtype != bool and not np.isin(part, (0, 1)).all():
            row = start + int(np.argmax(~np.isin(part, (0, 1)).all(axis=1)))
            raise ValueError(f"{path}: key y, row {row}: labels must be 0 or 1")
        targets[start : start + _SCAN_ROWS] = part
    return targets


def _read_lengths(path: Path, file: h5py.File) -> np.ndarray:
    clips, segments = file["x"].shape[:2]
    if "num_segments" not in file:
        return np.full(clips, segments, np.uint8 if segments < 256 else np.int32)
    lengths = file["num_segments"][:]
    if lengths.shape != (clips,):
        raise ValueError(f"{path}: key num_segments must have {clips} entries as x, received shape {lengths.shape}")
    if lengths.min() < 1 or lengths.max() > segments:
        row = int(np.argmax((lengths < 1) | (lengths > segments)))
        raise ValueError(f"{path}: key num_segments, row {row}: must be 1 to {segments}, received {lengths[row]}")
    return lengths


def _rows_not_finite(x: h5py.Dataset) -> np.ndarray:
    found = [
        start + np.flatnonzero(~np.isfinite(x[start : start + _SCAN_ROWS]).all(axis=(1, 2)))
        for start in range(0, len(x), _SCAN_ROWS)
    ]
    return np.concatenate(found)


class PackWriter:
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
        attributes: what to store beside the data: source, licence, split and the like.
        fingerprint: what the rows come from; a partial file with another one is started again.
            None never resumes.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        num_classes: int,
        segments: int = 10,
        features: int = 128,
        dtype: str | np.dtype = "uint8",
        id_bytes: int = 11,
        attributes: Mapping[str, object] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if not 1 <= segments <= 255:
            raise ValueError(f"`segments` must be 1 to 255, received {segments}")
        if np.dtype(dtype) not in (np.uint8, np.float32):
            raise ValueError(f"`dtype` must be uint8 or float32, received {np.dtype(dtype)}")
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.skipped: list[str] = []
        self._shapes = (segments, features), num_classes, np.dtype(dtype), id_bytes
        self._attributes, self._fingerprint = dict(attributes or {}), fingerprint
        self._digest = PackDigest()
        self._sources: list[tuple[str, int]] = []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = (self._resume() if fingerprint is not None else None) or self._create()
        self.resumed_files = len(self._sources)

    def __len__(self) -> int:
        return self._file["x"].shape[0]

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
        ids = _as_bytes(np.asarray(ids, object))
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
        start, stop = len(self), len(self) + len(x)
        with _clear_disk_errors(self.partial):
            if ids.dtype.itemsize > self._file["video_id_list"].dtype.itemsize:
                self._widen_ids(ids.dtype.itemsize)
            columns = {"x": x, "num_segments": num_segments, "y": targets, "video_id_list": ids}
            for key, values in columns.items():
                self._file[key].resize(stop, axis=0)
                self._file[key][start:stop] = values
        self._digest.update(x, num_segments, targets, ids)

    def file_done(self, name: str, rows: int) -> None:
        """Notes that the source file `name` ends after `rows` rows of the pack."""
        self._sources.append((name, rows))

    def checkpoint(self) -> None:
        """Makes the rows of all finished source files survive a kill from here on; call it between files."""
        state = {
            "fingerprint": self._fingerprint,
            "rows": len(self),
            "digest": self._digest.hexdigest(),
            "skipped": self.skipped,
            "sources": self._sources,
        }
        with _clear_disk_errors(self.partial):
            if "state" in self._file:
                del self._file["state"]
            self._file["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
            self._file.flush()

    def finish(self) -> str:
        """Writes the attributes, puts clips into the order of their source files' names, renames -> the digest.

        Raises:
            ValueError: nothing was appended.
        """
        if not len(self):
            raise ValueError(f"{self.path}: no clip to write")
        with _clear_disk_errors(self.partial):
            if "state" in self._file:
                del self._file["state"]
            names = [name for name, _ in self._sources]
            if names != sorted(names):
                self._reorder()
            digest = self._digest.hexdigest()
            if self.skipped:
                self._file["skipped"] = self.skipped
            self._file.attrs.update(self._attributes)
            self._file.attrs.update({"format": "kerastag features", "format_version": FORMAT_VERSION, "digest": digest})
            self._file.close()
        os.replace(self.partial, self.path)
        return digest

    def close(self) -> None:
        """Closes without finishing; the partial file stays for the next run when it can be resumed."""
        try:
            self._file.close()
        except (OSError, RuntimeError):  # after a full disk, closing fails once more
            pass
        if self._fingerprint is None:
            self.partial.unlink(missing_ok=True)

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _create(self, path: Path | None = None) -> h5py.File:
        (segments, features), num_classes, dtype, id_bytes = self._shapes
        file = h5py.File(path or self.partial, "w")
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
        return file

    def _resume(self) -> h5py.File | None:
        if not self.partial.is_file():
            return None
        file = None
        try:
            file = h5py.File(self.partial, "r+")
            state = json.loads(file["state"][:].tobytes())
            digest = _digest_rows(file, state["rows"])
            if state["fingerprint"] != self._fingerprint or state["digest"] != digest.hexdigest():
                raise ValueError("another source, or rows damaged")
            for key in ("x", "y", "video_id_list", "num_segments"):
                file[key].resize(state["rows"], axis=0)
        except Exception:  # whatever a kill left behind: the rows can always be read again from their source
            if file is not None:
                file.close()
            return None
        self.skipped, self._digest = state["skipped"], digest
        self._sources = [(name, rows) for name, rows in state["sources"]]
        return file

    def _widen_ids(self, id_bytes: int) -> None:
        names = self._file["video_id_list"][:].astype(f"S{id_bytes}")
        del self._file["video_id_list"]
        self._file.create_dataset("video_id_list", data=names, maxshape=(None,), chunks=(_Y_CHUNK_ROWS,))

    def _reorder(self) -> None:
        """A source that lists its files unsorted: copies their rows, file after file, into a sorted partial."""
        arrived, self._file = self._file, None
        sorted_path = self.partial.with_name(self.partial.name + ".sorted")
        shapes = *self._shapes[:3], arrived["video_id_list"].dtype.itemsize
        self._shapes = shapes
        self._file, self._digest = self._create(sorted_path), PackDigest()
        starts = [0, *(rows for _, rows in self._sources)]
        spans = sorted((name, start, stop) for (name, stop), start in zip(self._sources, starts))
        for batch in _batched(((start, stop) for _, start, stop in spans), _SCAN_ROWS):
            columns = ("x", "num_segments", "y", "video_id_list")
            self.append(*(np.concatenate([arrived[key][start:stop] for start, stop in batch]) for key in columns))
        arrived.close()
        os.replace(sorted_path, self.partial)


def _batched(spans: Iterator[tuple[int, int]], rows: int) -> Iterator[list[tuple[int, int]]]:
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


class _clear_disk_errors:
    """A full disk inside HDF5 -> one clear line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, (OSError, RuntimeError)) and any(words in str(error) for words in _FULL_DISK):
            raise OSError(f"{self._path}: the disk is full; free some space and run the same command again") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
