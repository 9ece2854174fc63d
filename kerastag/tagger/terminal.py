"""Lines of `kerastag tag` for the terminal: names of recordings, errors and progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from typing import Any, TextIO

__all__ = [
    "PREFIX",
    "STANDARD_INPUT",
    "Terminal",
    "can_print",
    "format_error",
    "format_line",
    "make_printable",
    "name_recording",
]

PREFIX = "kerastag tag: "
STANDARD_INPUT = "-"


class Terminal:
    """Standard output and error, with a progress bar below them where standard error is a terminal."""

    def __init__(self, num_recordings: int) -> None:
        self._bar: Any = None
        if num_recordings > 1 and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=num_recordings, unit="file", file=sys.stderr)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def write(self, parts: Iterable[str], stream: TextIO | None = None) -> None:
        stream = stream or sys.stdout
        hidden = contextlib.nullcontext() if self._bar is None else self._bar.external_write_mode(stream)
        with hidden:
            for part in parts:
                stream.write(part)
            stream.flush()


def name_recording(path: str) -> str:
    """Return the name of a recording for messages."""
    return make_printable(path) if path != STANDARD_INPUT else "standard input"


def format_error(path: str, error: BaseException) -> str:
    """Format an error as one line that names the recording."""
    message = format_line(error)
    if not message or not isinstance(error, ValueError | OSError | ImportError | RuntimeError):
        message = ": ".join(filter(None, [type(error).__name__, message]))
    name = name_recording(path)
    return PREFIX + (message if name in message else f"{name}: {message}")


def format_line(message: object) -> str:
    """Format a message as one line."""
    return make_printable(" ".join(str(message).split()))


def make_printable(text: str) -> str:
    """Replace the bytes of a file name that are not text."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def can_print(text: str) -> bool:
    """Return whether the encoding of standard output has the characters of a text."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
