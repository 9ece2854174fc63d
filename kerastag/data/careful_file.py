"""A file for HDF5 to write to, which turns a full disk into one clear line."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CarefulFile(io.FileIO):
    """A file for HDF5 that notes its first failed write and accepts all others: HDF5 would crash on closing."""

    failed: OSError | None = None

    @classmethod
    def of(cls, path: Path) -> CarefulFile:
        """Opens for reading and writing what is there, or a new file."""
        return cls(path, "r+b" if path.is_file() else "w+b")

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while rest and self.failed is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.failed = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failed = self.failed or error
            return size or 0


@contextmanager
def writing(disk: CarefulFile) -> Iterator[None]:
    """A failed write inside HDF5 -> one clear line."""
    try:
        yield
    except (OSError, RuntimeError):
        if disk.failed is None:
            raise
    if (failed := disk.failed) is not None:
        reason = "the disk is full" if failed.errno in _FULL_DISK else failed.strerror
        raise OSError(failed.errno, f"{reason}: make room and run the same command again", str(disk.name)) from failed
