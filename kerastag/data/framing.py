"""TFRecord framing: a stream of bytes -> the records in it, with their CRC32C checked, without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

__all__ = ["MAX_RECORD_BYTES", "CorruptRecord", "crc32c", "masked", "read_frames"]

MAX_RECORD_BYTES = 1 << 16
"""A record of ten AudioSet segments has about 1,550 bytes; what is above this is something else."""


class CorruptRecord(ValueError):
    """What cannot be read: file, record (from 1; None: the file itself), reason, and whether the rest of it is lost."""

    def __init__(self, file: str, record: int | None, reason: str, rest_lost: bool = False) -> None:
        self.file, self.record, self.reason, self.rest_lost = file, record, reason, rest_lost
        place = file if record is None else f"{file}: record {record}"
        super().__init__(f"{place}: {reason}" + ("; nothing after it can be read" if rest_lost else ""))


def _byte_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, np.uint32(0x82F63B78) ^ (table >> 1), table >> 1)
    return table.astype(np.uint32)


def _advance(state: np.ndarray, zero_bytes: int) -> np.ndarray:
    """The CRC state after `zero_bytes` further bytes of zero."""
    for _ in range(zero_bytes):
        state = _BYTE[state & 0xFF] ^ (state >> 8)
    return state


_BYTE = _byte_table()
_HIGH = _advance(np.arange(1 << 16, dtype=np.uint32), 2)  # what the last two bytes of a word leave
_LOW = _advance(_HIGH, 2)  # what its first two leave, two bytes later


def crc32c(records: Sequence[bytes]) -> np.ndarray:
    """Byte strings -> their CRC32C (Castagnoli), all at once.

    A CRC that starts at zero ignores leading zero bytes, and starting at `0xFFFFFFFF` is the same as
    inverting the first four bytes. So the records are aligned at their *ends* in one matrix, and a
    single loop over its columns, four bytes a step, advances the state of every record together.

    Args:
        records: byte strings of any length; they are padded to the longest, so keep the lengths alike.

    Returns:
        uint32 array, one CRC a record.

    >>> hex(crc32c([b"123456789"])[0])
    '0xe3069283'
    """
    if not records:
        return np.zeros(0, np.uint32)
    width = max(4, *(len(record) for record in records)) + 3 & ~3
    padded = np.zeros((len(records), width + 4), np.uint8)  # four spare bytes in front: room to invert short records
    for row, record in zip(padded, records, strict=True):
        row[width + 4 - len(record) :] = np.frombuffer(record, np.uint8)
    first = width + 4 - np.array([len(record) for record in records])
    inverted = np.minimum(first[:, None] + np.arange(4), width + 3)
    short = [i for i, record in enumerate(records) if len(record) < 4]
    padded[np.arange(len(records))[:, None], inverted] ^= 0xFF
    words = np.ascontiguousarray(padded.view("<u4").T)
    state = np.zeros(len(records), np.uint32)
    for word in words:
        state ^= word
        state = _LOW[state & 0xFFFF] ^ _HIGH[state >> 16]
    state = ~state
    for i in short:
        state[i] = _crc32c_bytewise(records[i])
    return state


def _crc32c_bytewise(record: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in record:
        state = int(_BYTE[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked(crc: np.ndarray) -> np.ndarray:
    """CRCs -> the rotated and offset form in which a TFRecord stores them."""
    crc = np.asarray(crc, np.uint32)
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


_LENGTH_CRC: dict[bytes, int] = {}  # lengths repeat: a few hundred different ones in two million records


def _length_crc(length: bytes) -> int:
    crc = _LENGTH_CRC.get(length)
    if crc is None:
        if len(_LENGTH_CRC) > 1 << 16:
            _LENGTH_CRC.clear()
        crc = _LENGTH_CRC[length] = int(masked(np.array([_crc32c_bytewise(length)]))[0])
    return crc


def read_frames(stream: BinaryIO, file: str) -> Iterator[tuple[int, bytes, int]]:
    """An open TFRecord file -> `(record number from 1, payload, stored masked CRC of the payload)`.

    The length of every record is checked here; check the payloads in batches with `crc32c`.

    Raises:
        CorruptRecord: the file ends inside a record, or a length is damaged: nothing after it can be found.
    """
    number = 0
    while header := stream.read(12):
        number += 1
        if len(header) < 12:
            raise CorruptRecord(file, number, f"truncated: {len(header)} of 12 header bytes", rest_lost=True)
        (length,) = struct.unpack_from("<Q", header)
        if struct.unpack_from("<I", header, 8)[0] != _length_crc(header[:8]):
            raise CorruptRecord(file, number, "damaged length (or not a TFRecord file)", rest_lost=True)
        if length > MAX_RECORD_BYTES:
            reason = f"{length} bytes, at most {MAX_RECORD_BYTES} are allowed: not AudioSet's features"
            raise CorruptRecord(file, number, reason, rest_lost=True)
        body = stream.read(length + 4)
        if len(body) < length + 4:
            raise CorruptRecord(file, number, f"truncated: {len(body)} of {length + 4} bytes", rest_lost=True)
        yield number, body[:length], int.from_bytes(body[length:], "little")
