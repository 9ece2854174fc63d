"""Lines of text -> standard output, or a file that never grows beyond a size and never holds half a line."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Protocol

__all__ = ["Lines", "RotatingFile", "StandardOutput", "lines_to"]

MAX_MEGABYTES, KEPT_FILES = 10.0, 5


class Lines(Protocol):
    """Where lines go, each at once."""

    name: str

    def write(self, line: str) -> None: ...
    def reopen(self) -> None: ...
    def close(self) -> None: ...


class StandardOutput:
    """Lines -> standard output, each flushed.

    Raises:
        BrokenPipeError: Nobody reads them any more.
    """

    name = "standard output"

    def write(self, line: str) -> None:
        """One line, without its end."""
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def reopen(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """It stays open."""


class RotatingFile:
    """Lines -> a file; beyond `max_megabytes` it becomes `NAME.1`, that one `NAME.2`, and the last one goes.

    A line that does not fit on the disk is taken back as a whole. The folder is made where it is missing.

    Args:
        path: Of the file; lines are added to the one that is there.
        header: First line of a new file.
        max_megabytes: Size of a file, above 0.
        kept_files: How many older files stay, 0 or more.

    Raises:
        ValueError: An argument is outside its range.
        OSError: The file cannot be opened, or written to.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "sounds.txt")
    >>> file = RotatingFile(path, max_megabytes=10e-6, kept_files=1)
    >>> for line in ("first", "second", "third"):
    ...     file.write(line)
    >>> file.close()
    >>> path.read_text(), path.with_name("sounds.txt.1").read_text()
    ('third\\n', 'second\\n')
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: str = "",
        *,
        max_megabytes: float = MAX_MEGABYTES,
        kept_files: int = KEPT_FILES,
    ) -> None:
        if not max_megabytes > 0:
            raise ValueError(f"`max_megabytes` must be above 0, received {max_megabytes!r}")
        if kept_files < 0:
            raise ValueError(f"`kept_files` must be at least 0, received {kept_files!r}")
        self.name = os.fspath(path)
        self._path = Path(path)
        self._header = header
        self._max_bytes = round(max_megabytes * 1e6)
        self._kept = kept_files
        self._descriptor = -1
        self._open()

    def write(self, line: str) -> None:
        """One line, without its end."""
        data = line.encode() + b"\n"
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        self._add(data)

    def reopen(self) -> None:
        """Close the file and open what now has its name, as after an external rotation."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        self._size = os.fstat(self._descriptor).st_size
        if not self._size and self._header:
            self._add(self._header.encode() + b"\n")

    def _add(self, data: bytes) -> None:
        try:
            written = os.write(self._descriptor, data)
            while written < len(data):  # a disk that is nearly full takes a part first
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise OSError(error.errno, f"{self.name}: {error.strerror}") from None
        self._size += len(data)

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(1, self._kept + 1))]
        for old, new in zip(reversed(names[:-1]), reversed(names[1:]), strict=True):
            with contextlib.suppress(FileNotFoundError):
                os.replace(old, new)
        if not self._kept:
            self._path.unlink()
        self._open()


def lines_to(target: str, header: str = "", **options: float) -> Lines:
    """`-` or a path -> where lines go.

    Raises:
        ValueError: `target` is empty.
        OSError: The file cannot be opened.
    """
    if not target:
        raise ValueError("`output` must name a file after the colon, or - for standard output, received nothing")
    if target != "-":
        return RotatingFile(target, header, **options)  # type: ignore[arg-type]
    output = StandardOutput()
    if header:
        output.write(header)
    return output
