"""Where the sound is in a file, beyond what libsndfile takes from its header.

libsndfile decodes one stream of a file, as long as its header says. A `Section` is a part of a file that libsndfile
takes for a whole file: a link of a chained Ogg file, and the frames of an MP3 or FLAC file after damage or after a
wrong number of frames.
"""

import itertools
import os
import re
import struct
from typing import BinaryIO

from kerastag.audio.mpeg_frames import MPEG_SYNC, count_mpeg_bytes, find_tags_at_end, is_mpeg_chain
from kerastag.audio.section import Section, find_all, read_at

__all__ = ["find_first_section", "find_mpeg_section", "find_next_section"]

_FLAC_HEADER_BYTES = 42  # `fLaC`, the header of STREAMINFO, and STREAMINFO
_FLAC_BACKTRACK_BYTES = 1 << 17  # libFLAC reads ahead
_MAX_MPEG_FRAME_BYTES = 2_881  # of layer 2 of MPEG 2.5
_MAX_CANDIDATES = 20_000  # False ones, in rubbish; a hostile file has millions.
_OGG_MAGIC, _FLAC_MAGIC = re.compile(b"OggS"), re.compile(b"fLaC\0\0\0\x22")
_FLAC_SYNC = re.compile(b"\xff(?=[\xf8\xf9])")


def find_first_section(file: BinaryIO) -> Section:
    """Find the beginning of a file as libsndfile should see it: after a tag, and for Ogg up to the end of a link."""
    start, end = 0, file.seek(0, os.SEEK_END)
    while (tag := read_at(file, start, 10))[:3] == b"ID3" and len(tag) == 10:
        size = (tag[6] & 127) << 21 | (tag[7] & 127) << 14 | (tag[8] & 127) << 7 | tag[9] & 127
        start += 10 + size + (10 if tag[5] & 16 else 0)
    if start >= end:
        return Section(file, 0, end)
    if tag[:4] == b"OggS":
        return _find_ogg_link(file, start, end)
    is_mpeg = bool(count_mpeg_bytes(tag[:4])) or (start > 0 and tag[:4] != b"fLaC")
    return Section(file, start, find_tags_at_end(file, end) if is_mpeg else end, is_mpeg=is_mpeg)


def find_mpeg_section(file: BinaryIO) -> Section | None:
    """Find MPEG frames soon after the beginning of a file that begins in the middle of a frame; None without any."""
    end = file.seek(0, os.SEEK_END)
    for start in find_all(file, MPEG_SYNC, 0, min(end, _MAX_MPEG_FRAME_BYTES)):
        if is_mpeg_chain(file, start, end):
            return Section(file, start, find_tags_at_end(file, end), is_mpeg=True)
    return None


def find_next_section(file: BinaryIO, section: Section, format_name: str, num_frames: int) -> Section | None:
    """Find what can be decoded after a section, of which `num_frames` frames were decoded, to its end or to damage.

    Returns:
        From the next link of an Ogg file on, or from the next frame of an MP3 or FLAC file on; None for other formats
        and at the end.
    """
    end = file.seek(0, os.SEEK_END)
    if format_name == "OGG" and read_at(file, section.end, 4) == b"OggS":
        return _find_ogg_link(file, section.end, end)
    if format_name == "MP3":
        candidates = find_all(file, MPEG_SYNC, max(section.start + 1, section.file_position), section.end)
        for start in itertools.islice(candidates, _MAX_CANDIDATES):
            if is_mpeg_chain(file, start, section.end):
                return Section(file, start, section.end, is_mpeg=True)
    if format_name == "FLAC":
        return _find_flac_section(file, section, section.first_frame + num_frames, end)
    return None


def _find_ogg_link(file: BinaryIO, start: int, end: int) -> Section:
    """Find the link of an Ogg file that begins at a position: up to a page that begins a stream, or to the end."""
    position, has_content, has_end = start, False, False
    while len(head := read_at(file, position, 27 + 255)) >= 27:
        if head[:4] != b"OggS":
            position = next(find_all(file, _OGG_MAGIC, position + 1, end), end)
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
    header = bytearray(read_at(file, magic_start, _FLAC_HEADER_BYTES))
    if len(header) < _FLAC_HEADER_BYTES:
        return None
    block_frames = struct.unpack_from(">H", header, 8)[0]
    header[4] |= 0x80  # No other metadata follows.
    header[21:42] = bytes([header[21] & 0xF0]) + bytes(20)  # neither a length nor a checksum
    search_start = max(section.start + 1, section.file_position - _FLAC_BACKTRACK_BYTES)
    frame_start, number = end, 0
    for start in itertools.islice(find_all(file, _FLAC_SYNC, search_start, end), _MAX_CANDIDATES):
        number, length = _read_flac_frame(read_at(file, start, 16), block_frames, first_frame)
        if number + length > first_frame:
            frame_start = start
            break
    stream_start = next(find_all(file, _FLAC_MAGIC, search_start, frame_start), None)
    if stream_start is not None:
        return Section(file, stream_start, end)
    return Section(file, frame_start, end, bytes(header), first_frame=number) if frame_start < end else None


def _read_flac_frame(head: bytes, block_frames: int, first_frame: int) -> tuple[int, int]:
    """Read the number of the first sample and the number of samples of a FLAC frame; 0 if it is not one.

    The checksum is not computed for a frame that ends before the number `first_frame`.
    """
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
    number = number if head[1] & 1 else number * block_frames
    if number + num_samples <= first_frame:
        return number, num_samples
    checksum = 0
    for byte in head[:length]:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum << 1 & 0xFF ^ (0x07 if checksum & 0x80 else 0)
    if length >= 16 or checksum != head[length]:
        return 0, 0
    return number, num_samples
