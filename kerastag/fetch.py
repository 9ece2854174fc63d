"""Download of public files into a cache folder, with the standard library alone."""

from __future__ import annotations

import contextlib
import csv
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerastag.files import atomic_path, compute_digest, move_file, name_full_disk, read_json, write_json
from kerastag.locks import hold_lock

__all__ = ["FILES", "DownloadError", "PublicFile", "fetch", "get_cache_folder"]

_ATTEMPTS = 3
_TIMEOUT_SECONDS = 30.0  # the longest time without data from the server
_BLOCK_BYTES = 1 << 18
_MAX_BYTES = 1 << 33  # of a file whose size is not known
_MAX_UNSTATED_BYTES = 1 << 30  # of a file whose size the server does not state either
_PROGRESS_SECONDS = 0.2
_REMOVE_IT = "remove the file and run the same command again"
_USE_A_COPY = "a copy from elsewhere can be used with `--from FILE`"


class DownloadError(OSError):
    """A failed download; the message has the address, what was expected and what was received."""


@dataclass(frozen=True)
class PublicFile:
    """A public file.

    Where neither a SHA-256 nor an MD5 is known, a file must at least be complete and of the kind of its name.

    Args:
        base_url: Address of the folder that contains the file.
        file_name: Name of the file.
        about: Description and license.
        sha256: SHA-256 of the content, hexadecimal; None where it is unknown.
        size: Size in bytes; None where it is unknown.
        md5: MD5 of the content, hexadecimal, from hosts that publish no other digest; None where it is unknown.
    """

    base_url: str
    file_name: str
    about: str
    sha256: str | None = None
    size: int | None = None
    md5: str | None = None

    @property
    def check(self) -> str:
        """What a copy of the file is checked by, for people."""
        if self.sha256 or self.md5:
            return "SHA-256" if self.sha256 else "MD5"
        return f"kind only ({_describe_kind(self.file_name)}): no digest is known"

    def find_fault(self, path: Path, name: str = "") -> str | None:
        """Return what is wrong with a copy of the file, with `name` as its name; None if nothing is."""
        of_name = f" of {name}" if name else ""
        if self.size is not None and (size := path.stat().st_size) != self.size:
            return f"size{of_name} must be {self.size} bytes; received: {size}"
        for algorithm, expected in (("SHA-256", self.sha256), ("MD5", self.md5)):
            if expected and (received := compute_digest(path, algorithm.lower().replace("-", ""))) != expected:
                return f"{algorithm}{of_name} must be {expected}; received: {received}"
        if not (self.sha256 or self.md5 or _is_of_kind(path, self.file_name)):
            with path.open("rb") as file:
                start = file.read(40)
            expected = f"must be {_describe_kind(self.file_name)}, complete"
            return f"{expected}; received: {path.stat().st_size} bytes that start with {start!r}"
        return None


def _read_table() -> dict[str, PublicFile]:
    def parse(base_url: str, file_name: str, about: str, size: str, sha256: str, md5: str) -> PublicFile:
        return PublicFile(base_url, file_name, about, sha256 or None, int(size) if size else None, md5 or None)

    with Path(__file__).with_name("public_files.tsv").open(newline="", encoding="utf-8") as file:
        return {row.pop("name"): parse(**row) for row in csv.DictReader(file, delimiter="\t", restval="")}


