"""Writing files and folders whole or not at all, formatting CSV, reading and writing JSON, and reading arrays.

Everything in kerastag that writes a file goes through this module. The content goes into a temporary file beside the
target, `.PID.NAME`, which is flushed to disk and then renamed. Whenever the process dies, the target is the old file or
the new one. A temporary file that a killed process left behind is removed by the next write to the same target, and by
`remove_stale_files`.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "atomic_path",
    "compute_digest",
    "format_csv",
    "hash_first_bytes",
    "is_temporary",
    "move_file",
    "name_full_disk",
    "read_arrays",
    "read_json",
    "remove_stale_files",
    "remove_temporary_folders",
    "temporary_folder",
    "write_atomically",
    "write_bytes",
    "write_json",
    "write_text",
]

# `.PID.NAME` will become NAME, `.PID-previous.NAME` is the folder that it replaces, and `.PID-files.NAME` is a folder
# of temporary files for it.
_TEMPORARY_NAME = re.compile(r"\.(?P<pid>\d{1,9})(?P<kind>|-previous|-files)\.(?P<name>.+)", re.DOTALL)
_LOCK_NAME = re.compile(r"\..+\.lock", re.DOTALL)
_LEFTOVERS: dict[Path, dict[str, list[Path]]] = {}  # temporary files in the folders that were listed, by target
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MAX_RATIO, _MIN_UNPACKED_BYTES = 100, 2**26


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
        with name_full_disk(path):
            yield temporary_path
            if temporary_path.is_dir():
                _replace_folder(temporary_path, path)
            else:
                move_file(temporary_path, path)
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


def move_file(source: Path, path: Path) -> None:
    """Flush a file to disk and rename it to `path`, on the same file system. A file there keeps its permissions."""
    _flush(source)
    if path.is_file():
        shutil.copymode(path, source)
    os.replace(source, path)


@contextlib.contextmanager
def name_full_disk(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the error of a full disk into one that names `path` and states what to do.

    >>> with name_full_disk("train.h5"):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    ...
    OSError: [Errno 28] the disk is full: make room and run the same command again: 'train.h5'
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL_DISK:
            raise
        message = "the disk is full: make room and run the same command again"
        raise OSError(error.errno, message, os.fspath(path)) from error


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


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the arrays of an `.npz` file by name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds objects, or would be more than a hundred times as large in memory.
    """
    import numpy as np

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        # Opened here, since np.load leaves a damaged file open.
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
            max_bytes = max(_MIN_UNPACKED_BYTES, _MAX_RATIO * path.stat().st_size)
            if num_bytes > max_bytes:
                raise ValueError(f"must unpack to at most {max_bytes:,} bytes; received: {num_bytes:,}")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    # zipfile, zlib, NumPy and its parser of headers raise errors of many types.
    except Exception as error:
        raise ValueError(f"{path}: not a complete .npz file ({str(error) or type(error).__name__})") from error


def compute_digest(path: str | os.PathLike[str], algorithm: str = "sha256") -> str:
    """Compute the digest of a file, as hexadecimal digits, with an algorithm of `hashlib`."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def hash_first_bytes(file: BinaryIO, size: int) -> Any:
    """Return the SHA-256 object of `hashlib` for the first `size` bytes of an open file, or for all if there are fewer.

    The next read or write continues after them.
    """
    digest, rest = hashlib.sha256(), size
    file.seek(0)
    while rest > 0 and (block := file.read(min(rest, 1 << 20))):
        digest.update(block)
        rest -= len(block)
    file.seek(file.tell())  # A file that is read and written needs a seek in between.
    return digest


def remove_stale_files(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files of killed processes from a folder, which may be missing, and the folders below it."""
    for entry in list(Path(folder).rglob(".*")):
        _remove_if_stale(entry)


def remove_temporary_folders(folder: str | os.PathLike[str]) -> None:
    """Remove the folders of `temporary_folder` in a folder, whichever processes created them.

    This is for a folder in which nothing is left to write: what a lost machine left there has the number of a process
    that may be running on this one.
    """
    for entry in list(Path(folder).glob(".*")):
        match = _TEMPORARY_NAME.fullmatch(entry.name)
        if match and match["kind"] == "-files":
            _remove(entry)


def is_temporary(path: Path) -> bool:
    """Whether the name of a file or folder is that of a temporary file or of a lock."""
    return bool(_TEMPORARY_NAME.fullmatch(path.name) or _LOCK_NAME.fullmatch(path.name))


def _prepare_temporary_path(path: Path, kind: str = "") -> Path:
    """Return an unused temporary path beside `path`, after removing what killed processes left there for `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.parent.resolve()
    # Listing the folder for every new file would take quadratic time where a folder gets many.
    if path.exists() or folder not in _LEFTOVERS:
        leftovers: dict[str, list[Path]] = {}
        for entry in path.parent.iterdir():
            if match := _TEMPORARY_NAME.fullmatch(entry.name):
                leftovers.setdefault(match["name"], []).append(entry)
        _LEFTOVERS[folder] = leftovers  # Complete from the start, since other threads read it.
    for entry in _LEFTOVERS[folder].pop(path.name, ()):
        _remove_if_stale(entry)
    temporary_path = path.with_name(f".{os.getpid()}{kind}.{path.name}")
    _remove(temporary_path)
    return temporary_path


def _remove_if_stale(entry: Path) -> None:
    """Remove a temporary file of a process that has ended."""
    match = _TEMPORARY_NAME.fullmatch(entry.name)
    if match is None or _is_running(int(match["pid"])):
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
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux, or the process has ended in the meantime
        return True
    # A process that has ended keeps its number until its parent asks for its status, which process 1 of a container
    # may never do.
    return status.rpartition(")")[2].split()[0] not in "ZX"


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
