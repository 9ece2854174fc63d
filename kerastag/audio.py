"""Any audio file -> float32 mono waveform at a chosen rate; windows over files of any length in constant memory.

libsndfile decodes WAV, FLAC, Ogg (Vorbis, Opus), MP3 and more; the `ffmpeg` program, where it is installed, the rest
(m4a, webm, video). The content decides, never the extension. Channels are averaged; soxr resamples.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import re
import shutil
import stat
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import soundfile
import soxr

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 1_000_000
MAX_PEAK = 32.0  # 30 dB above full scale: no recording is that loud, 16-bit data read as float nearly always is

_FRAMES_A_READ = 1 << 13  # what is lost before a damage in the file: libsndfile drops the whole read
_SHORT_SECONDS = 0.05  # an MP3's header may be a frame off; what lacks more than this is truncated
# Containers of sound. Playlists, image sequences and scripts, which make ffmpeg open other files, are not among them.
_FFMPEG_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,aac,ac3,eac3,amr,ape,wv,tta,ogg,mp3,wav,w64,flac,"
    "aiff,au,caf"
)
_AU_FLOAT32 = 6
_MAX_OGG_PAGE = 65_307
_MP3_REACH = 16 * 1152


class AudioWarning(UserWarning):
    """A file is shorter than its header promises, or damaged: what could be read of it is used."""


class Window(NamedTuple):
    """One window over a recording: where it starts, its samples, and how many seconds of them are not padding."""

    start_seconds: float
    waveform: np.ndarray
    valid_seconds: float


@dataclasses.dataclass(frozen=True)
class Levels:
    """What `check` measures of a waveform: peak, root mean square, mean (DC), and the clipped share of its samples."""

    peak: float
    rms: float
    mean: float
    clipped: float

    @property
    def silent(self) -> bool:
        """Whether nothing but a constant is there (below -100 dB of full scale)."""
        return self.rms**2 - self.mean**2 < 1e-10

    @property
    def remarks(self) -> tuple[str, ...]:
        """One line for each thing that a listener would want to know."""
        found = (
            (self.silent, "silent"),
            (abs(self.mean) > 0.05, f"DC offset of {self.mean:.3f}"),
            (self.clipped > 0.001, f"{100 * self.clipped:.1f} % of the samples are clipped"),
            (self.peak > 1, f"peak {self.peak:.2f} is beyond full scale"),
        )
        return tuple(line for holds, line in found if holds)


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

    >>> import tempfile
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
    return _blocks(_Request(Path(path), os.fspath(path), sample_rate, offset_seconds, duration_seconds), block_seconds)


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
        return np.concatenate(list(_blocks(_Request(path, "standard input", sample_rate), 10.0)))


def windows(
    source: str | os.PathLike[str] | np.ndarray,
    sample_rate: int,
    window_seconds: float,
    hop_seconds: float | None = None,
) -> Iterator[Window]:
    """Audio file or waveform -> overlapping windows of one length, the last one padded with zeros.

    Window i starts at sample `i * round(hop_seconds * sample_rate)`; the first one to reach the end is the last, so
    every sample is covered where the hop is not longer than the window. Memory does not grow with the length.

    Args:
        source: a file, or a float waveform (samples,) at `sample_rate`.
        sample_rate: in Hz, as for `load`.
        window_seconds: length of a window, at least one sample.
        hop_seconds: from the start of one window to the next, at least one sample; None is `window_seconds`.

    Raises:
        ValueError: an argument is out of range; and all that `load` raises for a file, `check` for a waveform.

    >>> [(w.start_seconds, w.valid_seconds) for w in windows(np.zeros(40_000, np.float32), 16_000, 1.0, 1.0)]
    [(0.0, 1.0), (1.0, 1.0), (2.0, 0.5)]
    """
    _check_rate(sample_rate, "`sample_rate`")
    length = _samples("window_seconds", window_seconds, sample_rate)
    hop = _samples("hop_seconds", window_seconds if hop_seconds is None else hop_seconds, sample_rate)
    if isinstance(source, np.ndarray):
        check(source)
        return _windows(iter([source.astype(np.float32, copy=False)]), sample_rate, length, hop)
    return _windows(blocks(source, sample_rate), sample_rate, length, hop)


def check(waveform: np.ndarray) -> Levels:
    """Waveform (samples,) -> its levels, or an error where it is none.

    Silence, clipping and DC are no errors: `Levels.remarks` names them.

    Args:
        waveform: float samples, nominally in [-1, 1].

    Raises:
        ValueError: the array is not float, has other than one axis or no samples; or samples are NaN or infinite, or
            integers or so large that 16-bit data was read as float.

    >>> check(np.full(16_000, 0.25, np.float32)).remarks
    ('silent', 'DC offset of 0.250')
    """
    if not isinstance(waveform, np.ndarray) or waveform.dtype.kind != "f":
        kind = waveform.dtype if isinstance(waveform, np.ndarray) else type(waveform).__name__
        hint = "; divide 16-bit samples by 32768" if "int" in str(kind) else ""
        raise ValueError(f"`waveform` must be an array of float samples in [-1, 1]{hint}. Received: {kind}")
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"`waveform` must have shape (samples,), at least one. Received: {waveform.shape}")
    _check_samples(waveform[:, None], "`waveform`")
    wide = waveform.astype(np.float64)
    return Levels(
        peak=float(np.abs(wide).max()),
        rms=math.sqrt(np.mean(wide**2)),
        mean=float(wide.mean()),
        clipped=float(np.mean(np.abs(wide) >= 1 - 2**-14)),
    )


@dataclasses.dataclass(frozen=True)
class _Request:
    """One reading of a file: what `blocks` was asked for, and the name that messages give the file."""

    path: Path
    name: str
    sample_rate: int
    offset_seconds: float = 0.0
    duration_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_rate(self.sample_rate, "`sample_rate`")
        if not 0 <= self.offset_seconds < math.inf:
            raise ValueError(f"`offset_seconds` must be at least 0. Received: {self.offset_seconds}")
        if self.duration_seconds is not None:
            _samples("duration_seconds", self.duration_seconds, self.sample_rate)

    @property
    def wanted(self) -> int | None:
        """Samples at most, at the requested rate."""
        return None if self.duration_seconds is None else round(self.duration_seconds * self.sample_rate)

    def native_frames(self, rate: int) -> int | None:
        """Frames at most, at the file's rate: one target sample more, so that rounding never shortens the result."""
        if self.duration_seconds is None:
            return None
        if rate == self.sample_rate:
            return self.wanted
        return math.ceil(self.duration_seconds * rate) + math.ceil(rate / self.sample_rate)


