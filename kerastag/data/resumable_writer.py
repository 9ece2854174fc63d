"""Writing of HDF5 files that can be resumed: rows in plain files with checkpoints, and HDF5 in one go at the end."""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, Self, cast

import h5py
import numpy as np

from kerastag._version import __version__
from kerastag.files import atomic_path, hash_first_bytes, name_full_disk, read_json, write_json
from kerastag.locks import hold_lock

__all__ = ["FORMAT_VERSION", "Column", "HDF5Stream", "ResumableWriter"]

FORMAT_VERSION = 1
_ROWS_PER_READ = 1024
_BLOCK_BYTES = 1 << 24  # rows copied into the HDF5 file at a time
_CHECKPOINT = "checkpoint.json"


class HDF5Stream(io.FileIO):
    """A file for HDF5 to write to, which stores its first write error and ignores all further writes.

    HDF5 would crash on closing if a write failed.
    """

    write_error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest and self.write_error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.write_error = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.write_error = self.write_error or error
            return size or 0


class Column(NamedTuple):
    """A dataset: the shape of a row, the type, the number of rows per chunk and further options."""

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk_rows: int
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)


class ResumableWriter:
    """Base class of the writers, which can be resumed.

    HDF5 cannot: a kill while it updates its index leaves a file that is damaged, or that holds the rows of other clips.
    So rows are appended to plain files in the folder `NAME.partial`, one per column. A checkpoint flushes them to disk
    and then replaces `checkpoint.json`, which holds the number of rows and the digests of the files up to there. The
    next writer with the same fingerprint continues after these rows, once their digests match; if they do not, it
    starts again. The HDF5 file is written at the end, in one go and whole or not at all, from the plain files.

    `_restore` restores what a subclass passed to `_save_checkpoint`; the constructor calls it, so that a subclass sets
    its attributes before.
    """

    def __init__(self, path: Path, columns: dict[str, Column], fingerprint: str | None) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self._columns, self._fingerprint, self._num_rows = columns, fingerprint, 0
        self._has_checkpoint = False
        with ExitStack() as stack:
            stack.enter_context(hold_lock(path))
            if not self._resume():
                self._start()
            self._lock = stack.pop_all()

    def close(self) -> None:
        """Close the files without finishing the pack. They stay if there is a checkpoint."""
        self._close_files()
        if not self._has_checkpoint:
            shutil.rmtree(self.partial, ignore_errors=True)
        self._lock.close()

    def __len__(self) -> int:
        return self._num_rows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _restore(self, state: dict[str, Any]) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define `_restore(state)`")

    def _append_rows(self, *columns: np.ndarray) -> None:
        with name_full_disk(self.partial):
            for (key, column), values in zip(self._columns.items(), columns, strict=True):
                content = np.ascontiguousarray(values, column.dtype).reshape(-1).view(np.uint8).data
                self._files[key].write(content)
                self._digests[key].update(content)
        self._num_rows += len(columns[0])

    def _save_checkpoint(self, **state: Any) -> None:
        """Make the rows so far survive a kill, together with `state`, which holds JSON values."""
        if self._fingerprint is None:
            return
        with name_full_disk(self.partial):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
            types = {key: column.dtype.str for key, column in self._columns.items()}
            digests = {key: digest.hexdigest() for key, digest in self._digests.items()}
            state = {"fingerprint": self._fingerprint, "rows": len(self), "types": types, "digests": digests, **state}
            write_json(self.partial / _CHECKPOINT, state)
        self._has_checkpoint = True

    def _convert_column(self, key: str, dtype: np.dtype) -> None:
        """Convert the rows of a column so far to another type, which its next rows have."""
        column, old_file = self._columns[key], self._files[key]
        self._columns[key] = column._replace(dtype=dtype)
        with name_full_disk(self.partial):
            self._open_file(key, "w+b")
            old_file.seek(0)
            while content := old_file.read(_ROWS_PER_READ * column.row_bytes):
                self._files[key].write(np.frombuffer(content, column.dtype).astype(dtype).tobytes())
            old_file.close()
        self._digests[key] = hash_first_bytes(self._files[key], len(self) * dtype.itemsize)

    @contextmanager
    def _write_file(self, **names: Sequence[str]) -> Iterator[h5py.File]:
        """Yield a new HDF5 file, to which the block copies the rows, and put it in its place."""
        with name_full_disk(self.partial):
            for file in self._files.values():
                file.flush()
        with atomic_path(self.path) as temporary_path, HDF5Stream(temporary_path, "w+") as stream:
            try:
                with h5py.File(stream, "w") as pack:
                    yield pack
                    for key, values in names.items():
                        if values:
                            pack[key] = [_to_utf8(value) for value in values]
                    pack.attrs.update({"format_version": FORMAT_VERSION, "kerastag_version": __version__})
            except (OSError, RuntimeError):
                if stream.write_error is None:
                    raise
            if stream.write_error is not None:
                raise stream.write_error
        self._has_checkpoint = False

    def _copy_rows(
        self, file: h5py.File, order: np.ndarray | None = None, on_block: Callable[..., object] | None = None
    ) -> None:
        """Create the datasets from the plain files, with the rows in another order on request, in constant memory."""
        for key, (shape, dtype, chunk_rows, options) in self._columns.items():
            sizes = {"maxshape": (None, *shape), "chunks": (chunk_rows, *shape)}
            file.create_dataset(key, (len(self), *shape), dtype, **sizes, **options)
        step = max(1, _BLOCK_BYTES // sum(column.row_bytes for column in self._columns.values()))
        for start in range(0, len(self), step):
            block = slice(start, min(start + step, len(self)))
            values = []
            for key, column in self._columns.items():  # Mapped again for every block, to release the memory.
                rows = np.memmap(self._files[key].name, column.dtype, "r", shape=(len(self), *column.shape))
                values.append(rows[block if order is None else order[block]])
                file[key][block] = values[-1]
            if on_block is not None:
                on_block(*values)

    def _resume(self) -> bool:
        """Open the files of an interrupted writer and return True, or return False if they are of no use."""
        self._files: dict[str, BinaryIO] = {}
        self._digests: dict[str, Any] = {}
        if self._fingerprint is None:
            return False
        columns = dict(self._columns)
        try:
            state = read_json(self.partial / _CHECKPOINT)
            if state["fingerprint"] != self._fingerprint:
                raise ValueError("the rows come from another source")
            for key, column in self._columns.items():
                self._columns[key] = column._replace(dtype=np.dtype(state["types"][key]))
                self._open_file(key, "r+b")
                self._digests[key] = hash_first_bytes(self._files[key], state["rows"] * self._columns[key].row_bytes)
                if self._digests[key].hexdigest() != state["digests"][key]:
                    raise ValueError("rows are damaged")
                self._files[key].truncate()
            self._restore(state)
        except Exception:  # A kill or a full disk can leave anything behind; the rows can always be read again.
            self._close_files()
            self._columns = columns
            return False
        self._num_rows, self._has_checkpoint = state["rows"], True
        return True

    def _start(self) -> None:
        if self.partial.is_dir():
            shutil.rmtree(self.partial)
        self.partial.unlink(missing_ok=True)  # written by version 0.1.0
        self.partial.mkdir()
        for key in self._columns:
            self._open_file(key, "w+b")
            self._digests[key] = hashlib.sha256()

    def _open_file(self, key: str, mode: str) -> None:
        # The type is in the name: a column whose type changes gets a new file, and the checkpoint keeps the old one.
        path = self.partial / f"{key}.{self._columns[key].dtype.str[1:]}"
        self._files[key] = cast(BinaryIO, path.open(mode))

    def _close_files(self) -> None:
        for file in self._files.values():
            with suppress(OSError):  # What cannot be written any more is not in the checkpoint either.
                file.close()


def _to_utf8(text: str) -> str:
    """Escape what HDF5 cannot store of a file name: NUL characters and bytes that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")
