"""Where the sound is in a file, beyond what libsndfile takes from its header.

libsndfile decodes one stream of a file, as long as its header says. A `Section` is a part of a file that libsndfile
takes for a whole file: a link of a chained Ogg file, the frames of an MP3 or FLAC file after damage or after a wrong
number of frames, and the samples of a file with a wrong length, as a recorder leaves it that has lost power.
"""

import io
import itertools
import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

__all__ = [
    "UNKNOWN_FRAMES",
    "PcmLength",
    "Section",
    "find_first_section",
    "find_next_section",
    "is_chunk_name",
    "is_padding",
    "read_pcm_length",
]

UNKNOWN_FRAMES = 1 << 42
"""Least number of frames that stands for an unknown length."""

_BLOCK_BYTES = 1 << 16
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
}
_STREAMED_BYTES = 0x7FFF_0000  # From here on, the length was unknown when the header was written.
_MAX_RIFF_BYTES = 0xFFFF_FF00
_CHUNK_NAME = re.compile(rb"\w[\w .\-]{3}", re.ASCII)
_TRAILERS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN", b"LIST", b"id3 ", b"bext", b"iXML", b"cue ", b"smpl", b"JUNK")

_FLAC_HEADER_BYTES = 42  # `fLaC`, the header of STREAMINFO, and STREAMINFO
_FLAC_BACKTRACK_BYTES = 1 << 17  # libFLAC reads ahead
_MPEG_KBITS = {  # by layer, or by 0 for layers 2 and 3 of MPEG versions 2 and 2.5
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    -1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    0: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = (44_100, 48_000, 32_000)
_MAX_CANDIDATES = 20_000  # False ones, in rubbish; a hostile file has millions.
_MAX_CHUNKS = 1_000
_OGG_MAGIC, _FLAC_MAGIC = re.compile(b"OggS"), re.compile(b"fLaC\0\0\0\x22")
_FLAC_SYNC, _MPEG_SYNC = re.compile(b"\xff(?=[\xf8\xf9])"), re.compile(b"\xff(?=[\xe2-\xff][\x10-\xef])")
_MPEG_CHAIN = 3  # so many consecutive headers are no coincidence


class Section(io.RawIOBase):
    """A part of a file, perhaps with another header before it, as a file of its own without a name.

    Seeking to a position before the beginning, as damaged headers ask for, leaves the position as it is.

    Args:
        file: Unbuffered binary file, which other sections share.
        start: Position of the first byte in the file.
        end: Position after the last byte in the file.
        header: Bytes before those of the file.
        is_mpeg: Whether it holds MPEG frames. Its end then seems to be far away, because libsndfile estimates the
            number of frames from the size and reads no more than that.
        first_frame: Number of the first frame in the stream; 0 at the beginning of a stream.
        is_truncated: Whether it is a link of an Ogg file whose last page is not marked as the last one.
    """

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        end: int,
        header: bytes = b"",
        *,
        is_mpeg: bool = False,
        first_frame: int = 0,
        is_truncated: bool = False,
    ) -> None:
        super().__init__()
        self.start, self.end, self.is_mpeg, self.first_frame = start, end, is_mpeg, first_frame
        self.is_truncated = is_truncated
        self._file, self._header, self._position = file, header, 0

    @property
    def file_position(self) -> int:
        """Position in the file of the next byte that is read."""
        return min(self.end, self.start + max(0, self._position - len(self._header)))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = len(self._header) + self.end - self.start
        if self.is_mpeg:
            end += 16 * UNKNOWN_FRAMES
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: end}[whence]
        if position >= 0:
            self._position = position
        return self._position

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        if self.is_mpeg and self._position > self.end - self.start:  # mpg123 looks for a tag before the seeming end
            count = len(view)
            view[:] = bytes(count)
        elif self._position < len(self._header):
            data = self._header[self._position : self._position + len(view)]
            view[: len(data)] = data
            count = len(data)
        else:
            self._file.seek(self.file_position)
            count = self._file.readinto(view[: self.end - self.file_position]) or 0  # type: ignore[attr-defined]
        self._position += count
        return count


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


