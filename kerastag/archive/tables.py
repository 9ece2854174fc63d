"""The Parquet tables of an archive: their columns, and a writer whose files have the same bytes for the same rows."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["FORMAT", "TABLES", "TableWriter", "get_schema", "list_parts", "name_part"]

FORMAT = 1
"""Version of the columns and of the files beside the tables."""
TABLES = ("files", "tags", "events", "embeddings", "failures")
"""Names of the tables, which are folders of an archive. `tags`, `events` and `embeddings` are optional."""

_TEXT, _SECONDS, _PROBABILITY = pa.string(), pa.float64(), pa.float32()
_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    "files": {
        "file": _TEXT,
        "duration_seconds": _SECONDS,
        "num_windows": pa.int32(),
        "num_tags": pa.int64(),
        "num_events": pa.int64(),
        "top_class": _TEXT,
        "top_mid": _TEXT,
        "top_probability": _PROBABILITY,
        "empty_reason": _TEXT,
        "warning": _TEXT,
    },
    "tags": {
        "file": _TEXT,
        "start_seconds": _SECONDS,
        "end_seconds": _SECONDS,
        "class": _TEXT,
        "mid": _TEXT,
        "probability": _PROBABILITY,
    },
    "events": {
        "file": _TEXT,
        "onset_seconds": _SECONDS,
        "offset_seconds": _SECONDS,
        "class": _TEXT,
        "mid": _TEXT,
        "peak_probability": _PROBABILITY,
        "mean_probability": _PROBABILITY,
    },
    "embeddings": {"file": _TEXT, "start_seconds": _SECONDS, "end_seconds": _SECONDS},
    "failures": {"file": _TEXT, "stage": _TEXT, "kind": _TEXT, "reason": _TEXT},
}
_NULLABLE = {"top_class", "top_mid", "top_probability", "empty_reason", "warning"}
_ROWS_PER_GROUP = {"embeddings": 8_192}
_DEFAULT_ROWS_PER_GROUP = 65_536
_METADATA_KEY = "kerastag"


def get_schema(table: str, num_features: int = 0) -> pa.Schema:
    """Return the columns of one of `TABLES`.

    Args:
        table: Name of the table.
        num_features: Length of an embedding, for the table `embeddings`, whose column `embedding` is a list of this
            fixed size, float32.
    """
    columns = dict(_COLUMNS[table])
    if table == "embeddings":
        columns["embedding"] = pa.list_(pa.field("element", pa.float32(), nullable=False), num_features)
    return pa.schema([pa.field(name, kind, nullable=name in _NULLABLE) for name, kind in columns.items()])


def name_part(shard: int) -> str:
    """Return the name of the file of a shard in every table, `part-000012.parquet`."""
    return f"part-{shard:06d}.parquet"


def list_parts(folder: Path, table: str) -> list[Path]:
    """List the files of a table in an archive, in the order of the shards."""
    return sorted((folder / table).glob("part-*.parquet"))


class TableWriter:
    """Writer of one Parquet file, whose bytes depend on the rows alone and not on how they are appended.

    Rows are written in groups of a fixed size, so that memory does not grow with the number of rows.

    Args:
        path: Path of the file.
        table: One of `TABLES`.
        texts: Values of the columns of text that are given by number, by the name of the column: `file`, `class`,
            `mid`.
        metadata: JSON values for the key `kerastag` of the file.
        num_features: Length of an embedding, for the table `embeddings`.
    """

    def __init__(
        self,
        path: Path,
        table: str,
        texts: Mapping[str, Sequence[str]],
        metadata: Mapping[str, Any],
        num_features: int = 0,
    ) -> None:
        self._schema = get_schema(table, num_features)
        self._texts = {name: pa.array(values, _TEXT) for name, values in texts.items()}
        self._group_rows = _ROWS_PER_GROUP.get(table, _DEFAULT_ROWS_PER_GROUP)
        self._rest = self._schema.empty_table()
        self._pending: list[list[Any]] = []  # values by column, as they were appended
        self._pending_rows = self.num_rows = 0
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=3, version="2.6")
        text = json.dumps({"format": FORMAT, "table": table, **metadata}, ensure_ascii=False, separators=(",", ":"))
        self._writer.add_key_value_metadata({_METADATA_KEY: text})

    def append(self, columns: Mapping[str, Any]) -> None:
        """Append rows.

        Args:
            columns: Values of every column, each of one length: lists or arrays, `(rows, features)` for `embedding`.
                A column with `texts` has the numbers of its values, or None.
        """
        self._pending.append([columns[name] for name in self._schema.names])
        num_rows = len(self._pending[-1][0])
        self._pending_rows += num_rows
        self.num_rows += num_rows
        if len(self._rest) + self._pending_rows >= self._group_rows:
            rows = self._take_rows()
            num_whole = len(rows) - len(rows) % self._group_rows
            self._write(rows.slice(0, num_whole))
            self._rest = rows.slice(num_whole)

    def close(self) -> None:
        """Write the rest of the rows and the end of the file."""
        rows = self._take_rows()
        if len(rows):
            self._write(rows)
        self._writer.close()

    def _take_rows(self) -> pa.Table:
        """Return all rows that were not written yet. Converting many at once takes a fraction of the time."""
        if not self._pending:
            return self._rest
        columns = zip(self._schema, zip(*self._pending, strict=True), strict=True)
        rows = pa.table([self._convert(field, parts) for field, parts in columns], schema=self._schema)
        self._pending, self._pending_rows = [], 0
        return pa.concat_tables([self._rest, rows])

    def _convert(self, field: pa.Field, parts: Sequence[Any]) -> pa.Array:
        are_arrays = all(isinstance(values, np.ndarray) for values in parts)
        values = np.concatenate(parts) if are_arrays else list(itertools.chain.from_iterable(parts))
        if field.name in self._texts:
            indices = pa.array(values, pa.int32())
            return pa.DictionaryArray.from_arrays(indices, self._texts[field.name]).dictionary_decode()
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, type=field.type)
        return pa.array(values, field.type)

    def _write(self, rows: pa.Table) -> None:
        # A row group is compressed from contiguous columns, however many parts the rows came in.
        self._writer.write_table(rows.combine_chunks(), row_group_size=self._group_rows)