class _Nameless(io.FileIO):
    """A file by its number, so that soundfile cannot judge by the extension; a header's absurd offset goes nowhere."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except OSError:  # before the beginning: libsndfile sees that it is not where it wanted to be
            return self.tell()


class _Forward(soundfile.SoundFile):
    """A sound file that is read from front to back: soundfile otherwise seeks after each read, and MP3 goes mute."""

    def seekable(self) -> bool:
        return False


class _CannotDecode(Exception):
    """libsndfile does not know the content, or finds no sample in it."""


def _check_rate(rate: float, what: str) -> None:
    if not MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE or rate != int(rate):
        raise ValueError(f"{what} must be an integer from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz. Received: {rate}")


def _samples(name: str, seconds: float, sample_rate: int) -> int:
    samples = round(seconds * sample_rate) if math.isfinite(seconds) else 0
    if samples < 1:
        raise ValueError(f"`{name}` must be at least one sample, 1/{sample_rate} s. Received: {seconds}")
    return samples


def _check_samples(block: np.ndarray, name: str, first: int = 0, rate: int | None = None) -> None:
    """Refuse (frames, channels) samples that are no waveform, with the place of the first of them."""
    peaks = np.abs(block).max(axis=1)
    peak = float(peaks.max())
    if not math.isfinite(peak):
        fault, received = "finite", "NaN or infinity"
        index = int(np.flatnonzero(~np.isfinite(peaks))[0])
    elif peak > MAX_PEAK or (peak >= 2 and np.array_equal(block, np.rint(block))):
        fault, received = "in [-1, 1] (divide 16-bit integers by 32768)", f"{peak:g}"
        index = int(peaks.argmax())
    else:
        return
    place = f"sample {index}" if rate is None else f"{(first + index) / rate:.4f} s"
    raise ValueError(f"{name}: samples must be {fault}. Received: {received} at {place}")


def _windows(parts: Iterator[np.ndarray], sample_rate: int, length: int, hop: int) -> Iterator[Window]:
    buffer, start, end = np.zeros(0, np.float32), 0, 0  # buffer[0] is sample `start`, `end` the end of the last window
    total = 0
    for part in parts:
        total += len(part)
        # A hop beyond the window may start after the samples so far: they are dropped as they come.
        skip = 0 if len(buffer) else max(0, start - (total - len(part)))
        buffer = np.concatenate([buffer, part[skip:]])
        while len(buffer) >= length:
            yield Window(start / sample_rate, buffer[:length].copy(), length / sample_rate)
            start, end = start + hop, start + length
            buffer = buffer[hop:]
        buffer = buffer.copy()
    if end < total and len(buffer):
        padded = np.pad(buffer, (0, length - len(buffer)))
        yield Window(start / sample_rate, padded, len(buffer) / sample_rate)


def _blocks(request: _Request, block_seconds: float) -> Iterator[np.ndarray]:
    size = _samples("block_seconds", block_seconds, request.sample_rate)
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


def _resampled(request: _Request) -> Iterator[np.ndarray]:
    """The requested part of a file at the requested rate, in pieces of no particular length."""
    given = 0
    for part in _at_rate(_native(request), request.sample_rate):
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


def _native(request: _Request) -> Iterator[tuple[int, np.ndarray]]:
    """(sample rate, mono samples) at the file's own rate, from the offset on, for at least the duration."""
    taken = 0
    for rate, block in _decoded(request):
        if not taken:
            _check_rate(rate, f"{request.name}: its sample rate")
        wanted = request.native_frames(rate)
        block = block if wanted is None else block[: wanted - taken]
        _check_samples(block, request.name, round(request.offset_seconds * rate) + taken, rate)
        taken += len(block)
        yield rate, block.mean(axis=1, dtype=np.float32)
        if taken == wanted:
            return


