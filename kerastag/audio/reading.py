"""A file -> its waveform at the rate that is asked for: whole, in blocks, or from a stream."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import soxr

from kerastag.audio.native import native_blocks
from kerastag.audio.request import Request, whole_samples


def load(
    path: str | os.PathLike[str],
    sample_rate: int,
    *,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> np.ndarray:
    """Audio file -> mono waveform (samples,), float32 in [-1, 1], at `sample_rate`.

    The samples are those of `blocks`, joined. Float files may exceed [-1, 1]; they are not clipped.

    Args:
        path: the file, of any format, rate and number of channels; its extension does not matter.
        sample_rate: of the waveform, in Hz, 1,000 to 1,000,000.
        offset_seconds: where to start, at least 0.
        duration_seconds: how much to read at most; None reads to the end.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the file cannot be read.
        ValueError: an argument is out of range; or the file is empty, not audio, has no samples, a sample rate outside
            the range above, NaN or infinite samples, or samples that are no waveform (16-bit integers stored as float).

    A file that ends before its header says, or that is damaged, gives what can be read and an `AudioWarning`. An offset
    into an Ogg file decodes what is before it.

    >>> import soundfile, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".wav") as file:
    ...     soundfile.write(file, np.zeros((44_100, 2)), 44_100, format="WAV")
    ...     load(file.name, 16_000).shape
    (16000,)
    """
    return np.concatenate(
        list(
            blocks(
                path, sample_rate, block_seconds=10.0, offset_seconds=offset_seconds, duration_seconds=duration_seconds
            )
        )
    )


def blocks(
    path: str | os.PathLike[str],
    sample_rate: int,
    block_seconds: float = 10.0,
    *,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
) -> Iterator[np.ndarray]:
    """Audio file -> its waveform in blocks of `block_seconds`, the last one shorter; memory does not grow with length.

    Arguments and errors are those of `load`; what is wrong with the file is raised while iterating.

    Args:
        path, sample_rate, offset_seconds, duration_seconds: as for `load`.
        block_seconds: length of a block, at least one sample.
    """
    return _blocks(Request(Path(path), os.fspath(path), sample_rate, offset_seconds, duration_seconds), block_seconds)


def read_stream(stream: IO[Any], sample_rate: int) -> np.ndarray:
    """Bytes of an audio file from a stream that cannot seek, such as `sys.stdin` -> waveform, as `load` gives it.

    The bytes go to a temporary file first, because most formats cannot be decoded without seeking.

    Args:
        stream: binary file object, or a text one over a binary one.
        sample_rate: as for `load`.

    Raises:
        ValueError: as for `load`; messages speak of standard input.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stream")
        with path.open("wb") as file:
            shutil.copyfileobj(getattr(stream, "buffer", stream), file)
        return np.concatenate(list(_blocks(Request(path, "standard input", sample_rate), 10.0)))


def _blocks(request: Request, block_seconds: float) -> Iterator[np.ndarray]:
    size = whole_samples("block_seconds", block_seconds, request.sample_rate)
    return _cut(_resampled(request), size)


def _cut(parts: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    waiting: list[np.ndarray] = []
    count = 0
    for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= size:
            joined = np.concatenate(waiting)
            whole = count - count % size
            yield from (joined[start : start + size].copy() for start in range(0, whole, size))
            waiting, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)


def _resampled(request: Request) -> Iterator[np.ndarray]:
    """The requested part of a file at the requested rate, in pieces of no particular length."""
    given = 0
    for part in _at_rate(native_blocks(request), request.sample_rate):
        part = part if request.wanted is None else part[: request.wanted - given]
        given += len(part)
        if len(part):
            yield part
    if not given:
        beyond = f" after {request.offset_seconds:g} s" if request.offset_seconds else ""
        raise ValueError(f"{request.name}: must have at least one sample. Received: none{beyond}")


def _at_rate(parts: Iterator[tuple[int, np.ndarray]], sample_rate: int) -> Iterator[np.ndarray]:
    resampler = None
    for rate, part in parts:
        if rate == sample_rate:
            yield part
            continue
        resampler = resampler or soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        yield resampler.resample_chunk(part)
    if resampler:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
