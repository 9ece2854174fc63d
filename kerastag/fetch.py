"""Download of public files into a cache folder, with the standard library alone."""

from __future__ import annotations

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

_AUDIOSET = "http://storage.googleapis.com/us_audioset/youtube_corpus/v1/"
_VGGISH = "https://storage.googleapis.com/audioset/"
_PANNS = "https://zenodo.org/record/3987831/files/"
_EFFICIENTAT = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
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


FILES: dict[str, PublicFile] = {
    "audioset_features": PublicFile(
        _AUDIOSET + "features/", "features.tar.gz", "8-bit embeddings of AudioSet, all three splits, 2.4 GB; CC BY 4.0"
    ),
    "audioset_classes": PublicFile(
        _AUDIOSET + "csv/",
        "class_labels_indices.csv",
        "Classes of AudioSet; CC BY 4.0",
        "cdd1049833c4b86127c2773ac0d14a2754b6a6d0d1798002ed5c66e699708429",
    ),
    "balanced_train_segments": PublicFile(
        _AUDIOSET + "csv/",
        "balanced_train_segments.csv",
        "Balanced training clips of AudioSet; CC BY 4.0",
        "3b83e5ff9ed72cfda37d4e36ce08250e107c1ea70f109f6ab6668ac200db5e94",
    ),
    "eval_segments": PublicFile(
        _AUDIOSET + "csv/",
        "eval_segments.csv",
        "Evaluation clips of AudioSet; CC BY 4.0",
        "f7055f53935f70e74e39494a5c8c4c78f1700fce275028bd36e31186f33d45db",
    ),
    "unbalanced_train_segments": PublicFile(
        _AUDIOSET + "csv/", "unbalanced_train_segments.csv", "Other training clips of AudioSet; CC BY 4.0"
    ),
    "audioset_ontology": PublicFile(
        "https://raw.githubusercontent.com/audioset/ontology/master/",
        "ontology.json",
        "Ontology of AudioSet; CC BY-SA 4.0",
    ),
    "audioset_label_quality": PublicFile(
        _AUDIOSET + "qa/",
        "qa_true_counts.csv",
        "Label quality of AudioSet: number of correct labels per class; CC BY 4.0",
    ),
    "panns_cnn10": PublicFile(_PANNS, "Cnn10_mAP=0.380.pth", "PANNs CNN10 trained on AudioSet; CC BY 4.0"),
    "panns_resnet38": PublicFile(_PANNS, "ResNet38_mAP=0.434.pth", "PANNs ResNet38 trained on AudioSet; CC BY 4.0"),
    "mn04_as": PublicFile(
        _EFFICIENTAT,
        "mn04_as_mAP_432.pt",
        "EfficientAT, width 0.4; MIT",
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    ),
    "mn05_as": PublicFile(_EFFICIENTAT, "mn05_as_mAP_443.pt", "EfficientAT, width 0.5; MIT"),
    "mn10_as": PublicFile(_EFFICIENTAT, "mn10_as_mAP_471.pt", "EfficientAT, width 1; MIT"),
    "mn20_as": PublicFile(_EFFICIENTAT, "mn20_as_mAP_478.pt", "EfficientAT, width 2; MIT"),
    "mn30_as": PublicFile(_EFFICIENTAT, "mn30_as_mAP_482.pt", "EfficientAT, width 3; MIT"),
    "mn40_as": PublicFile(_EFFICIENTAT, "mn40_as_mAP_484.pt", "EfficientAT, width 4; MIT"),
    "mn40_as_ext": PublicFile(_EFFICIENTAT, "mn40_as_ext_mAP_487.pt", "EfficientAT, width 4, longer training; MIT"),
    "vggish_checkpoint": PublicFile(_VGGISH, "vggish_model.ckpt", "TensorFlow checkpoint of VGGish; Apache-2.0"),
    "vggish_pca": PublicFile(
        _VGGISH,
        "vggish_pca_params.npz",
        "PCA of AudioSet's embeddings; Apache-2.0",
        "4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
    ),
}
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
    timeout_seconds: float = 30.0,
    attempts: int = 3,
) -> Path:
    """Download a public file into the cache folder, unless it is there, and return its path.

    A download grows as `NAME.part` in the cache folder. An interrupted one is resumed, in the same call and in the
    next, if the server confirms that the file is still the same. The SHA-256 is checked where it is known.

    Args:
        name: Key of `FILES`, or the file name of an entry.
        from_file: Path of a local copy to use instead of a download.
        base_url: Address of a folder to download from instead of the public one (a mirror).
        progress: Whether to show the progress on standard error.
        timeout_seconds: Longest time without data from the server, above 0 s.
        attempts: Number of attempts, at least 1.

    Returns:
        Path of the file in the cache folder.

    Raises:
        ValueError: The name is unknown, or `from_file` or the cached file has another SHA-256.
        FileNotFoundError: There is no file `from_file`.
        DownloadError: The server cannot be reached, refuses, stops sending, or sends too little or another content.

    >>> FILES["mn04_as"].file_name
    'mn04_as_mAP_432.pt'
    """
    public = _find_file(name)
    if timeout_seconds <= 0:
        raise ValueError(f"`timeout_seconds` must be above 0; received: {timeout_seconds}")
    if attempts < 1:
        raise ValueError(f"`attempts` must be at least 1; received: {attempts}")
    path = get_cache_folder() / public.file_name
    if from_file is not None:
        _copy(Path(from_file), path, public)
    elif path.is_file():
        _check_sha256(path, public)
    else:
        url = (base_url or public.base_url).rstrip("/") + "/" + urllib.parse.quote(public.file_name)
        _download(url, path, public.sha256, progress, timeout_seconds, attempts)
    return path


