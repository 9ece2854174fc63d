"""A part of a file that libsndfile takes for a whole file, and reading and searching of such files."""

import io
import os
import re
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["BLOCK_BYTES", "UNKNOWN_FRAMES", "Section", "find_all", "read_at"]

UNKNOWN_FRAMES = 1 << 42
"""Least number of frames that stands for an unknown length."""

BLOCK_BYTES = 1 << 16
"""Number of bytes that a search reads at a time."""


class Section(io.RawIOBase):
    """A part of a file, perhaps with another header before it, as a file of its own without a name.

    Seeking to a position before the beginning, as damaged headers ask for, leaves the position as it is.

    Args:
        file: Unbuffered binary file, which other sections share.
        start: Position of the first byte in the file.
        end: Position after the last byte in the file.
        header: Bytes before those of the file.
        is_mpeg: Whether it holds MPEG frames. Its end then seems to be far away, because libsndfile estimates the
            number of frames from the size and reads no more than that.
        first_frame: Number of the first frame in the stream; 0 at the beginning of a stream.
        is_truncated: Whether it is a link of an Ogg file whose last page is not marked as the last one.
    """

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        end: int,
        header: bytes = b"",
        *,
        is_mpeg: bool = False,
        first_frame: int = 0,
        is_truncated: bool = False,
    ) -> None:
        super().__init__()
        self.start, self.end, self.is_mpeg, self.first_frame = start, end, is_mpeg, first_frame
        self.is_truncated = is_truncated
        self._file, self._header, self._position = file, header, 0

    @property
    def file_position(self) -> int:
        """Position in the file of the next byte that is read."""
        return min(self.end, self.start + max(0, self._position - len(self._header)))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = len(self._header) + self.end - self.start
        if self.is_mpeg:
            end += 16 * UNKNOWN_FRAMES
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: end}[whence]
        if position >= 0:
            self._position = position
        return self._position

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        if self.is_mpeg and self._position > self.end - self.start:  # mpg123 looks for a tag before the seeming end
            count = len(view)
            view[:] = bytes(count)
        elif self._position < len(self._header):
            data = self._header[self._position : self._position + len(view)]
            view[: len(data)] = data
            count = len(data)
        else:
            self._file.seek(self.file_position)
            count = self._file.readinto(view[: self.end - self.file_position]) or 0  # type: ignore[attr-defined]
        self._position += count
        return count


def find_all(file: BinaryIO, pattern: re.Pattern[bytes], start: int, end: int) -> Iterator[int]:
    """Yield the positions of a pattern of at most eight bytes in a part of a file."""
    while start < end:
        block = read_at(file, start, min(BLOCK_BYTES, end - start) + 7)
        for match in pattern.finditer(block):
            if match.start() < BLOCK_BYTES:
                yield start + match.start()
        start += BLOCK_BYTES


def read_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Read bytes at a position, fewer at the end of the file."""
    file.seek(position)
    return file.read(size)
