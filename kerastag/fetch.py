"""Public files by name -> a verified local copy, downloaded once into the cache or taken from a file at hand."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["FILES", "DownloadError", "PublicFile", "cache_folder", "fetch"]

_AUDIOSET = "http://storage.googleapis.com/us_audioset/youtube_corpus/v1/"
_VGGISH = "https://storage.googleapis.com/audioset/"
_PANNS = "https://zenodo.org/record/3987831/files/"
_EFFICIENTAT = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/"
_BLOCK_BYTES = 1 << 18


class DownloadError(OSError):
    """A download that failed: its address, what was expected and what came."""


@dataclass(frozen=True)
class PublicFile:
    """One public file: the folder it is served from, its name there, what it is, and its SHA-256 where known."""

    base_url: str
    file_name: str
    about: str
    sha256: str | None = None


FILES: dict[str, PublicFile] = {
    "audioset_features": PublicFile(
        _AUDIOSET + "features/", "features.tar.gz", "AudioSet's 8-bit embeddings, all three splits, 2.4 GB; CC BY 4.0"
    ),
    "audioset_classes": PublicFile(
        _AUDIOSET + "csv/",
        "class_labels_indices.csv",
        "AudioSet's 527 classes; CC BY 4.0",
        "cdd1049833c4b86127c2773ac0d14a2754b6a6d0d1798002ed5c66e699708429",
    ),
    "balanced_train_segments": PublicFile(
        _AUDIOSET + "csv/",
        "balanced_train_segments.csv",
        "AudioSet's balanced training clips; CC BY 4.0",
        "3b83e5ff9ed72cfda37d4e36ce08250e107c1ea70f109f6ab6668ac200db5e94",
    ),
    "eval_segments": PublicFile(
        _AUDIOSET + "csv/",
        "eval_segments.csv",
        "AudioSet's evaluation clips; CC BY 4.0",
        "f7055f53935f70e74e39494a5c8c4c78f1700fce275028bd36e31186f33d45db",
    ),
    "unbalanced_train_segments": PublicFile(
        _AUDIOSET + "csv/", "unbalanced_train_segments.csv", "AudioSet's other training clips; CC BY 4.0"
    ),
    "audioset_ontology": PublicFile(
        "https://raw.githubusercontent.com/audioset/ontology/master/", "ontology.json", "AudioSet's tree; CC BY-SA 4.0"
    ),
    "audioset_label_quality": PublicFile(
        _AUDIOSET + "qa/", "qa_true_counts.csv", "AudioSet's label quality: true among rated, by class; CC BY 4.0"
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
    "vggish_checkpoint": PublicFile(_VGGISH, "vggish_model.ckpt", "VGGish's TensorFlow checkpoint; Apache-2.0"),
    "vggish_pca": PublicFile(
        _VGGISH,
        "vggish_pca_params.npz",
        "the PCA of AudioSet's embeddings; Apache-2.0",
        "4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
    ),
}


def cache_folder() -> Path:
    """Where downloads are kept: `KERASTAG_HOME`, or the platform's cache folder."""
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
    """A public file's name -> the path of its verified copy in the cache.

    A download grows as `NAME.part` in the cache; a broken one goes on from there, in the same call and
    in the next, when the server can tell that the file is still the same.

    Args:
        name: a key of `FILES`, or the file name of one.
        from_file: take this local copy instead of the network.
        base_url: fetch from this folder instead of the public one (a mirror).
        progress: show a bar.
        timeout_seconds: longest silence of the server, above 0.
        attempts: how often to try, 1 or more.

    Raises:
        ValueError: an unknown name; a `from_file` or cached file with the wrong SHA-256.
        FileNotFoundError: no such `from_file`.
        DownloadError: the server refuses, is silent, sends too little or something else.
        ImportError: pooch is not installed.

    >>> FILES["mn04_as"].file_name
    'mn04_as_mAP_432.pt'
    """
    public = _find(name)
    if timeout_seconds <= 0:
        raise ValueError(f"`timeout_seconds` must be above 0, received {timeout_seconds}")
    if attempts < 1:
        raise ValueError(f"`attempts` must be 1 or more, received {attempts}")
    target = cache_folder() / public.file_name
    if from_file is not None:
        return _take(Path(from_file), target, public)
    if target.is_file():
        _check_hash(target, public)
        return target
    base_url = (base_url or public.base_url).rstrip("/") + "/"
    return _download(base_url + quote(public.file_name), target, public, progress, timeout_seconds, attempts)


def _find(name: str) -> PublicFile:
    if name in FILES:
        return FILES[name]
    for public in FILES.values():
        if public.file_name == name:
            return public
    raise ValueError(f"`name` must be one of {', '.join(FILES)}, received {name!r}")