def _find_file(name: str) -> PublicFile:
    if name in FILES:
        return FILES[name]
    for public in FILES.values():
        if public.file_name == name:
            return public
    raise ValueError(f"`name` must be one of {', '.join(FILES)}; received: {name!r}")


def _copy(source: Path, path: Path, public: PublicFile) -> None:
    if not source.is_file():
        raise FileNotFoundError(f"`from_file`: {source}: no such file")
    _check_sha256(source, public)
    if not (path.exists() and path.samefile(source)):
        with atomic_path(path) as temporary_path:
            shutil.copyfile(source, temporary_path)


def _check_sha256(path: Path, public: PublicFile) -> None:
    if public.sha256 is not None and (received := _compute_sha256(path)) != public.sha256:
        raise ValueError(f"{path}: SHA-256 of {public.file_name} must be {public.sha256}; received: {received}")


def _compute_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path, sha256: str | None, progress: bool, timeout_seconds: float, attempts: int) -> None:
    """Download into `NAME.part`, check the content and move it to `path`."""
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, attempts + 1):
        try:
            _receive(url, part, progress, timeout_seconds)
            break
        except _FailedAttempt as error:
            if attempt == attempts or error.is_final:
                raise DownloadError(f"{url}: {error}{_describe_part(part)}") from error.__cause__
    if sha256 is not None and (received := _compute_sha256(part)) != sha256:
        part.unlink()
        _get_validator_path(part).unlink(missing_ok=True)
        raise DownloadError(f"{url}: SHA-256 must be {sha256}; received: {received}")
    with atomic_path(path) as temporary_path:
        part.rename(temporary_path)
    _get_validator_path(part).unlink(missing_ok=True)


class _FailedAttempt(Exception):
    """A failed attempt to download a file; `is_final` is whether another attempt cannot succeed."""

    def __init__(self, message: str, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


def _receive(url: str, part: Path, progress: bool, timeout_seconds: float) -> None:
    """Download the rest of a file, or the whole file if the server does not resume."""
    validator_path = _get_validator_path(part)
    size = part.stat().st_size if part.is_file() and validator_path.is_file() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "kerastag"}
    if size:
        headers |= {"Range": f"bytes={size}-", "If-Range": validator_path.read_text()}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_seconds)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if error.code == 416:  # the part is at least as long as the file
                part.unlink(missing_ok=True)
        raise _describe_failure(error, timeout_seconds) from error
    with response:
        if response.status != 206:
            size = 0
        content_length = response.headers.get("Content-Length")
        total = None if content_length is None else size + int(content_length)
        validator_path.unlink(missing_ok=True)
        with part.open("ab" if size else "wb") as file, _Progress(part.stem, size, total, progress) as shown:
            tag = response.headers.get("ETag", "")
            validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
            if validator:
                write_text(validator_path, validator)
            while block := _read_block(response, timeout_seconds):
                file.write(block)
                size += len(block)
                shown.update(size)
    if total is not None and size != total:
        raise _FailedAttempt(f"must have {total} bytes; received: {size}")


def _read_block(response: http.client.HTTPResponse, timeout_seconds: float) -> bytes:
    try:
        return response.read1(_BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _describe_failure(error, timeout_seconds) from error


def _get_validator_path(part: Path) -> Path:
    """Return the path of the file with the ETag or the date of the partial download."""
    return part.with_name(part.name + ".etag")


def _describe_failure(error: Exception, timeout_seconds: float) -> _FailedAttempt:
    if isinstance(error, urllib.error.HTTPError):
        is_final = 400 <= error.code < 500 and error.code not in (408, 416, 429)
        return _FailedAttempt(f"the server answered {error.code} {error.reason}", is_final)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError) or "timed out" in str(reason).lower():
        return _FailedAttempt(f"the server was silent for {timeout_seconds:g} s")
    if isinstance(error, urllib.error.URLError):
        return _FailedAttempt(f"no connection ({reason}); a local copy can be used with `--from FILE`")
    return _FailedAttempt(str(reason) or type(reason).__name__)


def _describe_part(part: Path) -> str:
    if part.is_file() and _get_validator_path(part).is_file():
        return f"; {part.stat().st_size} bytes are kept, and the next call resumes the download"
    return ""


class _Progress:
    """Progress of a download in one line on standard error, which a terminal shows while it changes."""

    def __init__(self, name: str, size: int, total: int | None, visible: bool) -> None:
        self._name, self._size, self._total = name, size, total
        self._visible, self._next_time = visible, 0.0

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._visible:
            self._show("\n")

    def update(self, size: int) -> None:
        self._size = size
        if self._visible and sys.stderr.isatty() and time.monotonic() >= self._next_time:
            self._next_time = time.monotonic() + _PROGRESS_SECONDS
            self._show("")

    def _show(self, end: str) -> None:
        total = "" if self._total is None else f" of {self._total / 1e6:.1f}"
        share = f" ({self._size / self._total:.0%})" if self._total else ""
        start = "\r" if sys.stderr.isatty() else ""
        print(f"{start}{self._name}: {self._size / 1e6:.1f}{total} MB{share}", end=end, file=sys.stderr, flush=True)
