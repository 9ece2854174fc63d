"""Log lines of libraries in C++, such as TensorFlow and LiteRT, which do not reach the terminal."""

import contextlib
import importlib.abc
import importlib.util
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import IO

__all__ = ["hide_native_logs", "silence_tensorflow"]


_lock = threading.Lock()
_num_blocks = 0
_patterns: set[re.Pattern[bytes]] = set()
_redirections: list[tuple[int, IO[bytes]]] = []  # a copy of standard error and the file in its place, during a block


@contextmanager
def hide_native_logs(pattern: re.Pattern[bytes] = re.compile(b"")) -> Iterator[None]:
    """Hide the lines that libraries write to the file descriptor of standard error while the block runs.

    A temporary file is in the place of this descriptor while any thread is in such a block. When the last one is done,
    the lines whose beginning matches none of the patterns are passed on.

    Args:
        pattern: Pattern of the lines to hide; all of them by default.
    """
    global _num_blocks
    with _lock:
        _num_blocks += 1
        _patterns.add(pattern)
        if _num_blocks == 1:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # Standard error may be closed.
                file = stack.enter_context(tempfile.TemporaryFile(buffering=0))
                _redirections.append((os.dup(2), file))
                os.dup2(file.fileno(), 2)
                stack.pop_all()
    try:
        yield
    finally:
        with _lock:
            _num_blocks -= 1
            if not _num_blocks:
                if _redirections:
                    _end_redirection(*_redirections.pop())
                _patterns.clear()


def _end_redirection(stderr: int, file: IO[bytes]) -> None:
    os.dup2(stderr, 2)
    os.close(stderr)
    with file:
        file.seek(0)
        for line in file:
            if not any(pattern.match(line) for pattern in _patterns):
                os.write(2, line)


def silence_tensorflow() -> None:
    """Hide the log lines of TensorFlow, unless the user has set `TF_CPP_MIN_LOG_LEVEL` to see them.

    TensorFlow writes some lines while it is imported, whatever that variable is.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _QuietFinder())


class _QuietFinder(importlib.abc.MetaPathFinder):
    """A finder that makes the import of TensorFlow silent."""

    _is_searching = False

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if name != "tensorflow" or self._is_searching:
            return None
        self._is_searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_searching = False
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _silence(spec.loader.exec_module)  # type: ignore[assignment, method-assign]
        return spec


def _silence(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def execute_silently(module: ModuleType) -> None:
        with hide_native_logs():
            execute(module)

    return execute_silently
