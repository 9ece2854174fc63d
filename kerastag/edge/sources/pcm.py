"""Bytes of a stream -> blocks of samples: raw PCM as `arecord` gives it, or whatever a WAV header announces."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable, Iterator

import numpy as np

from kerastag.audio import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE

__all__ = ["BLOCK_SECONDS", "ENCODINGS", "PcmFormat", "pcm_blocks"]

BLOCK_SECONDS = 0.1
# Name, as arecord has it -> (bytes a sample, type of a sample, offset, full scale); three bytes have no NumPy type.
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
"""Encodings that a raw stream may have, named as `arecord -f` names them."""

_MAX_CHANNELS = 64
_WAV_ENCODINGS = {(1, 8): "U8", (1, 16): "S16_LE", (1, 24): "S24_3LE", (1, 32): "S32_LE", (3, 32): "FLOAT_LE"}
_EXTENSIBLE = 0xFFFE
_OTHER_FORMATS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"FORM": "AIFF", b".snd": "AU", b"RF64": "RF64"}


@dataclasses.dataclass(frozen=True)
class PcmFormat:
    """How the bytes of a raw stream become samples; the defaults are `arecord -f S16_LE -r 16000 -c 1 -t raw`.

    Args:
        encoding: One of `ENCODINGS`.
        sample_rate: Hz, 1,000 to 1,000,000.
        channels: 1 to 64, interleaved.

    Raises:
        ValueError: An argument is outside its range.

    >>> PcmFormat("U8", 8_000).samples(bytes([128, 192]))[:, 0].tolist()
    [0.0, 0.5]
    """

    encoding: str = "S16_LE"
    sample_rate: int = 16_000
    channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in _LAYOUTS:
            raise ValueError(f"`encoding` must be one of {', '.join(ENCODINGS)}, received {self.encoding!r}")
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            allowed = f"from {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz"
            raise ValueError(f"`sample_rate` must be {allowed}, received {self.sample_rate!r}")
        if not 1 <= self.channels <= _MAX_CHANNELS:
            raise ValueError(f"`channels` must be from 1 to {_MAX_CHANNELS}, received {self.channels!r}")

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return _LAYOUTS[self.encoding][0] * self.channels

    def samples(self, data: bytes) -> np.ndarray:
        """Whole frames of bytes -> float32 samples (samples, channels) in [-1, 1]."""
        width, kind, offset, full_scale = _LAYOUTS[self.encoding]
        if width == 3:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values = wide.view("<i4")[:, 0]
        else:
            values = np.frombuffer(data, kind)
        return ((values.astype(np.float32) - offset) / np.float32(full_scale)).reshape(-1, self.channels)


def pcm_blocks(
    read: Callable[[int], bytes], assumed: PcmFormat, name: str, block_seconds: float = BLOCK_SECONDS
) -> Iterator[tuple[int, np.ndarray]]:
    """A function that reads bytes -> (sample rate, samples (samples, channels)) until the stream ends.

    A stream that begins with a WAV header is what the header says; any other one is raw, as assumed. Half a frame at
    the end is left out.

    Args:
        read: Takes a number of bytes and gives that many, fewer only at the end.
        assumed: Format of a stream without a header.
        name: What messages call the stream.
        block_seconds: Length of a block, above 0.

    Raises:
        ValueError: The stream begins like a compressed file, or with a WAV header that announces no PCM.

    >>> import io
    >>> [(rate, block.shape) for rate, block in pcm_blocks(io.BytesIO(bytes(4_000)).read, PcmFormat(), "here")]
    [(16000, (1600, 1)), (16000, (400, 1))]
    """
    begin = read(12)
    if begin[:4] == b"RIFF" and begin[8:] == b"WAVE":
        layout, left, begin = *_wav_header(read, name), b""
    else:
        layout, left = assumed, None
        _refuse_other_formats(begin, name)
    size = max(1, round(block_seconds * layout.sample_rate)) * layout.frame_bytes
    while left is None or left > 0:
        wanted = (size if left is None else min(size, left)) - len(begin)
        data = begin + read(max(0, wanted))
        left, begin = None if left is None else left - len(data), b""
        if whole := len(data) - len(data) % layout.frame_bytes:
            yield layout.sample_rate, layout.samples(data[:whole])
        if len(data) < size:
            return


def _wav_header(read: Callable[[int], bytes], name: str) -> tuple[PcmFormat, int | None]:
    """The chunks before the samples -> format, and the bytes of samples; None where the writer did not know."""
    layout = None
    while len(chunk := read(8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if kind == b"data":
            if layout is None:
                break
            return layout, None if size >= 0x7FFF_0000 or not size else size
        body = read(size + size % 2)
        if kind == b"fmt ":
            layout = _wav_format(body, name)
    raise ValueError(f"{name}: its WAV header ends before the samples")


def _wav_format(body: bytes, name: str) -> PcmFormat:
    if len(body) < 16:
        raise ValueError(f"{name}: its WAV header has a format chunk of {len(body)} bytes, at least 16 are needed")
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        tag = struct.unpack_from("<H", body, 24)[0]
    encoding = _WAV_ENCODINGS.get((tag, bits))
    if encoding is None:
        raise ValueError(
            f"{name}: its WAV samples must be integers of 8, 16, 24 or 32 bits, or floats of 32, received format {tag} "
            f"of {bits} bits"
        )
    try:
        return PcmFormat(encoding, rate, channels)
    except ValueError as error:
        raise ValueError(f"{name}: its WAV header is none: {error}") from None


def _refuse_other_formats(begin: bytes, name: str) -> None:
    for magic, format_name in _OTHER_FORMATS.items():
        if begin.startswith(magic):
            raise ValueError(
                f"{name}: must be raw PCM or WAV, received what begins like {format_name}; decode it first "
                "(ffmpeg -i - -f wav -), or give it as a file"
            )
