"""Rows of an uncompressed HDF5 dataset, read at their offsets in the file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from kerastag.data.pack_layout import count_filters


class DirectReader:
    """Reader of rows of an uncompressed dataset, which does not read whole chunks.

    Args:
        path: Path of the file.
        dataset: Dataset, whose rows are contiguous in the file.
        starts: Offset of each chunk in the file, int `(chunks,)`.
        chunk_rows: Number of rows of a chunk.

    Raises:
        ValueError: Rows are beyond the end of the file.
    """

    def __init__(self, path: Path, dataset: h5py.Dataset, starts: np.ndarray, chunk_rows: int) -> None:
        self._bytes = np.memmap(path, np.uint8, "r")
        self._dtype, self._shape = dataset.dtype, dataset.shape[1:]
        self._row_bytes = dataset.dtype.itemsize * int(np.prod(self._shape))
        self._starts, self._chunk_rows = starts, chunk_rows
        if starts.min() < 0 or starts.max() + min(chunk_rows, len(dataset)) * self._row_bytes > len(self._bytes):
            raise ValueError(f"{path}: key {dataset.name}: rows are beyond the end of the file")

    @classmethod
    def create(cls, path: Path, dataset: h5py.Dataset) -> DirectReader | None:
        """Return a reader, or None if the rows of the dataset are not contiguous in the file."""
        if count_filters(dataset) or dataset.file.userblock_size:
            return None
        if dataset.chunks is None:
            offset = dataset.id.get_offset()
            return None if offset is None else cls(path, dataset, np.array([offset]), dataset.shape[0])
        if dataset.chunks[1:] != dataset.shape[1:] or not hasattr(dataset.id, "chunk_iter"):
            return None
        starts = np.full(-(-dataset.shape[0] // dataset.chunks[0]), -1, np.int64)

        def store_offset(chunk: h5py.h5d.StoreInfo) -> None:
            starts[chunk.chunk_offset[0] // dataset.chunks[0]] = chunk.byte_offset

        dataset.id.chunk_iter(store_offset)
        return None if (starts < 0).any() else cls(path, dataset, starts, dataset.chunks[0])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read rows, in any order, repeated or not."""
        offsets = self._starts[rows // self._chunk_rows] + rows % self._chunk_rows * self._row_bytes
        content = np.empty((len(rows), self._row_bytes), np.uint8)
        for row, offset in zip(content, offsets.tolist(), strict=True):
            row[:] = self._bytes[offset : offset + self._row_bytes]
        return content.view(self._dtype).reshape(len(rows), *self._shape)
