"""Parquet tables: equal bytes for equal rows, however they are appended."""

import hashlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from kerastag.archive.tables import TABLES, TableWriter, get_schema, list_parts, name_part

ROWS = 20_000


def write_embeddings(path, cuts):
    rng = np.random.default_rng(0)
    columns = {
        "file": rng.integers(0, 2, ROWS),
        "start_seconds": np.arange(ROWS, dtype=float),
        "end_seconds": np.arange(ROWS) + 1.0,
        "embedding": rng.normal(size=(ROWS, 4)).astype(np.float32),
    }
    writer = TableWriter(path, "embeddings", {"file": ["a.wav", "b.wav"]}, {"model": "0"}, 4)
    for start, end in zip([0, *cuts], [*cuts, ROWS], strict=True):
        writer.append({name: values[start:end] for name, values in columns.items()})
    writer.close()
    return columns, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("cuts", [[5, 7_000, 8_192, 9_000], range(100, 19_900, 77)])
def test_the_bytes_do_not_depend_on_how_rows_are_appended(tmp_path, cuts):
    columns, digest = write_embeddings(tmp_path / "a.parquet", [])
    assert write_embeddings(tmp_path / "b.parquet", cuts)[1] == digest
    table = pq.read_table(tmp_path / "b.parquet")
    np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy()), columns["embedding"])
    assert table["file"].to_pylist() == [["a.wav", "b.wav"][k] for k in columns["file"]]
    groups = pq.ParquetFile(tmp_path / "b.parquet").metadata
    assert [groups.row_group(k).num_rows for k in range(3)] == [8_192, 8_192, 3_616]


def test_every_table_has_a_schema_and_an_empty_file(tmp_path):
    for table in TABLES:
        path = tmp_path / table / name_part(0)
        path.parent.mkdir()
        TableWriter(path, table, {}, {}, num_features=3).close()
        assert pq.read_schema(path).equals(get_schema(table, 3))
        assert list_parts(tmp_path, table) == [path]


def test_a_value_that_is_missing_is_refused(tmp_path):
    writer = TableWriter(tmp_path / "a.parquet", "failures", {"file": ["a"]}, {})
    with pytest.raises(KeyError, match="reason"):
        writer.append({"file": np.array([0]), "stage": ["read"], "kind": ["missing"]})
