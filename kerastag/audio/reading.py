"""Reading audio files as mono waveforms: whole, in blocks, in overlapping windows, or from a stream."""

import contextlib
import dataclasses
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import soxr

from kerastag.audio.channels import CANCELLATION, ChannelMixer, compute_energies
from kerastag.audio.ffmpeg import decode_with_ffmpeg
from kerastag.audio.levels import check_samples, measure_levels
from kerastag.audio.libsndfile import DecodingError, NoSamplesError, decode_with_libsndfile
from kerastag.audio.request import (
    FRAMES_PER_READ,
    Request,
    UnsupportedAudioError,
    check_sample_rate,
    convert_to_samples,
)


class AudioWindow(NamedTuple):
    """One window of a recording.

    Attributes:
        start_seconds: Position of the window in the recording.
        waveform: Samples of the window, `(samples,)`, float32; padded with zeros beyond the end of the recording.
        valid_seconds: Duration of the part that is not padding.
    """

    start_seconds: float
    waveform: np.ndarray
    valid_seconds: float


class NamedPath(os.PathLike[str]):
    """A path of a recording whose name in messages is another one.

    Args:
        path: Path of the file.
        name: Name in messages.

    >>> str(NamedPath("/tmp/stream", "standard input"))
    'standard input'
    """

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        self._path, self._name = os.fspath(path), name

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._name


def load(
    path: str | os.PathLike[str],
    sample_rate: int,
    *,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
    channel: str | int = "mean",
) -> np.ndarray:
    """Load an audio file as a mono waveform.

    A file that is damaged, or shorter or longer than its header says, gives all that can be decoded and an
    `AudioWarning`. Channels that cancel each other in their mean give an `AudioWarning` too. Float files may exceed
    [-1, 1]; they are not clipped. An offset into an Ogg file decodes everything before it.

    Args:
        path: Path of the file, of any format, sample rate and number of channels; its extension does not matter.
        sample_rate: Sample rate of the waveform, 1,000 to 1,000,000 Hz.
        offset_seconds: Position at which to start, at least 0 s.
        duration_seconds: Longest duration to read, at least one sample; None reads to the end.
        channel: What to make of several channels: their `"mean"`; `"left"`, `"right"` or the number of one, from 1; or
            the `"loudest"`, for which the file is decoded twice.

    Returns:
        Waveform `(samples,)`, float32 in [-1, 1].

    Raises:
        FileNotFoundError: There is no such file; also another OSError if it cannot be read.
        ValueError: An argument is out of range; or the file is empty, is not audio, has no samples, a sample rate
            outside the range above, NaN or infinite samples, or 16-bit integers stored as floats.

    >>> import soundfile, tempfile
    >>> from kerastag import audio
    >>> with tempfile.NamedTemporaryFile(suffix=".wav") as file:
    ...     soundfile.write(file, np.zeros((44_100, 2)), 44_100, format="WAV")
    ...     audio.load(file.name, 16_000).shape
    (16000,)
    """
    blocks = read_blocks(
        path, sample_rate, offset_seconds=offset_seconds, duration_seconds=duration_seconds, channel=channel
    )
    return np.concatenate(list(blocks))


def read_blocks(
    path: str | os.PathLike[str],
    sample_rate: int,
    block_seconds: float = 10.0,
    *,
    offset_seconds: float = 0.0,
    duration_seconds: float | None = None,
    channel: str | int = "mean",
) -> Iterator[np.ndarray]:
    """Read an audio file as a mono waveform in blocks, in constant memory.

    Arguments, waveform and errors are those of `load`. Errors of the file are raised while iterating.

    Args:
        path: Path of the file.
        sample_rate: Sample rate of the waveform, Hz.
        block_seconds: Length of a block, at least one sample; the last one may be shorter.
        offset_seconds: Position at which to start, seconds.
        duration_seconds: Longest duration to read, seconds, or None.
        channel: What to make of several channels, as in `load`.
    """
    request = Request(Path(path), str(path), sample_rate, offset_seconds, duration_seconds, channel)
    block_samples = convert_to_samples("block_seconds", block_seconds, sample_rate)
    return _split_into_blocks(_read(request), block_samples)