def _take(source: Path, target: Path, public: PublicFile) -> Path:
    if not source.is_file():
        raise FileNotFoundError(f"`from_file`: {source}: no such file")
    _check_hash(source, public)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (target.exists() and target.samefile(source)):
        beside = target.with_name(target.name + ".copying")
        shutil.copyfile(source, beside)
        beside.replace(target)
    return target


def _check_hash(path: Path, public: PublicFile) -> None:
    if public.sha256 is None:
        return
    with path.open("rb") as file:
        received = hashlib.file_digest(file, "sha256").hexdigest()
    if received != public.sha256:
        raise ValueError(f"{path}: SHA-256 {public.sha256} is expected of {public.file_name}, received {received}")


def _download(
    url: str, target: Path, public: PublicFile, progress: bool, timeout_seconds: float, attempts: int
) -> Path:
    try:
        import pooch
    except ImportError as error:
        raise ImportError("downloading needs pooch: pip install 'kerastag[train]', or use --from FILE") from error
    part = target.with_name(target.name + ".part")
    downloader = functools.partial(
        _resumable, part=part, progress=progress, timeout_seconds=timeout_seconds, attempts=attempts
    )
    # The hash is compared here and not by pooch, so that the message names the address.
    log_level = pooch.get_logger().level
    pooch.get_logger().setLevel("ERROR")
    try:
        received = Path(
            pooch.retrieve(
                url,
                known_hash=None,
                fname=target.name + ".unverified",
                path=target.parent,
                downloader=_checked(downloader, url, public),
            )
        )
    finally:
        pooch.get_logger().setLevel(log_level)
    received.replace(target)
    return target


def _checked(download: Callable[..., None], url: str, public: PublicFile) -> Callable[..., None]:
    """A downloader -> one that refuses content with another SHA-256 than the public file's."""

    def checked(address: str, output_file: str, owner: Any) -> None:
        download(address, output_file)
        with Path(output_file).open("rb") as file:
            received = hashlib.file_digest(file, "sha256").hexdigest()
        if public.sha256 not in (None, received):
            raise DownloadError(f"{url}: SHA-256 {public.sha256} is expected, received {received}")

    return checked


def _resumable(
    url: str, output_file: str, *, part: Path, progress: bool, timeout_seconds: float, attempts: int
) -> None:
    """Downloads into `part`, going on after failures, and moves it to `output_file` when it is whole."""
    import requests

    for attempt in range(1, attempts + 1):
        try:
            _receive(url, part, progress, timeout_seconds)
            break
        except (requests.RequestException, _Short) as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            refused = status is not None and 400 <= status < 500 and status not in (408, 429)
            if attempt == attempts or refused:
                raise DownloadError(f"{url}: {_reason(error, status, timeout_seconds)}{_kept(part)}") from error
    shutil.move(part, output_file)
    _validator_of(part).unlink(missing_ok=True)


class _Short(Exception):
    """The connection ended before the announced size."""


def _receive(url: str, part: Path, progress: bool, timeout_seconds: float) -> None:
    import requests
    from tqdm import tqdm

    validator = _validator_of(part)
    have = part.stat().st_size if part.is_file() and validator.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator.read_text()}
    with requests.get(url, headers=headers, stream=True, timeout=timeout_seconds) as response:
        if response.status_code == 416:  # the part is at least as long as the file: begin again
            part.unlink()
            raise _Short("the partial file did not fit the server's")
        response.raise_for_status()
        if response.status_code != 206:
            have = 0
        announced = response.headers.get("Content-Length")
        total = None if announced is None else have + int(announced)
        tag = response.headers.get("ETag", "")
        note = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
        validator.unlink(missing_ok=True)
        if note:
            validator.write_text(note)
        received = have
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress)
        with part.open("ab" if have else "wb") as file, bar:
            for block in response.iter_content(_BLOCK_BYTES):
                file.write(block)
                received += len(block)
                bar.update(len(block))
    if total is not None and received != total:
        raise _Short(f"{total} bytes are expected, received {received}")


def _validator_of(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _reason(error: Exception, status: int | None, timeout_seconds: float) -> str:
    import requests

    if status is not None:
        return f"the server answered {status} {error.response.reason}"  # type: ignore[attr-defined]
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return f"the server was silent for {timeout_seconds:g} s"
    return str(error) or type(error).__name__


def _kept(part: Path) -> str:
    with suppress(OSError):
        if _validator_of(part).is_file():
            return f"; {part.stat().st_size} bytes are kept, the next call goes on from there"
    return ""
