"""An index of the embeddings of an archive: each as 8-bit integers, in one file that is read without being loaded.

`search/` in the folder of an archive holds `embeddings.int8`, `norms.float32` and `index.json`, which states the files
of the table `embeddings` that the index was made of. It is derived from them, and made again when they have changed.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from kerastag.archive.tables import list_parts
from kerastag.files import atomic_path, read_json, write_json
from kerastag.locks import hold_lock

__all__ = ["EmbeddingIndex", "Match"]

_FORMAT = 1
_FOLDER = "search"
_LARGEST = 127
_BLOCK_ROWS = 1_024  # as float32 they stay in the cache of a core
_SECTION_ROWS = 1 << 18


class Match(NamedTuple):
    """A row of an archive, the result of a search.

    `score` is the cosine similarity of its embedding in [-1, 1], or its probability of a class in [0, 1].
    """

    file: str
    start_seconds: float
    end_seconds: float
    score: float


class EmbeddingIndex:
    """The embeddings of an archive as 8-bit integers, for exact search by cosine similarity.

    An embedding `v` is stored as `q = round(127 v / max |v|)` and the norm of `q`; its similarity to `e` is
    `q · e / (|q| |e|)`.

    Args:
        folder: Folder of the archive. The index is made if it is missing or older than the embeddings.

    Attributes:
        num_features: Length of an embedding.

    Raises:
        FileNotFoundError: The archive has no embeddings.
        ValueError: A file of the archive is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._parts = list_parts(Path(folder), "embeddings")
        if not self._parts:
            raise FileNotFoundError(f"{folder}: no embeddings; `kerastag archive --embeddings` writes them")
        index = Path(folder) / _FOLDER
        content = _read_content(index)
        if content is None or content["parts"] != _describe_parts(self._parts):
            with hold_lock(index):
                content = _write_index(index, self._parts)
        self.num_features = content["features"]
        self._ends = np.cumsum(content["rows"])
        num_rows = int(self._ends[-1])
        shape = (num_rows, self.num_features)
        self._embeddings = _map(index / "embeddings.int8", np.int8, shape)
        self._norms = _map(index / "norms.float32", np.float32, (num_rows,))

    def __len__(self) -> int:
        return len(self._embeddings)

    def search(self, query: np.ndarray, top: int = 50) -> list[Match]:
        """Find the embeddings that are most similar to another one, the most similar first.

        Args:
            query: Embedding, float `(features,)`, not zero.
            top: Largest number of matches, at least 1.

        Raises:
            ValueError: The embedding has another length or is zero, or `top` is below 1.
        """
        return [self._read_match(row, score) for row, score in self.find_rows(query, top)]

    def find_rows(self, query: np.ndarray, top: int = 50) -> list[tuple[int, float]]:
        """Find the rows of the table that `search` returns, each with its similarity; arguments are the same."""
        if top < 1:
            raise ValueError(f"`top` must be at least 1; received: {top}")
        query = np.asarray(query, np.float32)
        norm = float(np.linalg.norm(query))
        if query.shape != (self.num_features,) or not 0 < norm < np.inf:
            expected = f"({self.num_features},), finite and not zero"
            raise ValueError(f"`query` must be {expected}; received: shape {query.shape}, norm {norm:g}")
        starts = range(0, len(self), _SECTION_ROWS)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            sections = threads.map(lambda start: self._search_section(query / norm, start, top), starts)
            best = heapq.nlargest(top, (pair for section in sections for pair in section))
        return [(-number, score) for score, number in best]

    def _search_section(self, query: np.ndarray, start: int, top: int) -> list[tuple[float, int]]:
        """Return the highest similarities of a section, each with the negative number of its row."""
        stop = min(start + _SECTION_ROWS, len(self))
        scores = np.empty(stop - start, np.float32)
        block = np.empty((_BLOCK_ROWS, self.num_features), np.float32)
        for first in range(start, stop, _BLOCK_ROWS):
            last = min(first + _BLOCK_ROWS, stop)
            rows = block[: last - first]
            np.copyto(rows, self._embeddings[first:last])
            np.dot(rows, query, out=scores[first - start : last - start])
        scores /= np.maximum(self._norms[start:stop], 1)  # An embedding of zeros is similar to nothing.
        count = min(top, len(scores))
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        # Of equal similarities, the first rows count, so that the result does not depend on the sections.
        rows = np.flatnonzero(scores >= least)
        rows = rows[np.argsort(-scores[rows], kind="stable")[:count]]
        return [(float(scores[row]), -(start + int(row))) for row in rows]

    def _read_match(self, number: int, score: float) -> Match:
        part = int(np.searchsorted(self._ends, number, side="right"))
        file = pq.ParquetFile(self._parts[part])
        row = number - (int(self._ends[part - 1]) if part else 0)
        for group in range(file.num_row_groups):
            num_rows = file.metadata.row_group(group).num_rows
            if row < num_rows:
                table = file.read_row_group(group, columns=["file", "start_seconds", "end_seconds"])
                path, start, end = (column[row].as_py() for column in table.columns)
                return Match(path, start, end, score)
            row -= num_rows
        raise ValueError(f"{self._parts[part]}: has fewer rows than its index")