def read_windows(
    source: str | os.PathLike[str] | np.ndarray | Iterator[np.ndarray],
    sample_rate: int,
    window_seconds: float,
    hop_seconds: float | None = None,
    channel: str | int = "mean",
) -> Iterator[AudioWindow]:
    """Read overlapping windows of one length from an audio file or a waveform, in constant memory.

    Window i starts at sample `i * round(hop_seconds * sample_rate)`. The first window that reaches the end is the last
    one, so every sample is covered where the hop is not longer than the window.

    Args:
        source: Path of an audio file, a float waveform `(samples,)` at `sample_rate`, or an iterator over its blocks.
            Windows may share the memory of these arrays.
        sample_rate: Sample rate of the windows, 1,000 to 1,000,000 Hz.
        window_seconds: Length of a window, at least one sample.
        hop_seconds: Distance from the start of a window to the start of the next, at least one sample; None is
            `window_seconds`.
        channel: What to make of several channels of a file, as in `load`.

    Raises:
        ValueError: An argument is out of range; also for the same reasons as in `load` and `measure_levels`.

    >>> from kerastag import audio
    >>> windows = audio.read_windows(np.zeros(40_000, np.float32), 16_000, window_seconds=1.0)
    >>> [(window.start_seconds, window.valid_seconds) for window in windows]
    [(0.0, 1.0), (1.0, 1.0), (2.0, 0.5)]
    """
    check_sample_rate(sample_rate, "`sample_rate`")
    length = convert_to_samples("window_seconds", window_seconds, sample_rate)
    hop = convert_to_samples("hop_seconds", window_seconds if hop_seconds is None else hop_seconds, sample_rate)
    if isinstance(source, np.ndarray):
        measure_levels(source)
        source = iter([source.astype(np.float32, copy=False)])
    if isinstance(source, Iterator):
        return _split_into_windows(source, sample_rate, length, hop)
    return _split_into_windows(read_blocks(source, sample_rate, channel=channel), sample_rate, length, hop)


@contextlib.contextmanager
def spool_stream(stream: IO[Any] | None) -> Iterator[os.PathLike[str]]:
    """Yield the path of a temporary file with the bytes of a stream that cannot seek, such as `sys.stdin`.

    Most formats cannot be decoded without seeking. As text, and so in messages, the path is `standard input`.

    Args:
        stream: Binary file object, or a text file object over a binary one; None for a closed one.

    Raises:
        ValueError: The stream is None.
    """
    if stream is None:
        raise ValueError("standard input: must be an audio file; received: a closed descriptor")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stream")
        with path.open("wb") as file:
            shutil.copyfileobj(getattr(stream, "buffer", stream), file)
        yield NamedPath(path, "standard input")


def read_stream(stream: IO[Any] | None, sample_rate: int, *, channel: str | int = "mean") -> np.ndarray:
    """Read an audio file from a stream that cannot seek as a mono waveform; `spool_stream` does so in constant memory.

    Waveform and errors are those of `load`; messages call the file `standard input`.

    Args:
        stream: Binary file object, or a text file object over a binary one; None for a closed one.
        sample_rate: Sample rate of the waveform, 1,000 to 1,000,000 Hz.
        channel: What to make of several channels, as in `load`.
    """
    with spool_stream(stream) as path:
        return load(path, sample_rate, channel=channel)


