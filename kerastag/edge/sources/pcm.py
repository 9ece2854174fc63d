"""PCM streams: raw bytes as from `arecord`, or with a WAV header."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator

import numpy as np

from kerastag.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE

__all__ = ["BLOCK_SECONDS", "ENCODINGS", "PcmFormat", "read_pcm_blocks"]

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

    Raises:
        ValueError: An argument is out of range.

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


def read_pcm_blocks(
    read: Callable[[int], bytes], raw_format: PcmFormat, name: str, block_seconds: float = BLOCK_SECONDS
) -> Iterator[tuple[int, np.ndarray]]:
    """Read blocks of samples until a stream ends.

    A WAV header at the start of the stream determines the format. An incomplete frame at the end is dropped.

    Args:
        read: Function that takes a number of bytes and returns that many, fewer only at the end.
        raw_format: Format of a stream without a header.
        name: Name of the stream in messages.
        block_seconds: Duration of a block, seconds, above 0.

    Yields:
        Pairs of sample rate in Hz and samples of shape (samples, channels).

    Raises:
        ValueError: The stream begins like a compressed file, or with a WAV header that is not of PCM.

    >>> import io
    >>> [(rate, block.shape) for rate, block in read_pcm_blocks(io.BytesIO(bytes(4_000)).read, PcmFormat(), "pipe")]
    [(16000, (1600, 1)), (16000, (400, 1))]
    """
    prefix = read(12)
    if prefix[:4] == b"RIFF" and prefix[8:] == b"WAVE":
        pcm, remaining, prefix = *_read_wav_header(read, name), b""
    else:
        pcm, remaining = raw_format, None
        _check_raw(prefix, name)
    block_bytes = max(1, round(block_seconds * pcm.sample_rate)) * pcm.frame_bytes
    while remaining is None or remaining > 0:
        size = (block_bytes if remaining is None else min(block_bytes, remaining)) - len(prefix)
        data = prefix + read(max(0, size))
        remaining, prefix = None if remaining is None else remaining - len(data), b""
        if whole := len(data) - len(data) % pcm.frame_bytes:
            yield pcm.sample_rate, pcm.decode(data[:whole])
        if len(data) < block_bytes:
            return


def _read_wav_header(read: Callable[[int], bytes], name: str) -> tuple[PcmFormat, int | None]:
    """Read the chunks before the samples, and return the format and the bytes of samples, None if they are unknown."""
    pcm = None
    while len(chunk := read(8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if kind == b"data":
            if pcm is None:
                break
            return pcm, None if size >= 0x7FFF_0000 or not size else size
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


def _check_raw(prefix: bytes, name: str) -> None:
    for magic, format_name in _OTHER_FORMATS.items():
        if prefix.startswith(magic):
            raise ValueError(
                f"{name}: must be raw PCM or WAV; received: what begins like {format_name}. Decode it first "
                "(ffmpeg -i - -f wav -), or pass it as a file"
            )