def _decoded(request: _Request) -> Iterator[tuple[int, np.ndarray]]:
    """(sample rate, (frames, channels) float32) from the offset on, by libsndfile, or else by ffmpeg."""
    try:
        status = request.path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{request.name}: there is no such file") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{request.name}: must be a regular file. Received: a folder, pipe or device")
    if not status.st_size:
        raise ValueError(f"{request.name}: must be audio. Received: an empty file")
    try:
        yield from _by_libsndfile(request)
        return
    except _CannotDecode as error:
        reason = str(error)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise ValueError(
            f"{request.name}: must be audio that libsndfile reads. Received: content of which it says: {reason}. m4a, "
            "webm and video need the program ffmpeg on the PATH: install it (apt install ffmpeg, brew install ffmpeg)"
        )
    yield from _by_ffmpeg(request, ffmpeg, reason)


def _by_libsndfile(request: _Request) -> Iterator[tuple[int, np.ndarray]]:
    with request.path.open("rb") as opened, _Nameless(opened.fileno(), "rb", closefd=False) as nameless:
        promised = _wav_frames(nameless)
        try:
            file = _Forward(nameless)
        except soundfile.LibsndfileError as error:
            # libsndfile says so of an MP3 without a whole frame, although the file is open by now.
            missing = "does not exist" in error.error_string
            raise _CannotDecode("no whole frame in it" if missing else error.error_string.rstrip(".")) from None
        with file:
            if not file.frames:
                raise _CannotDecode("no samples in it")
            start = round(request.offset_seconds * file.samplerate)
            got = 0
            for block in _read_blocks(file, start, request.native_frames(file.samplerate)):
                got += len(block)
                yield file.samplerate, block
            if not got and start < file.frames:
                raise _CannotDecode("damaged before the first sample")
            _warn_if_short(request.name, start + got, max(promised, file.frames), file.samplerate)
            if file.format == "OGG" and not _ogg_is_complete(nameless):
                _warn(
                    request.name,
                    f"truncated: its stream has no end; the {(start + got) / file.samplerate:.2f} s before",
                )


