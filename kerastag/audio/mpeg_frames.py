"""Frames of MPEG audio, such as MP3, and the tags after them."""

import re
import struct
from typing import BinaryIO

from kerastag.audio.section import read_at

__all__ = ["MPEG_SYNC", "count_mpeg_bytes", "find_tags_at_end", "is_mpeg_chain"]

MPEG_SYNC = re.compile(b"\xff(?=[\xe2-\xff][\x10-\xef])")
"""Beginning of a frame, and of much else."""

_MPEG_KBITS = {  # by layer, or by 0 for layers 2 and 3 of MPEG versions 2 and 2.5
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    -1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    0: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = (44_100, 48_000, 32_000)
_MPEG_CHAIN = 3  # so many consecutive headers are no coincidence


def find_tags_at_end(file: BinaryIO, end: int) -> int:
    """Find where the tags ID3v1 and APEv2 at the end of an MPEG file begin, or the end."""
    if read_at(file, max(0, end - 128), 3) == b"TAG":
        end -= 128
    footer = read_at(file, max(0, end - 32), 32)
    if footer[:8] == b"APETAGEX":
        size, _, flags = struct.unpack_from("<III", footer, 12)
        end -= min(size + (32 if flags >> 31 else 0), end)
    return end


def is_mpeg_chain(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether consecutive MPEG frames of the same kind begin at a position, or one that ends with the file."""
    kind = None
    for _ in range(_MPEG_CHAIN):
        head = read_at(file, start, 4)
        size = count_mpeg_bytes(head)
        if not size or kind not in (None, (head[1] & 0xFE, head[2] & 0x0C)):
            return False
        kind, start = (head[1] & 0xFE, head[2] & 0x0C), start + size
        if start == end:
            return True
    return True


def count_mpeg_bytes(head: bytes) -> int:
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
