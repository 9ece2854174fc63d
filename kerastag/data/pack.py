"""Packs: clips of segment embeddings with their labels in one HDF5 file, written in order and read by row.

| dataset | type | holds |
| --- | --- | --- |
| `x` | uint8 (or float32) `(clips, segments, features)` | embeddings; zeros after a clip's last segment |
| `y` | bool `(clips, classes)`, gzip | labels |
| `video_id_list` | fixed-length bytes `(clips,)` | clip names |
| `num_segments` | uint8 `(clips,)` | segments that hold sound; absent in the papers' authors' packs: every one counts |
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import h5py
import numpy as np

from kerastag.data.pack_digest import SCAN_ROWS, as_bytes, digest_rows
from kerastag.data.pack_writer import FORMAT_VERSION, PackWriter

__all__ = ["FORMAT_VERSION", "FeaturePack", "PackWriter", "count_clips", "digest_of", "verify"]


def digest_of(path: str | os.PathLike[str]) -> str:
    """A pack -> the SHA-256 of its content, read through in constant memory.

    Args:
        path: an HDF5 pack.

    Returns:
        64 hexadecimal digits, equal for equal clips in equal order, whatever the file's layout.
    """
    with _opened(Path(path)) as file:
        return digest_rows(file, file["x"].shape[0]).hexdigest()


def verify(path: str | os.PathLike[str]) -> str:
    """A pack -> its digest, after comparing it with the one that was stored when it was written.

    Raises:
        ValueError: the pack stores no digest, or another one.
    """
    with _opened(Path(path)) as file:
        stored = file.attrs.get("digest")
    if stored is None:
        raise ValueError(f"{path}: attribute digest is missing: not written by kerastag, nothing to verify")
    computed = digest_of(path)
    if stored != computed:
        raise ValueError(f"{path}: the content does not match its digest: {stored} stored, {computed} computed")
    return computed


def count_clips(path: str | os.PathLike[str]) -> tuple[int, int, np.ndarray]:
    """A pack -> its clips, those shorter than a full bag, and the clips of every class, in constant memory."""
    with _opened(Path(path)) as file:
        clips, segments = file["x"].shape[:2]
        counts = np.zeros(file["y"].shape[1], np.int64)
        for start in range(0, clips, SCAN_ROWS):
            counts += file["y"][start : start + SCAN_ROWS].astype(bool).sum(axis=0)
        return clips, int((_read_lengths(Path(path), file) < segments).sum()), counts


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """An open pack with its layout checked; what HDF5 cannot read becomes one clear line."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such pack")
    try:
        with h5py.File(path, "r") as file:
            _check_layout(path, file)
            yield file
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: not an HDF5 file, truncated or damaged ({str(error).splitlines()[0]})") from error


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
        self._stack = ExitStack()
        stored = file["x"]
        if check_values and stored.dtype.kind == "f":
            self._leave_out(_rows_not_finite(stored), skip_corrupt)
        self.targets = self._select(_read_targets(path, file["y"]))
        self.ids = self._select(as_bytes(file["video_id_list"][:]))
        self.num_segments = self._select(_read_lengths(path, file))
        self._x = self._select(stored[:]) if in_memory else stored
        self._direct = None if in_memory else _DirectRows.of(path, stored)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
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
        with ExitStack() as stack:
            file = stack.enter_context(_opened(Path(path)))
            pack = cls(Path(path), file, in_memory, skip_corrupt, check_values)
            pack._stack = stack.pop_all()
            return pack

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

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Clips, segments of a clip, features of a segment."""
        return (len(self), *self._x.shape[1:])

    @property
    def lengths(self) -> np.ndarray:
        """`num_segments`, by the name that packs of any kind have for it."""
        return self.num_segments

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
        if indices.size and (indices.min() < 0 or indices.max() >= len(self)):
            wrong = indices[(indices < 0) | (indices >= len(self))][0]
            raise IndexError(f"{self.path}: `indices` must lie in [0, {len(self)}), received {wrong}")
        return self._gather(indices), self.num_segments[indices], self.targets[indices]

    def close(self) -> None:
        """Closes the file; what is in memory stays usable."""
        self._stack.close()
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
        for row, begin in zip(gathered, begins.tolist(), strict=True):
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
    for start in range(0, len(y), SCAN_ROWS):
        part = y[start : start + SCAN_ROWS]
        if part.dtype != bool and not np.isin(part, (0, 1)).all():
            row = start + int(np.argmax(~np.isin(part, (0, 1)).all(axis=1)))
            raise ValueError(f"{path}: key y, row {row}: labels must be 0 or 1")
        targets[start : start + SCAN_ROWS] = part
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
        start + np.flatnonzero(~np.isfinite(x[start : start + SCAN_ROWS]).all(axis=(1, 2)))
        for start in range(0, len(x), SCAN_ROWS)
    ]
    return np.concatenate(found)