def _read_blocks(file: soundfile.SoundFile, start: int, wanted: int | None) -> Iterator[np.ndarray]:
    """Blocks (frames, channels) from frame `start` until the end or the first damage."""
    # After a seek an MP3 is mute until the frames that it refers back to have passed, and an Ogg may be somewhere else
    # (libsndfile 1.2.2, in a file's last page): start that much earlier, or at the beginning.
    early = min(start, {"MP3": _MP3_REACH, "OGG": start}.get(file.format, 0))
    with contextlib.suppress(soundfile.LibsndfileError):  # what is missing at the end is counted by the caller
        if start > early:
            file.seek(min(start, file.frames) - early)
        size = _FRAMES_A_READ if wanted is None or early else min(_FRAMES_A_READ, wanted)
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            dropped = min(early, len(block))
            early -= dropped
            if dropped < len(block):
                yield block[dropped:]


def _warn(name: str, fault: str) -> None:
    warnings.warn(f"{name}: {fault} that could be read are used", AudioWarning, stacklevel=2)


def _warn_if_short(name: str, frames: int, promised: int, rate: int) -> None:
    if promised - frames > _SHORT_SECONDS * rate:
        _warn(name, f"truncated or damaged: {frames / rate:.2f} s of the {promised / rate:.2f} s in its header")


def _ogg_is_complete(file: IO[bytes]) -> bool:
    """Whether the last page of an Ogg file is marked as the end of its stream."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MAX_OGG_PAGE))
    _, page, rest = file.read().rpartition(b"OggS")
    return bool(page and len(rest) > 1 and rest[1] & 4)


def _wav_frames(file: IO[bytes]) -> int:
    """Frames that a WAV header promises, which libsndfile cuts to what is there; 0 where it promises none."""
    frame_bytes = 0
    if (header := file.read(12))[:4] == b"RIFF" and header[8:] == b"WAVE":
        while len(chunk := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", chunk)
            if name == b"data":
                file.seek(0)
                streamed = size >= 0x7FFF_0000  # the length was not known when the header was written
                return 0 if streamed or not frame_bytes else size // frame_bytes
            body = file.read(min(size, 16))
            if name == b"fmt " and len(body) >= 14:
                frame_bytes = struct.unpack_from("<H", body, 12)[0]
            file.seek(size - len(body) + size % 2, os.SEEK_CUR)
    file.seek(0)
    return 0


def _by_ffmpeg(request: _Request, ffmpeg: str, reason: str) -> Iterator[tuple[int, np.ndarray]]:
    """First audio stream -> Sun AU of 32-bit floats through a pipe: its header tells rate and channels."""
    limits = ["-protocol_whitelist", "file,pipe", "-format_whitelist", _FFMPEG_FORMATS]
    output = ["-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    command = [ffmpeg, "-v", "error", "-nostdin", *limits, "-i", f"file:{request.path}", *output]
    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process:
            assert process.stdout is not None  # for the type checker: it is a pipe
            try:
                read = yield from _au_blocks(process.stdout, request.offset_seconds)
            finally:
                process.kill()  # who stops early does not wait for the rest; after the end this does nothing
        log_size = log.tell()
        log.seek(0)
        complaint = log.read(10_000).decode(errors="replace").strip().splitlines() or ["no samples in it"]
    said = re.sub(r"^\[.*?\] |file:", "", complaint[0]).replace(str(request.path), request.name)
    if not read:
        raise ValueError(
            f"{request.name}: must be audio with at least one sample. Received: content that neither libsndfile "
            f"({reason}) nor ffmpeg ({said}) can decode"
        )
    if log_size:
        _warn(request.name, f"damaged, ffmpeg says: {said}; the samples")


def _au_blocks(pipe: IO[bytes], offset_seconds: float) -> Generator[tuple[int, np.ndarray], None, bool]:
    """Yield (sample rate, (frames, channels)) from the offset on; return whether there was any sample at all."""
    header = pipe.read(24)
    if len(header) < 24:
        return False
    magic, data_start, _, encoding, rate, channels = struct.unpack(">4s5I", header)
    if magic != b".snd" or encoding != _AU_FLOAT32 or not channels:
        return False
    pipe.read(data_start - 24)
    skip, any_read = round(offset_seconds * rate), False
    frame_bytes = 4 * channels
    while data := pipe.read(_FRAMES_A_READ * frame_bytes):
        whole = data[: len(data) - len(data) % frame_bytes]
        block = np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, channels)
        any_read = any_read or len(block) > 0
        dropped = min(skip, len(block))
        skip -= dropped
        if len(block) > dropped:
            yield rate, block[dropped:]
    return any_read