def _map(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if path.stat().st_size != size:
        raise ValueError(f"{path}: must have {size:,} bytes; received: {path.stat().st_size:,}; remove {path.parent}")
    return np.memmap(path, dtype, "r", shape=shape) if size else np.empty(shape, dtype)


def _describe_parts(parts: list[Path]) -> list[list[Any]]:
    """Describe files by what changes when they are written again."""
    return [[path.name, (status := path.stat()).st_size, status.st_mtime_ns] for path in parts]


def _read_content(index: Path) -> dict[str, Any] | None:
    """Read the description of an index, or return None if it is missing or has another format."""
    try:
        content = read_json(index / "index.json")
    except (FileNotFoundError, ValueError):
        return None
    return content if content.get("format") == _FORMAT else None


def _write_index(index: Path, parts: list[Path]) -> dict[str, Any]:
    """Write the index of embeddings, in constant memory, and return its content."""
    content: dict[str, Any] = {"format": _FORMAT, "parts": _describe_parts(parts), "features": 0, "rows": []}
    with atomic_path(index) as temporary_path:
        temporary_path.mkdir()
        with (
            (temporary_path / "embeddings.int8").open("wb") as embeddings,
            (temporary_path / "norms.float32").open("wb") as norms,
        ):
            for path in parts:
                num_rows = 0
                for block in _read_embeddings(path):
                    if content["features"] not in (0, block.shape[1]):
                        expected = f"{content['features']} features as {parts[0]}"
                        raise ValueError(f"{path}: embeddings must have {expected}; received: {block.shape[1]}")
                    content["features"] = block.shape[1]
                    codes = _quantize(block)
                    embeddings.write(codes.tobytes())
                    norms.write(np.linalg.norm(codes.astype(np.float32), axis=1).tobytes())
                    num_rows += len(block)
                content["rows"].append(num_rows)
        write_json(temporary_path / "index.json", content)
    return content


def _read_embeddings(path: Path) -> Iterator[np.ndarray]:
    """Read the embeddings of a file of an archive in blocks, float32 `(rows, features)`."""
    file = pq.ParquetFile(path)
    num_features = file.schema_arrow.field("embedding").type.list_size
    for group in range(file.num_row_groups):
        column = file.read_row_group(group, columns=["embedding"])["embedding"].combine_chunks()
        yield column.flatten().to_numpy().reshape(-1, num_features)


def _quantize(embeddings: np.ndarray) -> np.ndarray:
    """Scale each embedding to its largest value, and round it to int8; one with NaN or infinity becomes zeros."""
    largest = np.abs(embeddings).max(axis=1, keepdims=True)
    is_usable = np.isfinite(largest) & (largest > 0)
    scale = np.divide(_LARGEST, largest, out=np.zeros_like(largest), where=is_usable)
    return np.rint(np.where(is_usable, embeddings, 0) * scale).astype(np.int8)
