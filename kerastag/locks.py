"""Locks of files and folders.

What takes more than one write, such as a pack, a run or a download, holds the lock of its target: `.NAME.lock`, which
the operating system releases when the process ends, however it ends.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["hold_lock"]

_LOCKED_BYTE = 1 << 30  # Windows cannot read a locked byte, so that the one after the process number is locked.
_WAIT_SECONDS = 0.02


@contextlib.contextmanager
def hold_lock(path: str | os.PathLike[str], *, wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold the lock of `path`, which one process at a time can hold, while the block runs.

    The lock is the file `.NAME.lock` beside `path`. It is released when the process ends, even if it is killed.

    Args:
        path: Path of the file or folder that the block writes. Missing parent folders are created.
        wait: Function to call before waiting for the process that holds the lock, with its description; None raises
            an error instead of waiting.

    Raises:
        BlockingIOError: Another process, or another block of this one, holds the lock, and `wait` is None.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_path = path.with_name(f".{path.name}.lock")
    file = _acquire_lock(lock_path)
    if file is None:
        holder = _describe_holder(lock_path)
        if wait is None:
            raise BlockingIOError(f"{path}: is being written by {holder}")
        wait(holder)
        while (file := _acquire_lock(lock_path)) is None:
            time.sleep(_WAIT_SECONDS)
    try:
        yield
    finally:
        if os.name == "posix":
            lock_path.unlink(missing_ok=True)  # While it is locked: nobody can hold the lock of the removed file.
        file.close()
        if os.name != "posix":  # Windows cannot remove an open file; if another process has opened it, it stays.
            with contextlib.suppress(OSError):
                lock_path.unlink()


def _acquire_lock(lock_path: Path) -> IO[bytes] | None:
    """Create or open the file of a lock and lock it; None if it is locked already."""
    while True:
        file = lock_path.open("ab", buffering=0)
        try:
            if sys.platform == "win32":
                file.seek(_LOCKED_BYTE)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.close()
            return None
        except OSError:
            pass  # Some network file systems have no locks: two processes are not noticed there.
        with contextlib.suppress(OSError):  # On a full disk, the lock is held without the number.
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), lock_path.stat()):
                return file
        file.close()  # The previous holder removed the file after it was opened and before it was locked.


def _describe_holder(lock_path: Path) -> str:
    try:
        return f"process {int(lock_path.read_text(encoding='ascii'))}"
    except (OSError, ValueError):  # The holder has not written its number yet, or has just released the lock.
        return "another process"
