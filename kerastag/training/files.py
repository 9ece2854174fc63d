"""Files that are there as a whole or not at all: written beside, flushed, then renamed."""

import json
import os
import re
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


def remove_leftovers(folder: Path) -> None:
    """A folder -> the same without what processes that were killed had half written in it.

    What a process that still runs is writing stays.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in (".4194305.state.npz", "state.npz"):  # no process has that number
    ...     folder.joinpath(name).touch()
    >>> remove_leftovers(folder)
    >>> [path.name for path in folder.iterdir()]
    ['state.npz']
    """
    for path in folder.rglob(".*"):
        written_by = re.match(r"\.(\d{1,9})\.", path.name)
        if written_by and path.is_file() and not _runs(int(written_by[1])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def write_json(path: Path, value: Any) -> Path:
    """A JSON value -> a file of it, indented, written atomically."""
    return write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n"))
