"""PCM streams, raw as from `arecord` or with a WAV header, and standard input as a source."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import select
import struct
import sys
import warnings
from collections.abc import Callable, Iterator

import numpy as np

from kerastag.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, AudioWarning
from kerastag.audio.pcm_lengths import is_chunk_name
from kerastag.edge.blocks import Block
from kerastag.edge.clock import read_clock

__all__ = [
    "BLOCK_SECONDS",
    "ENCODINGS",
    "InterruptibleReader",
    "PcmFormat",
    "SourceLostError",
    "StandardInputSource",
    "read_pcm_blocks",
]

BLOCK_SECONDS = 0.1
"""Duration of a block, seconds."""
# By name: bytes per sample, data type, offset, full scale. NumPy has no type of three bytes.
_LAYOUTS: dict[str, tuple[int, str, float, float]] = {
    "U8": (1, "u1", 128.0, 128.0),
    "S16_LE": (2, "<i2", 0.0, 2.0**15),
    "S16_BE": (2, ">i2", 0.0, 2.0**15),
    "S24_3LE": (3, "", 0.0, 2.0**31),
    "S32_LE": (4, "<i4", 0.0, 2.0**31),
    "S32_BE": (4, ">i4", 0.0, 2.0**31),
    "FLOAT_LE": (4, "<f4", 0.0, 1.0),
    "FLOAT_BE": (4, ">f4", 0.0, 1.0),
}
ENCODINGS = tuple(_LAYOUTS)
"""Encodings of a raw stream, named as by `arecord -f`."""

_MAX_CHANNELS = 64
_MAX_HEADER_BYTES = 1 << 20
_WAV_ENCODINGS = {(1, 8): "U8", (1, 16): "S16_LE", (1, 24): "S24_3LE", (1, 32): "S32_LE", (3, 32): "FLOAT_LE"}
_EXTENSIBLE = 0xFFFE
_OTHER_FORMATS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF", b".snd": "AU", b"RF64": "RF64"}


@dataclasses.dataclass(frozen=True)
class PcmFormat:
    """The format of the samples of a raw stream; by default that of `arecord -f S16_LE -r 16000 -c 1 -t raw`.

    Args:
        encoding: Encoding, one of `ENCODINGS`.
        sample_rate: Sample rate, Hz, 1,000 to 1,000,000.
        channels: Number of interleaved channels, 1 to 64.

    >>> PcmFormat("U8", 8_000).decode(bytes([128, 192]))[:, 0].tolist()
    [0.0, 0.5]
    """

    encoding: str = "S16_LE"
    sample_rate: int = 16_000
    channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in _LAYOUTS:
            raise ValueError(f"`encoding` must be one of {', '.join(ENCODINGS)}; received: {self.encoding!r}")
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            allowed = f"from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
            raise ValueError(f"`sample_rate` must be {allowed}; received: {self.sample_rate!r}")
        if not 1 <= self.channels <= _MAX_CHANNELS:
            raise ValueError(f"`channels` must be from 1 to {_MAX_CHANNELS}; received: {self.channels!r}")

    @property
    def frame_bytes(self) -> int:
        """Number of bytes of one sample of every channel."""
        return _LAYOUTS[self.encoding][0] * self.channels

    def decode(self, data: bytes) -> np.ndarray:
        """Convert whole frames of bytes to float32 samples in [-1, 1], of shape (samples, channels)."""
        width, dtype, offset, full_scale = _LAYOUTS[self.encoding]
        if width == 3:
            padded = np.zeros((len(data) // 3, 4), np.uint8)
            padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = padded.view("<i4")[:, 0]
        else:
            values = np.frombuffer(data, dtype)
        return ((values.astype(np.float32) - offset) / np.float32(full_scale)).reshape(-1, self.channels)


def read_pcm_blocks(read: Callable[[int], bytes], raw_format: PcmFormat, name: str, live: bool) -> Iterator[Block]:
    """Yield blocks until a stream ends.

    A WAV header at the start of the stream determines the format; a stream without one has `raw_format`. Samples that
    follow those in a WAV header are read too, with an `AudioWarning`. An incomplete frame at the end is dropped. `read`
    returns the requested number of bytes, fewer only at the end. If `live`, blocks are stamped with the time at which
    they come.

    Raises:
        ValueError: The stream begins like a compressed file, or with a WAV header that is not of PCM or above 1 MiB.
    """
    prefix = read(12)
    pcm, remaining = raw_format, math.inf
    if prefix[:4] == b"RIFF" and prefix[8:] == b"WAVE":
        pcm, remaining, prefix = *_read_wav_header(read, name), b""
    for magic, format_name in _OTHER_FORMATS.items():
        if prefix.startswith(magic):
            raise ValueError(
                f"{name}: must be raw PCM or WAV; received: what begins like {format_name}. Decode it first "
                "(ffmpeg -i - -f wav -), or pass it as a file"
            )
    block_bytes = max(1, round(BLOCK_SECONDS * pcm.sample_rate)) * pcm.frame_bytes
    while True:
        if not remaining:
            prefix = read(8)
            if len(prefix) < 8 or is_chunk_name(prefix[:4]) or is_chunk_name(prefix[1:5]):
                return
            warnings.warn(f"{name}: longer than its WAV header says; using all of it", AudioWarning, stacklevel=2)
            remaining = math.inf
        size = int(min(block_bytes, remaining))
        data = prefix + read(max(0, size - len(prefix)))
        remaining, prefix = remaining - len(data), b""
        if whole := len(data) - len(data) % pcm.frame_bytes:
            samples, rate = pcm.decode(data[:whole]), pcm.sample_rate
            yield Block(samples, rate, read_clock() - len(samples) / rate if live else None)
        if len(data) < size:
            return


def _read_wav_header(read: Callable[[int], bytes], name: str) -> tuple[PcmFormat, float]:
    """Read the chunks before the samples, and return the format and the bytes of samples, infinite if unknown."""
    pcm, header_bytes = None, 0
    while len(chunk := read(8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if kind == b"data":
            if pcm is None:
                break
            return pcm, math.inf if size >= 0x7FFF_0000 or not size else size
        header_bytes += 8 + size
        if header_bytes > _MAX_HEADER_BYTES:
            raise ValueError(
                f"{name}: WAV header: the chunks before the samples must have at most {_MAX_HEADER_BYTES} bytes; "
                f"received: {header_bytes}"
            )
        body = read(size + size % 2)
        if kind == b"fmt ":
            pcm = _parse_wav_format(body, name)
    raise ValueError(f"{name}: the WAV header ends before the samples")


def _parse_wav_format(body: bytes, name: str) -> PcmFormat:
    if len(body) < 16:
        raise ValueError(f"{name}: WAV header: the format chunk must have at least 16 bytes; received: {len(body)}")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = struct.unpack_from("<H", body, 24)[0]
    encoding = _WAV_ENCODINGS.get((tag, bits))
    if encoding is None:
        raise ValueError(
            f"{name}: WAV header: samples must be integers of 8, 16, 24 or 32 bits, or floats of 32 bits; received: "
            f"format {tag} with {bits} bits"
        )
    try:
        return PcmFormat(encoding, rate, channels)
    except ValueError as error:
        raise ValueError(f"{name}: WAV header: {error}") from None


class SourceLostError(OSError):
    """An error for a source that stalled, was unplugged, or ended; its text is the reason."""


class InterruptibleReader:
    """A reader of a file descriptor that another thread can stop, and that detects when nothing comes.

    Closing the reader does not close the descriptor. `timeout_seconds` is the maximum time to wait for the next byte;
    None waits forever.
    """

    def __init__(self, descriptor: int, timeout_seconds: float | None) -> None:
        self._descriptor = descriptor
        self.timeout_seconds = timeout_seconds
        self._wake_reader, self._wake_writer = os.pipe()  # A byte in this pipe ends the waiting.
        self._buffer = bytearray()
        self.stopped = False

    def read(self, size: int) -> bytes:
        """Read `size` bytes, fewer at the end of the stream, and none after `stop`.

        Raises:
            SourceLostError: Nothing came in time; what came before is kept for the next call.
        """
        while len(self._buffer) < size and not self.stopped:
            ready = select.select([self._descriptor, self._wake_reader], [], [], self.timeout_seconds)[0]
            if self._wake_reader in ready:
                break
            if not ready:
                raise SourceLostError(f"nothing came for {self.timeout_seconds:g} s")
            data = os.read(self._descriptor, size - len(self._buffer))
            if not data:
                break
            self._buffer += data
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return b"" if self.stopped else data

    def stop(self) -> None:
        """End the reading; a signal handler or another thread may call this."""
        self.stopped = True
        with contextlib.suppress(OSError):  # The reader is closed already.
            os.write(self._wake_writer, b".")

    def close(self) -> None:
        """Close what the reader itself has opened."""
        if self._wake_reader >= 0:
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            self._wake_reader = self._wake_writer = -1


class StandardInputSource:
    """A source that reads raw PCM or WAV from a pipe.

    If the tagger is too slow, the writer has to wait; `arecord` then loses audio and reports it itself. With `realtime`
    nobody waits: the stream drops the oldest audio and counts it.

    Raises:
        ValueError: The descriptor is a terminal, or closed. While iterating: the bytes are neither PCM nor WAV, or end
            before the first sample.
    """

    name = "standard input"

    def __init__(self, pcm: PcmFormat, *, realtime: bool = False, descriptor: int = 0) -> None:
        # A file that was opened since the start may have the number of a descriptor that was closed.
        if descriptor == 0 and sys.stdin is None:
            raise ValueError("standard input: must be a pipe of raw PCM or WAV; received: a closed descriptor")
        if os.isatty(descriptor):
            raise ValueError("standard input: must be a pipe of raw PCM or WAV; received: a terminal")
        self.live = realtime
        self._pcm = pcm
        self._reader = InterruptibleReader(descriptor, None)

    def __iter__(self) -> Iterator[Block]:
        is_empty = True
        for block in read_pcm_blocks(self._reader.read, self._pcm, self.name, self.live):
            is_empty = False
            yield block
        if is_empty and not self._reader.stopped:
            raise ValueError("standard input: must have at least one sample; received: none")

    def stop(self) -> None:
        self._reader.stop()

    def close(self) -> None:
        """Close the reader; standard input stays open."""
        self._reader.close()
