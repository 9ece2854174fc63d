"""The samples of many recordings in order, decoded in a thread while the model processes the previous ones."""

from __future__ import annotations

import contextlib
import os
import queue
import tempfile
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import soundfile

from kerastag import audio
from kerastag.archive.failures import ChangedFileError
from kerastag.archive.remote import download, is_url

__all__ = ["DecodingEnd", "DecodingError", "ListedFile", "PassEnd", "prefetch", "read_recordings"]

_T = TypeVar("_T")


class ListedFile(NamedTuple):
    """A row of the manifest."""

    path: str
    size: int | None
    modified_ns: int | None
    problem: str | None


class PassEnd(NamedTuple):
    """The end of one pass over the samples of a recording."""


class DecodingEnd(NamedTuple):
    """The end of a recording, with its sample rate in Hz, 0 if it is unknown, and warnings about it."""

    sample_rate: int
    warnings: tuple[str, ...]


class DecodingError(NamedTuple):
    """The end of a recording that cannot be read, with the stage and the error."""

    stage: str
    error: BaseException


Item = np.ndarray | PassEnd | DecodingEnd | DecodingError
"""A part of a recording: a block of samples, or an end."""


def read_recordings(
    files: Sequence[ListedFile], base: str, sample_rate: int, channel: str | int, num_passes: int
) -> Iterator[tuple[int, Item]]:
    """Yield the parts of each recording with its number, from 0.

    Args:
        files: Recordings.
        base: Folder to which relative paths refer.
        sample_rate: Sample rate of the blocks, Hz.
        channel: What to make of several channels, as in `kerastag.audio.load`.
        num_passes: How many times the samples of a recording are decoded, each followed by a `PassEnd`.
    """
    for number, file in enumerate(files):
        stage, messages = "list", list[str]()
        try:
            if file.problem is not None:
                raise OSError(file.problem)
            stage = "read"
            with _open(file, base) as source, _collect_warnings(messages):
                stage = "decode"
                for _ in range(num_passes):
                    for block in audio.read_blocks(source, sample_rate, channel=channel):
                        yield number, block
                    yield number, PassEnd()
                file_rate = _read_sample_rate(source)
        except Exception as error:  # One recording never ends the others.
            yield number, DecodingError(stage, error)
        else:
            texts = (message.removeprefix(f"{file.path}: ") for message in messages)
            yield number, DecodingEnd(file_rate, tuple(dict.fromkeys(texts)))


def prefetch(items: Iterable[_T], size: int) -> Iterator[_T]:
    """Yield items that a thread computes up to `size` of them ahead."""
    results: queue.Queue[Any] = queue.Queue(size)

    def run() -> None:
        try:
            for item in items:
                results.put((item, None))
        except BaseException as error:  # including MemoryError, for the other thread
            results.put((None, error))
        else:
            results.put(None)

    threading.Thread(target=run, daemon=True).start()
    while (result := results.get()) is not None:
        item, error = result
        if error is not None:
            raise error
        yield item


@contextlib.contextmanager
def _open(file: ListedFile, base: str) -> Iterator[audio.NamedPath]:
    """Yield a local file with the content that was listed; in messages, its name is that of the manifest."""
    if is_url(file.path):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "recording")
            download(file.path, path)
            if file.size not in (None, path.stat().st_size):
                raise ChangedFileError("changed after it was listed")
            yield audio.NamedPath(path, file.path)
        return
    path = Path(base, file.path)
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) != (file.size, file.modified_ns):
        raise ChangedFileError("changed after it was listed")
    yield audio.NamedPath(path, file.path)


@contextlib.contextmanager
def _collect_warnings(messages: list[str]) -> Iterator[None]:
    """Append the warnings about a recording to a list; only one thread of the process reads recordings."""
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always", audio.AudioWarning)
        yield
    messages += [str(record.message) for record in records if issubclass(record.category, audio.AudioWarning)]


def _read_sample_rate(source: audio.NamedPath) -> int:
    with contextlib.suppress(soundfile.SoundFileError, OSError):
        return int(soundfile.info(os.fspath(source)).samplerate)
    return 0
