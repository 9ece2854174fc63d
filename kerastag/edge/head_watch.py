"""Watching the file of a head, which a retrained one may replace while a stream runs."""

from __future__ import annotations

import os

from kerastag.edge.clock import read_clock

__all__ = ["HeadWatcher"]

_CHECK_SECONDS = 0.5

_Identity = tuple[int, int, int, int]


class HeadWatcher:
    """A watcher of one file.

    A file that is replaced by renaming another one, and one that is overwritten in place, count alike: as soon as it is
    the same in two checks, half a second apart, it has changed, so that a file is not read while it is being written.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._known = self._last = _identify(path)
        self._due = read_clock() + _CHECK_SECONDS

    def check(self) -> bool:
        """Return whether the file has changed since the last call that returned true, or since the beginning."""
        if read_clock() < self._due:
            return False
        self._due = read_clock() + _CHECK_SECONDS
        previous, self._last = self._last, _identify(self._path)
        if self._last is None or self._last == self._known or self._last != previous:
            return False
        self._known = self._last
        return True


def _identify(path: str | os.PathLike[str]) -> _Identity | None:
    """Return what differs between two versions of a file; None if there is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - `path` may be text
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
