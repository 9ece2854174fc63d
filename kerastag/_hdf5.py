"""Binary files that HDF5 reads, checked where HDF5 would loop forever."""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO

__all__ = ["HeapCheckedFile"]

_HEAD = struct.Struct("<4sB3xQ")  # signature, version, size of the collection
_OBJECT = struct.Struct("<HHIQ")  # number (0: free space, to the end), references, reserved, size
_MAX_COLLECTION_BYTES = 1 << 26


class HeapCheckedFile(io.RawIOBase):
    """A file whose collections of variable-length values are checked before HDF5 reads them.

    HDF5 stores text of variable length in collections, each a chain of sizes. Where a damaged size leads into zeros,
    HDF5 follows the chain forever and no signal handler of Python ever runs. Reading attributes and names through this
    file raises an error instead.

    Args:
        file: Binary file that can seek, whose lengths are of eight bytes each, as nearly all writers choose.

    Raises:
        ValueError: In `readinto`, a collection is damaged.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        start = self._file.tell()
        view = memoryview(buffer).cast("B")
        content = self._file.read(len(view))
        view[: len(content)] = content
        if content.startswith(b"GCOL") and len(content) >= _HEAD.size:
            size = _HEAD.unpack_from(content)[2]
            if size > _MAX_COLLECTION_BYTES:
                raise ValueError(f"a collection of values at byte {start} claims {size:,} bytes")
            self._file.seek(start)
            _check_collection(self._file.read(size), size, start)
            self._file.seek(start + len(content))
        return len(content)


def _check_collection(content: bytes, size: int, start: int) -> None:
    """Raise a ValueError unless the sizes in a collection lead to its end."""
    position = _HEAD.size
    while position + _OBJECT.size <= len(content):
        number, _, _, length = _OBJECT.unpack_from(content, position)
        position += length if number == 0 else _OBJECT.size + length + -length % 8
        if (number == 0 and length < _OBJECT.size) or position > size:
            raise ValueError(f"the collection of values at byte {start} has an object of {length:,} bytes")
