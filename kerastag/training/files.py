"""Files that are there as a whole or not at all: written beside, flushed, then renamed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """A function that writes a file -> the file at `path`, whole, whenever the process dies.

    Args:
        path: where the file shall be.
        write: takes the path to write to, which ends like `path`.

    >>> import tempfile
    >>> write_atomically(Path(tempfile.mkdtemp()) / "a.txt", lambda p: p.write_text("whole")).read_text()
    'whole'
    """
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    """A JSON value -> a file of it, indented, written atomically."""
    return write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n"))