def _split_into_blocks(parts: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    pending: list[np.ndarray] = []
    count = 0
    for part in parts:
        pending.append(part)
        count += len(part)
        if count >= size:
            samples = pending[0] if len(pending) == 1 else np.concatenate(pending)
            end = count - count % size
            if end == count == size:
                yield samples
                pending = []
            else:
                yield from (samples[start : start + size].copy() for start in range(0, end, size))
                pending = [samples[end:]]
            count -= end
    if count:
        yield np.concatenate(pending)


def _split_into_windows(parts: Iterator[np.ndarray], sample_rate: int, length: int, hop: int) -> Iterator[AudioWindow]:
    buffer, start, end = np.zeros(0, np.float32), 0, 0  # buffer[0] is sample `start`, `end` the end of the last window
    total = 0
    for part in parts:
        total += len(part)
        # With a hop longer than the window, the next window may start after the samples so far.
        skipped = 0 if len(buffer) else max(0, start - (total - len(part)))
        buffer = np.concatenate([buffer, part[skipped:]]) if len(buffer) else part[skipped:]
        while len(buffer) >= length:
            window = buffer if len(buffer) == length else buffer[:length].copy()
            yield AudioWindow(start / sample_rate, window, length / sample_rate)
            start, end = start + hop, start + length
            buffer = buffer[hop:]
        buffer = buffer.copy()
    if end < total and len(buffer):
        padded = np.pad(buffer, (0, length - len(buffer)))
        yield AudioWindow(start / sample_rate, padded, len(buffer) / sample_rate)


def _read(request: Request) -> Iterator[np.ndarray]:
    """Yield the requested samples at the requested sample rate, in parts of any length."""
    count = 0
    for part in _resample(_mix_to_mono(request), request.sample_rate):
        part = part if request.max_samples is None else part[: request.max_samples - count]
        count += len(part)
        if len(part):
            yield part
    if not count:
        position = f" after {request.offset_seconds:g} s" if request.offset_seconds else ""
        raise ValueError(f"{request.name}: must have at least one sample; received: none{position}")


def _resample(parts: Iterator[tuple[int, np.ndarray]], sample_rate: int) -> Iterator[np.ndarray]:
    """Resample parts of any sample rates; a chained Ogg file may have several."""
    for file_rate, group in itertools.groupby(parts, key=lambda part: part[0]):
        if file_rate == sample_rate:
            yield from (samples for _, samples in group)
            continue
        resampler = soxr.ResampleStream(file_rate, sample_rate, 1, dtype="float32", quality="HQ")
        yield from (resampler.resample_chunk(samples) for _, samples in group)
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _mix_to_mono(request: Request) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the sample rate of the file and checked mono samples, from the offset on, for at least the duration."""
    mixer = ChannelMixer(_find_loudest_channel(request) if request.channel == "loudest" else request.channel)
    seconds = request.offset_seconds
    for file_rate, block in _decode(request):
        check_sample_rate(file_rate, f"{request.name}: sample rate")
        first, name = round(seconds * file_rate), f"{request.name}: samples"
        if not max(block.max(), -block.min()) < 2:  # Integer samples may be a short part of a block.
            for start in range(0, len(block), FRAMES_PER_READ):
                check_samples(block[start : start + FRAMES_PER_READ], name, first + start, file_rate)
        seconds += len(block) / file_rate
        try:
            mono = mixer.mix(block)
        except ValueError as error:
            raise ValueError(f"{request.name}: {error}") from None
        yield file_rate, mono
    if mixer.has_cancelled:
        request.warn(f"{CANCELLATION} ({100 * mixer.num_cancelled / mixer.num_frames:.0f} % of the time)")


def _find_loudest_channel(request: Request) -> int:
    """Find the number of the channel with the largest energy, from 1, by decoding the file once more."""
    energies = np.zeros(1)
    for _, block in _decode(dataclasses.replace(request, warns=False)):
        if block.shape[1] == 1:
            break
        block_energies = compute_energies(block)
        energies = energies + block_energies if len(energies) == len(block_energies) else block_energies
    return int(energies.argmax()) + 1


def _decode(request: Request) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the sample rate and `(frames, channels)` from the offset on, with libsndfile or else with ffmpeg."""
    try:
        status = request.path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{request.name}: no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{request.name}: must be a regular file; received: a folder, pipe or device")
    if not status.st_size:
        raise UnsupportedAudioError(f"{request.name}: must be audio; received: an empty file")
    try:
        yield from decode_with_libsndfile(request)
        return
    except DecodingError as error:
        failure = error
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is not None:
        yield from decode_with_ffmpeg(request, ffmpeg, str(failure))
        return
    with contextlib.suppress(DecodingError):
        yield from decode_with_libsndfile(request, finds_mpeg=True)
        return
    if isinstance(failure, NoSamplesError):
        raise UnsupportedAudioError(f"{request.name}: must be audio with at least one sample; received: {failure}")
    raise UnsupportedAudioError(
        f"{request.name}: must be audio that libsndfile supports; received: content that it rejects ({failure}). "
        "m4a, webm and video need the program ffmpeg on the PATH: install it (apt install ffmpeg, brew install ffmpeg)"
    )
