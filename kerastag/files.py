"""Writing files and folders whole or not at all, formatting CSV, and reading and writing JSON.

Everything in kerastag that writes a file goes through this module. The content goes into a temporary file beside the
target, `.PID.NAME`, which is flushed to disk and then renamed. Whenever the process dies, the target is the old file or
the new one. A temporary file that a killed process left behind is removed by the next write to the same target, and by
`remove_stale_files`.
"""

import contextlib
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "atomic_path",
    "format_csv",
    "read_json",
    "remove_stale_files",
    "temporary_folder",
    "write_atomically",
    "write_bytes",
    "write_json",
    "write_text",
]

# `.PID.NAME` will become NAME, `.PID-previous.NAME` is the folder that it replaces, and `.PID-files.NAME` is a folder
# of temporary files for it.
_TEMPORARY_NAME = re.compile(r"\.(?P<pid>\d{1,9})(?P<kind>|-previous|-files)\.(?P<name>.+)", re.DOTALL)
_LISTED_FOLDERS: set[Path] = set()


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without an error.

    The block may create a file or a folder there. Missing parent folders are created. An existing file keeps its
    permissions. An existing folder is replaced as a whole, in two renames: if the process is killed between them, the
    next write and `remove_stale_files` restore the old folder.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_path(path) as temporary_path:
    ...     _ = temporary_path.write_text("whole")
    >>> path.read_text(), [entry.name for entry in path.parent.iterdir()]
    ('whole', ['a.txt'])
    """
    path = Path(path)
    temporary_path = _prepare_temporary_path(path)
    try:
        yield temporary_path
        if temporary_path.is_dir():
            _replace_folder(temporary_path, path)
        else:
            _flush(temporary_path)
            if path.is_file():
                shutil.copymode(path, temporary_path)
            os.replace(temporary_path, path)
    finally:
        _remove(temporary_path)


@contextlib.contextmanager
def temporary_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder beside `path`, for temporary files on its file system, and remove it when the block ends.

    Missing parent folders are created.
    """
    folder = _prepare_temporary_path(Path(path), kind="-files")
    folder.mkdir()
    try:
        yield folder
    finally:
        _remove(folder)


def write_atomically(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Create or replace a file with `write`, which takes a temporary path that ends like `path`; return `path`."""
    with atomic_path(path) as temporary_path:
        write(temporary_path)
    return Path(path)


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Create or replace a UTF-8 text file, with line ends as they are in `text`."""
    return write_bytes(path, text.encode())


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Create or replace a file."""
    return write_atomically(path, lambda temporary_path: temporary_path.write_bytes(content))


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Create or replace a JSON file, indented by one space.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    return write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def format_csv(rows: Iterable[Iterable[Any]], delimiter: str = ",") -> str:
    """Format rows as CSV text, with quotes around cells where they are needed.

    >>> print(format_csv([("name", "clips"), ("Speech, male", 3)]), end="")
    name,clips
    "Speech, male",3
    """
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not valid JSON, or contains another value than an object.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # invalid JSON, invalid UTF-8 and too many nested values
        raise ValueError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must contain a JSON object; received: {type(value).__name__}")
    return value


def remove_stale_files(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files of killed processes from a folder, which may be missing, and the folders below it."""
    for entry in list(Path(folder).rglob(".*")):
        _remove_if_stale(entry)


def _prepare_temporary_path(path: Path, kind: str = "") -> Path:
    """Return an unused temporary path beside `path`, after removing what killed processes left there for `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    # Listing the folder for every new file would take quadratic time where a folder gets many.
    if path.exists() or folder not in _LISTED_FOLDERS:
        _LISTED_FOLDERS.add(folder)
        for entry in list(path.parent.iterdir()):
            if entry.name.startswith(".") and entry.name.endswith(f".{path.name}"):
                _remove_if_stale(entry, path.name)
    temporary_path = path.with_name(f".{os.getpid()}{kind}.{path.name}")
    _remove(temporary_path)
    return temporary_path


def _remove_if_stale(entry: Path, name: str | None = None) -> None:
    """Remove a temporary file of a process that has ended; with `name`, only if it is for the target of that name."""
    match = _TEMPORARY_NAME.fullmatch(entry.name)
    if match is None or name not in (None, match["name"]) or _is_running(int(match["pid"])):
        return
    target = entry.with_name(match["name"])
    if match["kind"] == "-previous" and not target.exists():  # the process died between the two renames
        os.replace(entry, target)
    else:
        _remove(entry)


def _is_running(pid: int) -> bool:
    if os.name != "posix":  # on Windows, os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def _replace_folder(folder: Path, path: Path) -> None:
    for entry in folder.rglob("*"):
        if entry.is_file():
            _flush(entry)
    if not path.is_dir():
        os.replace(folder, path)
        return
    previous = path.with_name(f".{os.getpid()}-previous.{path.name}")
    os.replace(path, previous)
    os.replace(folder, path)
    _remove(previous)


def _flush(path: Path) -> None:
    with path.open("rb" if os.name == "posix" else "rb+") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
