"""Child processes that are killed at a chosen write to the disk."""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerastag.data.resumable_writer import HDF5Stream


class Killer:
    """Replaces what writes to the disk by functions that count, and that kill the process at the right number."""

    def __init__(self, kill_at: int, torn: bool) -> None:
        self._count, self._kill_at, self._torn = 0, kill_at, torn

    def install(self) -> None:
        """Replace the writes of files that are opened by `Path.open` and of HDF5, flushes, renames and removals."""
        for name in ("fsync", "replace", "unlink", "rmdir", "mkdir"):
            setattr(os, name, self._wrap(getattr(os, name)))
        killer, path_open, stream_write = self, Path.open, HDF5Stream.write

        class CountedFile(io.FileIO):
            def write(self, data: Any) -> int:
                killer._step(lambda half: super(CountedFile, self).write(half), data)
                return super().write(data)

        def open_counted(path: Path, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
            if "b" not in mode or mode == "rb":
                return path_open(path, mode, buffering, **kwargs)
            file = CountedFile(path, mode)
            killer._step()
            if buffering == 0:
                return file
            return io.BufferedRandom(file) if "+" in mode else io.BufferedWriter(file)

        def write_counted(stream: Any, data: Any) -> int:
            killer._step(lambda half: stream_write(stream, half), data)
            return stream_write(stream, data)

        Path.open, HDF5Stream.write = open_counted, write_counted

    def _step(self, write: Callable[[Any], Any] | None = None, data: Any = None) -> None:
        """Count a write, and kill the process if it is the right one; a torn write leaves its first half."""
        self._count += 1
        if self._count == self._kill_at:
            if write is not None and self._torn:
                write(memoryview(data).cast("B")[: memoryview(data).nbytes // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._step()
            return function(*args, **kwargs)

        return call


def limit_time(seconds: int) -> None:
    """End this process after so many seconds of a processor, or ten times as long on a busy or idle one."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(10 * seconds)


def call_in_child(function: Callable[[], Any], killer: Killer | None = None) -> int:
    """Call a function in a forked process, and return its exit status, negative for a signal."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        if killer is not None:
            killer.install()
        function()
        status = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)