FILES = _read_table()
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
    next, if the server confirms that the file is still the same. Its size is compared with what the server states, and
    its content with what is known: a file that does not match is never kept. A process that wants a file which another
    one is downloading waits for it.

    Args:
        name: Key of `FILES`, or the file name of an entry.
        from_file: Path of a local copy to use instead of a download.
        base_url: Address of a folder to download from instead of the public one (a mirror).
        progress: Whether to show the progress on standard error.

    Raises:
        ValueError: The name is unknown, or `from_file` or the cached file has another size, digest or kind.
        FileNotFoundError: There is no file `from_file`.
        DownloadError: The server cannot be reached, refuses, stops sending, or sends too little or another content.
        OSError: The disk is full.

    >>> FILES["mn04_as"].file_name
    'mn04_as_mAP_432.pt'
    """
    public = FILES.get(name) or next((file for file in FILES.values() if file.file_name == name), None)
    if public is None:
        raise ValueError(f"`name` must be one of {', '.join(FILES)}; received: {name!r}")
    path = get_cache_folder() / public.file_name

    def report_wait(holder: str) -> None:
        if progress:
            print(f"{public.file_name}: waiting for {holder}, which is writing it", file=sys.stderr, flush=True)

    if from_file is not None:
        source = Path(from_file)
        if not source.is_file():
            raise FileNotFoundError(f"`from_file`: {source}: no such file")
        if fault := public.find_fault(source, public.file_name):
            raise ValueError(f"{source}: {fault}")
        if not (path.exists() and path.samefile(source)):
            with hold_lock(path, wait=report_wait), atomic_path(path) as temporary_path:
                shutil.copyfile(source, temporary_path)
        return path
    url = (base_url or public.base_url).rstrip("/") + "/" + urllib.parse.quote(public.file_name)
    download = _Download(url, path, public, progress)
    if not path.is_file():
        with hold_lock(path, wait=report_wait):
            if not path.is_file():
                download.run()
                return path
    elif download.state_path.exists():
        with contextlib.suppress(OSError), hold_lock(path):
            download.state_path.unlink()  # The process was killed just after the file had got its name.
    if fault := public.find_fault(path, public.file_name):
        raise ValueError(f"{path}: {fault}; {_REMOVE_IT}")
    return path


class _FailedAttempt(Exception):
    """A failed attempt to download a file; `is_final` is whether another attempt cannot succeed."""

    def __init__(self, message: str, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class _Download:
    """The download of a file.

    The content grows in `NAME.part`. What a resumption relies on is in `NAME.part.json`: the ETag or the date of the
    content, and its size. The order of all steps ensures that it never describes other bytes than those of the part: it
    is removed before the part is truncated, and written before the first byte of the new content.
    """

    def __init__(self, url: str, path: Path, public: PublicFile, progress: bool) -> None:
        self._url, self._path, self._public, self._progress = url, path, public, progress
        self._max_bytes = _MAX_BYTES if public.size is None else public.size
        self._part, self.state_path = (path.with_name(f"{path.name}.part{suffix}") for suffix in ("", ".json"))

    def run(self) -> None:
        """Download the file, check it and move it to its place."""
        self._path.with_name(f"{self._path.name}.part.etag").unlink(missing_ok=True)  # written by version 0.1.0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._receive()
                break
            except _FailedAttempt as error:
                if attempt == _ATTEMPTS or error.is_final:
                    raise DownloadError(f"{self._url}: {error}{self._describe_rest()}") from error.__cause__
        if fault := self._public.find_fault(self._part):
            self._discard()
            raise DownloadError(f"{self._url}: {fault}; nothing is kept; {_USE_A_COPY}")
        with name_full_disk(self._path):
            move_file(self._part, self._path)
        self.state_path.unlink(missing_ok=True)

    def _receive(self) -> None:
        """Download the rest of the file, or the whole file if the server does not resume."""
        state = self._read_state()
        start = self._part.stat().st_size if state else 0
        if state and start == state["size"]:
            return  # The process was killed between the last byte and the check of the content.
        headers = {"Accept-Encoding": "identity", "User-Agent": "kerastag"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Range": state["validator"]}
        try:
            response = urllib.request.urlopen(
                urllib.request.Request(self._url, headers=headers), timeout=_TIMEOUT_SECONDS
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code == 416:  # The part is at least as long as the file.
                    self._discard()
            raise _describe_failure(error) from error
        with response:
            if response.status != 206:
                start = 0
            total = self._check_response(response, start, state)
            with name_full_disk(self._part), self._open_part(response, start, total) as file:
                self._copy(response, file, start, total)
        if total is not None and (size := self._part.stat().st_size) != total:
            raise _FailedAttempt(f"must have {total} bytes; received: {size}")

    def _read_state(self) -> dict[str, Any]:
        """Return the validator and the size of the content of the part; nothing if it cannot be resumed."""
        with contextlib.suppress(OSError, ValueError):
            state = read_json(self.state_path)
            if isinstance(state.get("validator"), str) and "size" in state and self._part.is_file():
                return state
        return {}

    def _check_response(self, response: http.client.HTTPResponse, start: int, state: dict[str, Any]) -> int | None:
        """Return the size of the whole file, None if it is unknown, or refuse a response that cannot be right."""
        public, has_digest = self._public, bool(self._public.sha256 or self._public.md5)
        scheme = urllib.parse.urlsplit(response.url).scheme
        if scheme not in ("http", "https") or (scheme == "http" and self._url.startswith("https:") and not has_digest):
            raise _FailedAttempt(f"must not redirect to {response.url}", is_final=True)
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch(r"[0-9]{1,20}", length):
            raise _FailedAttempt(f"the header Content-Length must be a number; received: {length!r}", is_final=True)
        if response.status == 206:
            content_range, validator = response.headers.get("Content-Range", "none"), _get_validator(response)
            match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", content_range)
            first, last, total = map(int, match.groups()) if match else (0, 0, 0)
            is_same_file = state.get("size") in (None, total) and validator in ("", state.get("validator"))
            if not (0 < start < total and is_same_file and (first, last) == (start, total - 1)):
                self._discard()
                expected = f"the header Content-Range must be for the bytes from {start} of the same file"
                raise _FailedAttempt(f"{expected}; received: {content_range!r}")
            return total
        if length is None:
            if not has_digest:
                message = f"the server does not state the size, and no digest of the file is known; {_USE_A_COPY}"
                raise _FailedAttempt(message, is_final=True)
            return None
        if int(length) > self._max_bytes or (public.size is not None and int(length) != public.size):
            expected = f"at most {_MAX_BYTES}" if public.size is None else str(public.size)
            raise _FailedAttempt(f"must have {expected} bytes; the server states {length}", is_final=True)
        return int(length)

    def _open_part(self, response: http.client.HTTPResponse, start: int, total: int | None) -> Any:
        if start:
            return self._part.open("ab")
        self.state_path.unlink(missing_ok=True)
        file = self._part.open("wb")
        if validator := _get_validator(response):
            write_json(self.state_path, {"validator": validator, "size": total})
        return file

    def _copy(self, response: http.client.HTTPResponse, file: Any, size: int, total: int | None) -> None:
        limit = min(self._max_bytes, _MAX_UNSTATED_BYTES) if total is None else total
        next_time = 0.0
        try:
            while block := _read_block(response):
                size += len(block)
                if size > limit:
                    self._discard()
                    raise _FailedAttempt(f"must have at most {limit} bytes; the server sends more", is_final=True)
                file.write(block)
                if self._progress and sys.stderr.isatty() and time.monotonic() >= next_time:
                    next_time = time.monotonic() + _PROGRESS_SECONDS
                    _print_progress(self._path.name, size, total, end="")
        finally:
            if self._progress:
                _print_progress(self._path.name, size, total, end="\n")

    def _discard(self) -> None:
        self.state_path.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def _describe_rest(self) -> str:
        """Describe what is kept of a failed download, and remove what is of no use."""
        if not self._read_state() or not (size := self._part.stat().st_size):
            self._discard()
            return ""
        return f"; {size} bytes are kept, and the next call resumes the download"


def _get_validator(response: http.client.HTTPResponse) -> str:
    """Return the strong ETag of a response, else its date; empty if it has neither."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


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


