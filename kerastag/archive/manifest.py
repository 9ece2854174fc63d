"""The manifest of an archive: every file to process, in shards of bounded work.

`manifest/part-000000.parquet` has the files of the first planning, and every later part those that were added. The
slice of a shard never changes, unless a file changed and `update` asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kerastag.archive.listing import LISTING_SCHEMA
from kerastag.archive.tables import name_part
from kerastag.files import write_atomically

__all__ = ["Changes", "Manifest"]

_FOLDER = "manifest"
_SCHEMA = LISTING_SCHEMA.append(pa.field("shard", pa.int32(), nullable=False))


@dataclass(frozen=True)
class Changes:
    """What a new listing has that a manifest has not.

    Attributes:
        added: Files that the manifest lacks, as a listing.
        changed: Files of the manifest whose size, time or problem differ, as a listing.
        removed: Paths in the manifest that the listing lacks, `(files,)`.
    """

    added: pa.Table
    changed: pa.Table
    removed: pa.Array


class Manifest:
    """The files of an archive with their shards.

    Args:
        folder: Folder of the archive.

    Attributes:
        table: Files in the order of their shards, with the columns of a listing and `shard`.

    Raises:
        ValueError: A part of the manifest is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder) / _FOLDER
        self._parts = [_read_part(path) for path in sorted(self._folder.glob("part-*.parquet"))]
        self.table = self._join()

    @property
    def num_shards(self) -> int:
        """Number of shards; they are numbered from 0."""
        return pc.max(self.table["shard"]).as_py() + 1 if len(self.table) else 0

    def get_slices(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield the number and the files of each shard that has any, in order."""
        shards = self.table["shard"].to_numpy()
        starts = np.flatnonzero(np.diff(shards, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(shards)], strict=True):
            yield int(shards[start]), self.table.slice(start, end - start)

    def compare(self, listing: pa.Table) -> Changes:
        """Compare the manifest with a new listing; a million files take a second."""
        old = self.table
        positions = pc.index_in(listing["path"], old["path"].combine_chunks())
        is_new = pc.is_null(positions)
        common, before = listing.filter(pc.invert(is_new)), old.take(positions.drop_null())
        differs = np.zeros(len(common), bool)
        for name in ("size", "modified_ns", "problem"):
            equal = pc.equal(common[name], before[name])
            both_null = pc.and_(pc.is_null(common[name]), pc.is_null(before[name]))
            differs |= ~np.asarray(pc.or_(pc.fill_null(equal, False), both_null))
        is_listed = pc.is_in(old["path"], listing["path"].combine_chunks())
        removed = old["path"].filter(pc.invert(is_listed)).combine_chunks()
        return Changes(listing.filter(is_new), common.filter(pa.array(differs)), removed)

    def extend(self, files: pa.Table, max_files: int, max_bytes: int) -> None:
        """Add files in new shards, each with at most `max_files` files, and `max_bytes` bytes if it has several."""
        if not len(files):
            return
        shards = pa.array(self.num_shards + _cut(files["size"], max_files, max_bytes), pa.int32())
        part = files.append_column(_SCHEMA.field("shard"), shards)
        self._write(len(self._parts), part)
        self._parts.append(part)
        self.table = self._join()

    def find_shards(self, changes: Changes) -> list[int]:
        """Find the shards that have changed or removed files."""
        paths = pa.chunked_array([changes.changed["path"].combine_chunks(), changes.removed])
        return pc.unique(self.table.filter(pc.is_in(self.table["path"], paths))["shard"]).to_pylist()

    def update(self, changes: Changes) -> None:
        """Give changed files their new size and time, and drop removed files."""
        for number, part in enumerate(self._parts):
            rest = part.filter(pc.invert(pc.is_in(part["path"], changes.removed)))
            positions = pc.index_in(rest["path"].combine_chunks(), changes.changed["path"].combine_chunks())
            is_changed = pc.is_valid(positions)
            columns = {name: rest[name].combine_chunks() for name in _SCHEMA.names}
            for name in ("size", "modified_ns", "problem"):
                new = changes.changed[name].combine_chunks().take(positions.drop_null())
                columns[name] = pc.replace_with_mask(columns[name], is_changed, new)
            new_part = pa.table(columns, schema=_SCHEMA)
            if not new_part.equals(part):
                self._write(number, new_part)
                self._parts[number] = new_part
        self.table = self._join()

    def _join(self) -> pa.Table:
        return pa.concat_tables(self._parts).combine_chunks() if self._parts else _SCHEMA.empty_table()

    def _write(self, number: int, part: pa.Table) -> None:
        path = self._folder / name_part(number)
        write_atomically(path, lambda temporary: pq.write_table(part, temporary, compression="zstd", version="2.6"))


def _cut(sizes: pa.ChunkedArray, max_files: int, max_bytes: int) -> np.ndarray:
    """Return the number of the shard of each file, `(files,)`, from 0."""
    ends = np.cumsum(pc.fill_null(sizes, 0).to_numpy())
    shards = np.zeros(len(ends), np.int32)
    start, done, shard = 0, 0, 0
    while start < len(ends):
        end = max(start + 1, min(start + max_files, int(np.searchsorted(ends, done + max_bytes, side="right"))))
        shards[start:end] = shard
        start, done, shard = end, int(ends[min(end, len(ends)) - 1]), shard + 1
    return shards


def _read_part(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, schema=_SCHEMA)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: damaged; restore it, or use another output folder ({error})") from error
