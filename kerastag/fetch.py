"""Download of public files into a cache folder, with the standard library alone."""

from __future__ import annotations

import csv
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from kerastag.files import atomic_path, write_text

__all__ = ["FILES", "DownloadError", "PublicFile", "fetch", "get_cache_folder"]

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30.0  # the longest time without data from the server
_BLOCK_BYTES = 1 << 18
_PROGRESS_SECONDS = 0.2


class DownloadError(OSError):
    """A failed download; the message has the address, what was expected and what was received."""


@dataclass(frozen=True)
class PublicFile:
    """A public file.

    Args:
        base_url: Address of the folder that contains the file.
        file_name: Name of the file.
        about: Description and license.
        sha256: SHA-256 of the content, hexadecimal; None where it is unknown.
    """

    base_url: str
    file_name: str
    about: str
    sha256: str | None = None


with Path(__file__).with_name("public_files.tsv").open(newline="", encoding="utf-8") as _file:
    FILES = {row.pop("name"): PublicFile(**row) for row in csv.DictReader(_file, delimiter="\t")}
"""Public files by name."""


def get_cache_folder() -> Path:
    """Return the folder of downloaded files: `KERASTAG_HOME`, or the cache folder of the platform."""
    if home := os.environ.get("KERASTAG_HOME"):
        return Path(home).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "kerastag" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "kerastag"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kerastag"


def fetch(
    name: str,
    *,
    from_file: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    progress: bool = True,
) -> Path:
    """Download a public file into the cache folder, unless it is there, and return its path.

    A download grows as `NAME.part` in the cache folder. An interrupted one is resumed, in the same call and in the
    next, if the server confirms that the file is still the same. The SHA-256 is checked where it is known.

    Args:
        name: Key of `FILES`, or the file name of an entry.
        from_file: Path of a local copy to use instead of a download.
        base_url: Address of a folder to download from instead of the public one (a mirror).
        progress: Whether to show the progress on standard error.

    Raises:
        ValueError: The name is unknown, or `from_file` or the cached file has another SHA-256.
        FileNotFoundError: There is no file `from_file`.
        DownloadError: The server cannot be reached, refuses, stops sending, or sends too little or another content.

    >>> FILES["mn04_as"].file_name
    'mn04_as_mAP_432.pt'
    """
    public = FILES.get(name) or next((file for file in FILES.values() if file.file_name == name), None)
    if public is None:
        raise ValueError(f"`name` must be one of {', '.join(FILES)}; received: {name!r}")
    path = get_cache_folder() / public.file_name
    if from_file is not None:
        source = Path(from_file)
        if not source.is_file():
            raise FileNotFoundError(f"`from_file`: {source}: no such file")
        _check_sha256(source, public)
        if not (path.exists() and path.samefile(source)):
            with atomic_path(path) as temporary_path:
                shutil.copyfile(source, temporary_path)
    elif path.is_file():
        _check_sha256(path, public)
    else:
        url = (base_url or public.base_url).rstrip("/") + "/" + urllib.parse.quote(public.file_name)
        _download(url, path, public.sha256, progress)
    return path


def _check_sha256(path: Path, public: PublicFile) -> None:
    if public.sha256 is not None and (received := _compute_sha256(path)) != public.sha256:
        raise ValueError(f"{path}: SHA-256 of {public.file_name} must be {public.sha256}; received: {received}")


def _compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path, sha256: str | None, progress: bool) -> None:
    """Download into `NAME.part`, check the content and move it to `path`."""
    part = path.with_name(f"{path.name}.part")
    validator_path = path.with_name(f"{path.name}.part.etag")  # the ETag or the date of the part
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _receive(url, part, validator_path, progress)
            break
        except _FailedAttempt as error:
            if attempt == _ATTEMPTS or error.is_final:
                message = f"{url}: {error}"
                if part.is_file() and validator_path.is_file():
                    message += f"; {part.stat().st_size} bytes are kept, and the next call resumes the download"
                raise DownloadError(message) from error.__cause__
    if sha256 is not None and (received := _compute_sha256(part)) != sha256:
        part.unlink()
        validator_path.unlink(missing_ok=True)
        raise DownloadError(f"{url}: SHA-256 must be {sha256}; received: {received}")
    with atomic_path(path) as temporary_path:
        part.rename(temporary_path)
    validator_path.unlink(missing_ok=True)


class _FailedAttempt(Exception):
    """A failed attempt to download a file; `is_final` is whether another attempt cannot succeed."""

    def __init__(self, message: str, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


def _receive(url: str, part: Path, validator_path: Path, progress: bool) -> None:
    """Download the rest of a file, or the whole file if the server does not resume."""
    size = part.stat().st_size if part.is_file() and validator_path.is_file() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "kerastag"}
    if size:
        headers |= {"Range": f"bytes={size}-", "If-Range": validator_path.read_text()}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if error.code == 416:  # the part is at least as long as the file
                part.unlink(missing_ok=True)
        raise _describe_failure(error) from error
    with response:
        if response.status != 206:
            size = 0
        content_length = response.headers.get("Content-Length")
        total = None if content_length is None else size + int(content_length)
        validator_path.unlink(missing_ok=True)
        with part.open("ab" if size else "wb") as file:
            tag = response.headers.get("ETag", "")
            validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
            if validator:
                write_text(validator_path, validator)
            next_time = 0.0
            try:
                while block := _read_block(response):
                    file.write(block)
                    size += len(block)
                    if progress and sys.stderr.isatty() and time.monotonic() >= next_time:
                        next_time = time.monotonic() + _PROGRESS_SECONDS
                        _print_progress(part.stem, size, total, end="")
            finally:
                if progress:
                    _print_progress(part.stem, size, total, end="\n")
    if total is not None and size != total:
        raise _FailedAttempt(f"must have {total} bytes; received: {size}")


def _read_block(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _describe_failure(error) from error


def _describe_failure(error: Exception) -> _FailedAttempt:
    if isinstance(error, urllib.error.HTTPError):
        is_final = 400 <= error.code < 500 and error.code not in (408, 416, 429)
        return _FailedAttempt(f"the server answered {error.code} {error.reason}", is_final)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError) or "timed out" in str(reason).lower():
        return _FailedAttempt(f"the server was silent for {_TIMEOUT_SECONDS:g} s")
    if isinstance(error, urllib.error.URLError):
        return _FailedAttempt(f"no connection ({reason}); a local copy can be used with `--from FILE`")
    return _FailedAttempt(str(reason) or type(reason).__name__)


def _print_progress(name: str, size: int, total: int | None, end: str) -> None:
    """Print the progress of a download on standard error, in one line that a terminal overwrites."""
    expected = "" if total is None else f" of {total / 1e6:.1f}"
    share = f" ({size / total:.0%})" if total else ""
    start = "\r" if sys.stderr.isatty() else ""
    print(f"{start}{name}: {size / 1e6:.1f}{expected} MB{share}", end=end, file=sys.stderr, flush=True)