_KINDS = {
    ".gz": "a gzip file",
    ".pt": "a PyTorch file",
    ".pth": "a PyTorch file",
    ".npz": "a zip archive",
    ".csv": "a CSV file",
    ".json": "a JSON file",
    ".ckpt": "a TensorFlow checkpoint",
}


def _describe_kind(file_name: str) -> str:
    return _KINDS.get(Path(file_name).suffix, "a file that is not empty")


def _is_of_kind(path: Path, file_name: str) -> bool:
    """Whether a file is what the end of its name states, by its first and last bytes."""
    with path.open("rb") as file:
        start = file.read(4096)
        file.seek(max(0, path.stat().st_size - 8))
        end = file.read()
    match Path(file_name).suffix:
        case ".gz":
            return start.startswith(b"\x1f\x8b\x08")
        case ".pt" | ".pth":  # a zip archive, or before PyTorch 1.6 a pickle
            return zipfile.is_zipfile(path) if start.startswith(b"PK") else start.startswith(b"\x80\x02")
        case ".npz":
            return start.startswith(b"PK") and zipfile.is_zipfile(path)
        case ".csv":
            first_line = start.partition(b"\n")[0]
            return b"," in first_line and not first_line.lstrip().startswith(b"<") and end.endswith(b"\n")
        case ".json":
            with contextlib.suppress(ValueError, RecursionError):
                return path.stat().st_size <= 1 << 26 and json.loads(path.read_bytes()) is not None
            return False
        case ".ckpt":
            return end == (0xDB4775248B80FB57).to_bytes(8, "little")
    return bool(start)


def _print_progress(name: str, size: int, total: int | None, end: str) -> None:
    """Print the progress of a download on standard error, in one line that a terminal overwrites."""
    expected = "" if total is None else f" of {total / 1e6:.1f}"
    share = f" ({size / total:.0%})" if total else ""
    start = "\r" if sys.stderr.isatty() else ""
    print(f"{start}{name}: {size / 1e6:.1f}{expected} MB{share}", end=end, file=sys.stderr, flush=True)
