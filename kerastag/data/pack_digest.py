"""The content of a pack -> a digest that does not depend on the file's layout."""

from __future__ import annotations

import hashlib

import h5py
import numpy as np

__all__ = ["SCAN_ROWS", "PackDigest", "as_bytes", "digest_rows"]

SCAN_ROWS = 4096
"""Rows read at a time by what goes through a whole pack in constant memory."""


class PackDigest:
    """A running SHA-256 over features, lengths, labels and names in row order, however the rows are batched."""

    def __init__(self) -> None:
        self._parts = [hashlib.sha256() for _ in range(4)]

    def update(self, x: np.ndarray, num_segments: np.ndarray, targets: np.ndarray, ids: np.ndarray) -> None:
        if not len(x):
            return
        little = np.ascontiguousarray(x, x.dtype.newbyteorder("<"))
        names = np.frombuffer(b"".join(name + b"\n" for name in ids.tolist()), np.uint8)
        columns = little, num_segments.astype(np.uint8), np.packbits(targets.astype(bool), axis=1), names
        for part, column in zip(self._parts, columns, strict=True):
            part.update(column.data)

    def hexdigest(self) -> str:
        return hashlib.sha256(b"".join(part.digest() for part in self._parts)).hexdigest()


def digest_rows(file: h5py.File, rows: int) -> PackDigest:
    digest = PackDigest()
    for start in range(0, rows, SCAN_ROWS):
        part = slice(start, min(start + SCAN_ROWS, rows))
        x = file["x"][part]
        lengths = file["num_segments"][part] if "num_segments" in file else np.full(len(x), x.shape[1], np.uint8)
        digest.update(x, lengths, file["y"][part], as_bytes(file["video_id_list"][part]))
    return digest


def as_bytes(names: np.ndarray) -> np.ndarray:
    """HDF5 strings, of fixed or variable length -> a fixed-length bytes array."""
    if names.dtype.kind == "S":
        return names
    encoded = [name.encode() if isinstance(name, str) else bytes(name) for name in names.tolist()]
    return np.array(encoded, dtype=f"S{max([11, *map(len, encoded)])}")
