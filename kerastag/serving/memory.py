"""The allocator of the C library, which keeps much of the memory that a server with many threads has freed."""

from __future__ import annotations

import contextlib
import ctypes
import sys

__all__ = ["limit_arenas", "return_free_memory"]

_ARENA_MAX = -8  # M_ARENA_MAX of glibc
_NUM_ARENAS = 2


def limit_arenas() -> None:
    """Let all threads share two arenas, where glibc would use eight per core; do nothing elsewhere.

    Each arena keeps what its threads have freed, so that the memory of a server would grow with every new thread. It
    must be called before threads are started.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library, such as musl
            ctypes.CDLL(None).mallopt(_ARENA_MAX, _NUM_ARENAS)


def return_free_memory() -> None:
    """Return memory that is not in use to the operating system, as far as the C library can."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
