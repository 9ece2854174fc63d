"""A cache of the embeddings of clips on disk, which every run on the same backbone shares."""

import contextlib
import hashlib
import io
import sqlite3
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from kerastag.custom.clips import Clip
from kerastag.files import compute_digest

__all__ = ["EmbeddingCache"]

_MAX_BYTES = 4 * 2**30
_BUSY_SECONDS = 30.0
_KEYS_PER_QUERY = 500
_TABLES = """
CREATE TABLE IF NOT EXISTS clips (key TEXT PRIMARY KEY, used REAL, size INTEGER, checksum INTEGER, content BLOB);
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, digest TEXT);
"""


class EmbeddingCache:
    """Arrays of clips in an SQLite file, by the content of the clip and by how its embeddings were computed.

    A recording that is moved, copied or renamed keeps its embeddings. What is written survives the death of the
    process, and several processes can use one file. A damaged file is replaced, and a damaged entry is missing. A file
    that cannot be used is named once on standard error, and the run goes on without it. Beyond `max_bytes`, the entries
    that were used longest ago are removed.

    Args:
        path: Path of the file, whose folder is created if missing.
        settings: Text that identifies everything else that the arrays depend on, such as the backbone.
        max_bytes: Largest size of all entries, bytes.

    >>> import tempfile
    >>> clip, path = np.zeros(8, np.float32), Path(tempfile.mkdtemp(), "cache.sqlite")
    >>> with EmbeddingCache(path, "backbone") as cache:
    ...     cache.write(cache.compute_key(clip), [np.ones(2)])
    >>> with EmbeddingCache(path, "backbone") as cache:
    ...     [arrays] = cache.read([cache.compute_key(clip)]).values()
    >>> arrays[0].tolist()
    [1.0, 1.0]
    """

    def __init__(self, path: Path, settings: str, max_bytes: int = _MAX_BYTES) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._settings = settings
        self._used: dict[str, float] = {}
        self._connection: sqlite3.Connection | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._handle_errors():
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._replace()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._handle_errors():
            self._remove_oldest()
        if self._connection is not None:
            self._connection.close()

    def compute_key(self, clip: Clip) -> str:
        """Compute the key of a clip from the settings, the content of its file and the part of it.

        The digest of a file is remembered with its size and time of modification.

        Raises:
            OSError: The file cannot be read.
        """
        digest = hashlib.sha256(self._settings.encode())
        if isinstance(clip, np.ndarray):
            digest.update(clip.tobytes())
        else:
            part = clip.start_seconds, clip.end_seconds, clip.labeled_parts
            digest.update(f" {self._find_digest(clip.path)} {part}".encode())
        return digest.hexdigest()

    def read(self, keys: Sequence[str]) -> dict[str, list[np.ndarray]]:
        """Return the arrays of the keys that have an entry."""
        entries = {}
        for first in range(0, len(keys), _KEYS_PER_QUERY):
            for key, checksum, content in self._select(keys[first : first + _KEYS_PER_QUERY]):
                if isinstance(content, bytes) and zlib.crc32(content) == checksum:
                    entries[key] = _decode(content)
        self._used |= dict.fromkeys(entries, time.time())
        return entries

    def write(self, key: str, arrays: Sequence[np.ndarray]) -> None:
        """Store the arrays of a key."""
        content = _encode(arrays)
        row = key, time.time(), len(content), zlib.crc32(content), content
        self._execute("INSERT OR REPLACE INTO clips VALUES (?, ?, ?, ?, ?)", row)

    def _find_digest(self, path: Path) -> str:
        status, name = path.stat(), str(path.resolve()).encode(errors="surrogateescape").hex()
        identity = status.st_size, status.st_mtime_ns
        for *known_identity, digest in self._fetch("SELECT size, mtime, digest FROM files WHERE path = ?", (name,)):
            if tuple(known_identity) == identity:
                return str(digest)
        digest = compute_digest(path)
        self._execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (name, *identity, digest))
        return digest

    def _select(self, keys: Sequence[str]) -> list[tuple]:
        places = ", ".join("?" * len(keys))
        return self._fetch(f"SELECT key, checksum, content FROM clips WHERE key IN ({places})", keys)

    def _fetch(self, query: str, values: Sequence[object] = ()) -> list[tuple]:
        with self._handle_errors():
            if self._connection is not None:
                return self._connection.execute(query, values).fetchall()
        return []

    def _execute(self, statement: str, values: Sequence[object] = ()) -> None:
        with self._handle_errors():
            if self._connection is not None:
                self._connection.execute(statement, values)

    def _remove_oldest(self) -> None:
        """Store when entries were used, and remove the oldest ones beyond the largest size."""
        if self._connection is None:
            return
        rows = [(used, key) for key, used in self._used.items()]
        self._connection.executemany("UPDATE clips SET used = ? WHERE key = ?", rows)
        [(total,)] = self._fetch("SELECT coalesce(sum(size), 0) FROM clips")
        if total <= self.max_bytes:
            return
        for key, size in self._fetch("SELECT key, size FROM clips ORDER BY used"):
            if total <= 0.8 * self.max_bytes:
                break
            self._connection.execute("DELETE FROM clips WHERE key = ?", (key,))
            total -= size

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)  # every write is stored
        try:
            connection.execute("PRAGMA synchronous = OFF")  # A power failure may cost the cache, but no run.
            connection.executescript(_TABLES)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _replace(self) -> None:
        """Replace the file, which is damaged."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for suffix in ("", "-journal"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        print(f"{self.path}: was damaged; embeddings are computed again", file=sys.stderr)
        self._connection = self._open()

    @contextlib.contextmanager
    def _handle_errors(self) -> Iterator[None]:
        """Replace a damaged file; go on without a file that is locked for long, or that cannot be written."""
        try:
            try:
                yield
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                self._replace()
        except (sqlite3.Error, OSError) as error:
            print(f"{self.path}: embeddings are not cached: {error}", file=sys.stderr)
            if self._connection is not None:
                self._connection.close()
            self._connection = None


def _encode(arrays: Sequence[np.ndarray]) -> bytes:
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _decode(content: bytes) -> list[np.ndarray]:
    stream, arrays = io.BytesIO(content), []
    while stream.tell() < len(content):
        arrays.append(np.load(stream, allow_pickle=False))
    return arrays