def find_first_section(file: BinaryIO) -> Section:
    """Find the beginning of a file as libsndfile should see it: after a tag, and for Ogg up to the end of a link."""
    start, end = 0, file.seek(0, os.SEEK_END)
    while (tag := _read_at(file, start, 10))[:3] == b"ID3" and len(tag) == 10:
        size = (tag[6] & 127) << 21 | (tag[7] & 127) << 14 | (tag[8] & 127) << 7 | tag[9] & 127
        start += 10 + size + (10 if tag[5] & 16 else 0)
    if start >= end:
        return Section(file, 0, end)
    if tag[:4] == b"OggS":
        return _find_ogg_link(file, start, end)
    is_mpeg = bool(_count_mpeg_bytes(tag[:4])) or (start > 0 and tag[:4] != b"fLaC")
    return Section(file, start, _find_tags_at_end(file, end) if is_mpeg else end, is_mpeg=is_mpeg)


def find_next_section(file: BinaryIO, section: Section, format_name: str, num_frames: int) -> Section | None:
    """Find what can be decoded after a section, of which `num_frames` frames were decoded, to its end or to damage.

    Returns:
        From the next link of an Ogg file on, or from the next frame of an MP3 or FLAC file on; None for other formats
        and at the end.
    """
    end = file.seek(0, os.SEEK_END)
    if format_name == "OGG" and _read_at(file, section.end, 4) == b"OggS":
        return _find_ogg_link(file, section.end, end)
    if format_name == "MP3":
        candidates = _find_all(file, _MPEG_SYNC, max(section.start + 1, section.file_position), section.end)
        for start in itertools.islice(candidates, _MAX_CANDIDATES):
            if _is_mpeg_chain(file, start, section.end):
                return Section(file, start, section.end, is_mpeg=True)
    if format_name == "FLAC":
        return _find_flac_section(file, section, section.first_frame + num_frames, end)
    return None


def read_pcm_length(file: BinaryIO, format_name: str, section: Section) -> PcmLength | None:
    """Compare the length in a header with that of the file; None for other formats, and for a stream without a length.

    Args:
        file: File.
        format_name: libsndfile's name of the format.
        section: The file, opened by libsndfile, at its first sample or, for ADPCM, after its first block.
    """
    if format_name not in _LENGTH_FIELDS:
        return None
    offset, field_format, overhead = _LENGTH_FIELDS[format_name]
    # libsndfile may have gone far beyond the end of a damaged file.
    head = _read_at(file, section.start, min(section.tell(), section.end - section.start))
    name = {"AU": b".snd", "AIFF": b"SSND"}.get(format_name, b"data")
    if name not in head or (format_name == "RF64" and head[12:16] != b"ds64"):
        return None
    if format_name == "AU":
        start = struct.unpack_from(">I", head, 4)[0]
    else:
        start = head.rfind(name) + (16 if offset == -12 else 8)
    field = offset if offset > 0 else start + offset
    declared = max(0, struct.unpack_from(field_format, head, field)[0] - overhead)
    available = section.end - section.start - start
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


