"""Lengths in the headers of uncompressed files, compared with those of the files.

A recorder that has lost power leaves a wrong one.
"""

import re
import struct
from typing import BinaryIO, NamedTuple

from kerastag.audio.section import BLOCK_BYTES, Section, read_at

__all__ = ["PcmLength", "is_chunk_name", "is_padding", "read_pcm_length"]

_MIN_BYTES_OF_SOUND = 128  # fewer unread bytes are not worth a word
# By format: position of the length of the samples in bytes, before the samples where it is negative; its format; and
# how many bytes it counts that are not samples.
_LENGTH_FIELDS = {
    "WAV": (-4, "<I", 0),
    "WAVEX": (-4, "<I", 0),
    "RF64": (28, "<Q", 0),
    "AIFF": (-12, ">I", 8),
    "AU": (8, ">I", 0),
    "CAF": (-12, ">Q", 4),
    "W64": (-8, "<Q", 24),
}
_W64_NAME_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the 16 bytes of the name of a chunk
_STREAMED_BYTES = 0x7FFF_0000  # From here on, the length was unknown when the header was written.
_STREAMED_W64_BYTES = 1 << 62
_MAX_RIFF_BYTES = 0xFFFF_FF00
_CHUNK_NAME = re.compile(rb"\w[\w .\-]{3}", re.ASCII)
_TRAILERS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"LIST", b"id3 ", b"bext", b"iXML", b"cue ", b"smpl", b"JUNK")

_MAX_CHUNKS = 1_000


class PcmLength(NamedTuple):
    """Length of the samples of a file with a header, in bytes.

    Attributes:
        declared: Length in the header.
        available: Length of what is in the file from the first sample on, up to the end or a known trailer.
        section: The file with the right length in its header, if it was less.
    """

    declared: int
    available: int
    section: Section | None


def read_pcm_length(file: BinaryIO, format_name: str, section: Section) -> PcmLength | None:
    """Compare the length in a header with that of the file.

    The result is None for other formats, for a stream without a length, and where the header is incomplete.

    Args:
        file: File.
        format_name: libsndfile's name of the format.
        section: The file, opened by libsndfile, at its first sample or, for ADPCM, after its first block.
    """
    if format_name not in _LENGTH_FIELDS:
        return None
    offset, field_format, overhead = _LENGTH_FIELDS[format_name]
    # libsndfile may have gone far beyond the end of a damaged file.
    head = read_at(file, section.start, min(section.tell(), section.end - section.start))
    name = {"AU": b".snd", "AIFF": b"SSND"}.get(format_name, b"data")
    if format_name == "W64":
        name += _W64_NAME_END
    if name not in head or (format_name == "RF64" and head[12:16] != b"ds64"):
        return None
    if format_name == "AU":
        start = int.from_bytes(head[4:8], "big")
    else:
        start = head.rfind(name) + {-12: 16, -8: 24}.get(offset, 8)
    field = offset if offset > 0 else start + offset
    if field + struct.calcsize(field_format) > len(head):
        return None
    declared = max(0, struct.unpack_from(field_format, head, field)[0] - overhead)
    available = section.end - section.start - start
    if format_name == "W64":
        if declared >= _STREAMED_W64_BYTES:
            return None
        sound_end = section.start + start + declared
        if 0 < declared < available and _is_w64_trailer(file, sound_end, section.end):
            # libsndfile would take all up to the end of the file as samples.
            return PcmLength(declared, declared, Section(file, section.start, sound_end))
        if declared >= available:
            return PcmLength(declared, available, None)
    is_streamed = field_format[1] == "I" and declared >= _STREAMED_BYTES
    if is_streamed and available <= _MAX_RIFF_BYTES:
        return None
    if not is_streamed:
        sound_end = section.start + start + declared
        if declared >= available or _is_trailer(file, sound_end, section.end, field_format, declared):
            return PcmLength(declared, available, None)
    head = head[:start]
    if format_name in ("WAV", "WAVEX") and available > _MAX_RIFF_BYTES:
        sizes = struct.pack("<4sIQQQI", b"ds64", 28, available + start, available, 0, 0)
        head = b"RF64\xff\xff\xff\xffWAVE" + sizes + head[12:-4] + b"\xff\xff\xff\xff"
    else:
        limit = 256 ** struct.calcsize(field_format) - 1
        length = struct.pack(field_format, min(available + overhead, limit))
        head = head[:field] + length + head[field + len(length) :]
    return PcmLength(declared, available, Section(file, section.start + start, section.end, head))


def _is_w64_trailer(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether chunks or padding follow the declared samples of a W64 file, and not more samples."""
    start += -start % 8
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, start, 24)
        size = int.from_bytes(head[16:], "little")
        if head[4:16] != _W64_NAME_END or not 24 <= size <= end - start:
            break
        start += size + -size % 8
    return is_padding(file, start, end)


def is_padding(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether the bytes at the end of a file are no sound: too few, zeros, or a tag."""
    if end - start < _MIN_BYTES_OF_SOUND or read_at(file, start, 12).startswith(_TRAILERS):
        return True
    file.seek(start)
    return all(not block.strip(b"\0") for block in iter(lambda: file.read(BLOCK_BYTES), b""))


def is_chunk_name(name: bytes) -> bool:
    """Return whether four bytes may be the name of a chunk, as in WAV and AIFF, and are no samples of sound."""
    return bool(_CHUNK_NAME.fullmatch(name))


def _is_trailer(file: BinaryIO, start: int, end: int, field_format: str, declared: int) -> bool:
    """Return whether chunks, a tag or padding follow the declared samples, and not more samples."""
    byte_order, size_bytes = field_format[0], 8 if field_format == ">Q" else 4
    if declared % 2 and not is_chunk_name(read_at(file, start, 4)):
        start += 1
    has_chunks = False
    for _ in range(_MAX_CHUNKS):
        head = read_at(file, start, 4 + size_bytes)
        if len(head) < 4 + size_bytes or not is_chunk_name(head[:4]):
            break
        size = struct.unpack_from(byte_order + ("Q" if size_bytes == 8 else "I"), head, 4)[0]
        if size > end - start - len(head):
            break
        start, has_chunks = start + len(head) + size + size % 2, True
    # A recorder that has lost power may have written silence, and nothing but zeros, after a length of 0.
    return is_padding(file, start, end) and (declared > 0 or has_chunks or end - start < _MIN_BYTES_OF_SOUND)
