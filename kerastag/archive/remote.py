"""Recordings in object stores and on web servers, through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from kerastag.audio.formats import is_audio_name

__all__ = ["RemoteFile", "download", "is_url", "list_remote"]

_BLOCK_BYTES = 1 << 20
_EXTRA = "pip install 'kerastag[remote]'"
# Keys under which file systems state when a file was changed.
_TIME_KEYS = ("LastModified", "last_modified", "mtime", "updated", "created")


class RemoteFile(NamedTuple):
    """URL of a file, its size in bytes, and the time of its last change in nanoseconds, or None if it is unknown."""

    url: str
    size: int | None
    modified_ns: int | None


def is_url(text: str) -> bool:
    """Return whether a text is a URL such as `s3://bucket/folder`, and not a path."""
    return "://" in text


def list_remote(url: str) -> Iterator[RemoteFile]:
    """List the audio files below a URL, those that match a pattern with `*`, or the one file that it names.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ImportError: The package for this kind of URL is not installed.
        OSError: The server cannot be reached or refuses to list.
    """
    file_system, path = _open_file_system(url)
    try:
        if "*" in path:
            entries = file_system.glob(path, detail=True)
        elif not url.endswith("/") and file_system.isfile(path):
            info = file_system.info(path)
            yield _describe(file_system, url, info)
            return
        else:
            entries = file_system.find(path, detail=True)
    except (OSError, ValueError) as error:
        raise _translate(error, url) from error
    if not entries:
        raise FileNotFoundError(f"{url}: no such file or folder")
    for name, info in entries.items():
        parts = name.removeprefix(path).split("/")
        if info["type"] == "file" and is_audio_name(name) and not any(part.startswith(".") for part in parts):
            yield _describe(file_system, file_system.unstrip_protocol(name), info)


def download(url: str, target: Path) -> None:
    """Copy a remote file to a local one.

    Raises:
        OSError: The file does not exist or cannot be read.
        ImportError: The package for this kind of URL is not installed.
    """
    file_system, path = _open_file_system(url)
    try:
        with file_system.open(path, "rb", block_size=_BLOCK_BYTES) as source, target.open("wb") as file:
            while block := source.read(_BLOCK_BYTES):
                file.write(block)
    except (OSError, ValueError) as error:
        raise _translate(error, url) from error


def _open_file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ImportError(f"{url}: reading it needs fsspec: {_EXTRA}") from error
    try:
        file_system, path = url_to_fs(url)
    except ImportError as error:
        raise ImportError(f"{url}: reading it needs another package ({error}): {_EXTRA}") from error
    except ValueError as error:
        raise ValueError(f"{url}: must be a URL of a kind that fsspec supports; received: {error}") from error
    return file_system, path


def _translate(error: Exception, url: str) -> OSError:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{url}: no such file or folder")
    kind = type(error) if isinstance(error, PermissionError) else OSError
    return kind(f"{url}: cannot be read ({' '.join(str(error).split()) or type(error).__name__})")


def _describe(file_system: Any, url: str, info: dict[str, Any]) -> RemoteFile:
    time = next((info[key] for key in _TIME_KEYS if info.get(key) is not None), None)
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    seconds = time.timestamp() if isinstance(time, datetime) else time
    return RemoteFile(url, info.get("size"), None if seconds is None else round(seconds * 1e6) * 1_000)