def is_padding(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether the bytes at the end of a file are no sound: too few, zeros, or a tag."""
    if end - start < _MIN_BYTES_OF_SOUND or _read_at(file, start, 12).startswith(_TRAILERS):
        return True
    file.seek(start)
    return all(not block.strip(b"\0") for block in iter(lambda: file.read(_BLOCK_BYTES), b""))


def is_chunk_name(name: bytes) -> bool:
    """Return whether four bytes may be the name of a chunk, as in WAV and AIFF, and are no samples of sound."""
    return bool(_CHUNK_NAME.fullmatch(name))


def _is_trailer(file: BinaryIO, start: int, end: int, field_format: str, declared: int) -> bool:
    """Return whether chunks, a tag or padding follow the declared samples, and not more samples."""
    byte_order, size_bytes = field_format[0], 8 if field_format == ">Q" else 4
    if declared % 2 and not is_chunk_name(_read_at(file, start, 4)):
        start += 1
    has_chunks = False
    for _ in range(_MAX_CHUNKS):
        head = _read_at(file, start, 4 + size_bytes)
        if len(head) < 4 + size_bytes or not is_chunk_name(head[:4]):
            break
        size = struct.unpack_from(byte_order + ("Q" if size_bytes == 8 else "I"), head, 4)[0]
        if size > end - start - len(head):
            break
        start, has_chunks = start + len(head) + size + size % 2, True
    # A recorder that has lost power may have written silence, and nothing but zeros, after a length of 0.
    return is_padding(file, start, end) and (declared > 0 or has_chunks or end - start < _MIN_BYTES_OF_SOUND)


def _find_tags_at_end(file: BinaryIO, end: int) -> int:
    """Find where the tags ID3v1 and APEv2 at the end of an MPEG file begin, or the end."""
    if _read_at(file, max(0, end - 128), 3) == b"TAG":
        end -= 128
    footer = _read_at(file, max(0, end - 32), 32)
    if footer[:8] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", footer, 12)
        end -= min(size + (32 if flags >> 31 else 0), end)
    return end


def _find_ogg_link(file: BinaryIO, start: int, end: int) -> Section:
    """Find the link of an Ogg file that begins at a position: up to a page that begins a stream, or to the end."""
    position, has_content, has_end = start, False, False
    while len(head := _read_at(file, position, 27 + 255)) >= 27:
        if head[:4] != b"OggS":
            position = next(_find_all(file, _OGG_MAGIC, position + 1, end), end)
            continue
        begins_stream = bool(head[5] & 2)
        if begins_stream and has_content:
            end = position
            break
        has_content, has_end = has_content or not begins_stream, bool(head[5] & 4)
        position += 27 + head[26] + sum(head[27 : 27 + head[26]])
    return Section(file, start, end, is_truncated=not has_end)


def _find_flac_section(file: BinaryIO, section: Section, first_frame: int, end: int) -> Section | None:
    """Find the first frame that does not end before the number `first_frame`, and put a header without length first."""
    magic_start = find_first_section(file).start
    header = bytearray(_read_at(file, magic_start, _FLAC_HEADER_BYTES))
    if len(header) < _FLAC_HEADER_BYTES:
        return None
    block_frames = struct.unpack_from(">H", header, 8)[0]
    header[4] |= 0x80  # No other metadata follows.
    header[21:42] = bytes([header[21] & 0xF0]) + bytes(20)  # neither a length nor a checksum
    search_start = max(section.start + 1, section.file_position - _FLAC_BACKTRACK_BYTES)
    frame_start, number = end, 0
    for start in itertools.islice(_find_all(file, _FLAC_SYNC, search_start, end), _MAX_CANDIDATES):
        number, length = _read_flac_frame(_read_at(file, start, 16), block_frames)
        if number + length > first_frame:
            frame_start = start
            break
    stream_start = next(_find_all(file, _FLAC_MAGIC, search_start, frame_start), None)
    if stream_start is not None:
        return Section(file, stream_start, end)
    return Section(file, frame_start, end, bytes(header), first_frame=number) if frame_start < end else None


def _read_flac_frame(head: bytes, block_frames: int) -> tuple[int, int]:
    """Read the number of the first sample and the number of samples of a FLAC frame; 0 if it is not one."""
    if len(head) < 16 or head[1] & 0xFE != 0xF8 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1:
        return 0, 0
    length = 4 + max(1, 8 - (head[4] ^ 0xFF).bit_length())  # The number is coded like a character in UTF-8.
    number = head[4] & (0x7F if length == 5 else 0x7F >> (length - 4))
    for byte in head[5:length]:
        number = number << 6 | byte & 0x3F
    code = head[2] >> 4
    if code in (6, 7):
        num_samples = int.from_bytes(head[length : length + code - 5]) + 1
        length += code - 5
    else:
        num_samples = 192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8)
    length += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    checksum = 0
    for byte in head[:length]:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum << 1 & 0xFF ^ (0x07 if checksum & 0x80 else 0)
    if length >= 16 or checksum != head[length]:
        return 0, 0
    return number if head[1] & 1 else number * block_frames, num_samples


def _is_mpeg_chain(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether consecutive MPEG frames of the same kind begin at a position, or one that ends with the file."""
    kind = None
    for _ in range(_MPEG_CHAIN):
        head = _read_at(file, start, 4)
        size = _count_mpeg_bytes(head)
        if not size or kind not in (None, (head[1] & 0xFE, head[2] & 0x0C)):
            return False
        kind, start = (head[1] & 0xFE, head[2] & 0x0C), start + size
        if start == end:
            return True
    return True


def _count_mpeg_bytes(head: bytes) -> int:
    """Count the bytes of an MPEG frame, by its header; 0 if it is not one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return 0
    table = _MPEG_KBITS[layer if version == 3 else -1 if layer == 1 else 0]
    bits, hertz = 1000 * table[kbits - 1], _MPEG_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _find_all(file: BinaryIO, pattern: re.Pattern[bytes], start: int, end: int) -> Iterator[int]:
    """Yield the positions of a pattern of at most eight bytes in a part of a file."""
    while start < end:
        block = _read_at(file, start, min(_BLOCK_BYTES, end - start) + 7)
        for match in pattern.finditer(block):
            if match.start() < _BLOCK_BYTES:
                yield start + match.start()
        start += _BLOCK_BYTES


def _read_at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)
