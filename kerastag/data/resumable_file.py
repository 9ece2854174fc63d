"""An HDF5 file that appears under its name only when it is complete, and whose writing can be resumed."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from kerastag._version import __version__

__all__ = ["ResumableFile"]

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ResumableFile:
    """Base class of the pack writers.

    Rows are written to `NAME.partial`, which is renamed when it is complete. A checkpoint makes the rows so far survive
    a kill: the next writer with the same fingerprint continues after them.

    A subclass names its datasets in `_keys`, creates them in `_create_datasets`, and restores in `_restore` what it
    passed to `_save_checkpoint`. It sets whatever these methods read before it calls this constructor.

    Args:
        path: Path of the file to write.
        fingerprint: Text that identifies the source of the rows; a partial file with another one is started again.
            None never resumes.
    """

    _keys: tuple[str, ...]

    def __init__(self, path: Path, fingerprint: str | None) -> None:
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self._fingerprint, self._has_checkpoint = fingerprint, False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = _Stream.open_or_create(self.partial)
        self._file = self._resume() or self._create()

    def close(self) -> None:
        """Close the file without finishing it. A partial file stays if it has a checkpoint."""
        with suppress(OSError, RuntimeError):  # An unfinished file is of no further use, nor are its errors.
            self._file.close()
        self._stream.close()
        if not self._has_checkpoint:
            self.partial.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._file[self._keys[0]])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _create_datasets(self, file: h5py.File) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define `_create_datasets(file)`")

    def _restore(self, file: h5py.File, state: dict[str, Any]) -> None:
        """Restore what was passed to `_save_checkpoint`; after any error the file is started again."""
        raise NotImplementedError(f"{type(self).__name__} must define `_restore(file, state)`")

    def _append_rows(self, columns: Mapping[str, np.ndarray]) -> None:
        start = len(self)
        with self._explain_write_errors():
            for key, values in columns.items():
                self._file[key].resize(start + len(values), axis=0)
                self._file[key][start:] = values

    def _save_checkpoint(self, **state: Any) -> None:
        """Make the rows so far survive a kill, together with `state`, which holds JSON values."""
        state = {"fingerprint": self._fingerprint, "rows": len(self), **state}
        with self._explain_write_errors():
            if "state" in self._file:
                del self._file["state"]
            self._file["state"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
            self._file.flush()
        self._has_checkpoint = self._fingerprint is not None

    def _finish(self, attributes: Mapping[str, Any]) -> None:
        """Write the attributes and rename the file."""
        with self._explain_write_errors():
            if "state" in self._file:
                del self._file["state"]
            self._file.attrs.update({**attributes, "kerastag_version": __version__})
            self._file.close()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self.partial.replace(self.path)

    @contextmanager
    def _explain_write_errors(self) -> Iterator[None]:
        """Turn a failed write, a full disk above all, into an error of one line."""
        try:
            yield
        except (OSError, RuntimeError):
            if self._stream.write_error is None:
                raise
        if (error := self._stream.write_error) is not None:
            reason = "the disk is full" if error.errno in _FULL_DISK else error.strerror
            raise OSError(
                error.errno, f"{reason}: make room and run the same command again", str(self.partial)
            ) from error

    def _create(self) -> h5py.File:
        self._stream.truncate(0)
        file = h5py.File(self._stream, "w")
        self._create_datasets(file)
        return file

    def _resume(self) -> h5py.File | None:
        if self._fingerprint is None:
            return None
        file = None
        try:
            file = h5py.File(self._stream, "r+")
            state = json.loads(file["state"][:].tobytes())
            if state["fingerprint"] != self._fingerprint:
                raise ValueError("the rows come from another source")
            for key in self._keys:
                if len(file[key]) < state["rows"]:
                    raise ValueError("rows are missing")
                file[key].resize(state["rows"], axis=0)
            self._restore(file, state)
        except Exception:  # A kill can leave anything behind; the rows can always be read again from their source.
            if file is not None:
                file.close()
            return None
        self._has_checkpoint = True
        return file


class _Stream(io.FileIO):
    """A file for HDF5 to write to, which stores its first write error and ignores all further writes.

    HDF5 would crash on closing if a write failed.
    """

    write_error: OSError | None = None

    @classmethod
    def open_or_create(cls, path: Path) -> Self:
        return cls(path, "r+b" if path.is_file() else "w+b")

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
