"""Log lines of libraries in C++, such as TensorFlow and LiteRT, which do not reach the terminal."""

import importlib.abc
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["hide_native_logs", "silence_tensorflow"]


@contextmanager
def hide_native_logs() -> Iterator[None]:
    """Discard what is written to the file descriptor of standard error while the block runs."""
    try:
        stderr = os.dup(2)
    except OSError:  # Standard error is closed.
        yield
        return
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


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
