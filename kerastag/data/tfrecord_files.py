"""Find AudioSet's TFRecord files in a folder or a tar, and read their records, without TensorFlow."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import numpy as np

SPLITS = ("bal_train", "unbal_train", "eval")
STREAM_ERRORS = (tarfile.TarError, EOFError, zlib.error, OSError)
MAX_RECORD_BYTES = 1 << 16
"""Largest record that is read. One of ten AudioSet segments has about 1,550 bytes."""

_MAX_BUFFERED_BYTES = 1 << 26


class CorruptRecord(ValueError):
    """Error of a file or record that cannot be read.

    Args:
        file: Name of the file.
        record: Number of the record, from 1; None if the file itself cannot be read.
        reason: What is wrong with it.
        rest_lost: Whether the rest of the file cannot be read either.
    """

    def __init__(self, file: str, record: int | None, reason: str, rest_lost: bool = False) -> None:
        self.file, self.record, self.reason, self.rest_lost = file, record, reason, rest_lost
        place = file if record is None else f"{file}: record {record}"
        super().__init__(f"{place}: {reason}" + ("; nothing after it can be read" if rest_lost else ""))


@dataclass(frozen=True)
class SourceFile:
    """An opened TFRecord file."""

    split: str
    name: str  # for messages
    stream: BinaryIO
    bytes_done: Callable[[], int]  # how many bytes of the whole source have been read


class FeatureSource:
    """AudioSet's released features: the official `features.tar.gz`, or a folder of the unpacked files.

    A folder can be `audioset_v1_embeddings`, its parent, or the folder of one split. The files of a folder are sorted
    by name; those of a tar (compressed or not) come in its order, and the tar is not unpacked.
    """

    def __init__(self, path: str | os.PathLike[str], splits: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        if unknown := [split for split in splits or () if split not in SPLITS]:
            raise ValueError(f"`splits` must be among {', '.join(SPLITS)}; received: {unknown[0]!r}")
        self.splits, self.requires_all_splits = tuple(splits or SPLITS), splits is not None
        if not self.path.exists():
            raise FileNotFoundError(f"`source`: {self.path}: no such file or folder")
        if self.path.is_dir():
            folders = self._find_folders()
            self._files = {split: sorted(folder.glob("*.tfrecord")) for split, folder in folders.items()}
            if absent := [split for split in splits or () if split not in folders]:
                raise FileNotFoundError(f"`source`: {self.path}: no {absent[0]}/*.tfrecord in it")
            self.total_bytes = sum(file.stat().st_size for files in self._files.values() for file in files)
        else:
            self.total_bytes = self.path.stat().st_size

    @property
    def fingerprint(self) -> str:
        """Text that identifies the source: its absolute path, size and time."""
        return f"{self.path.resolve()} {self.total_bytes} {self.path.stat().st_mtime_ns}"

    def files(self) -> Iterator[SourceFile]:
        """Yield every TFRecord file, opened; the error for a damaged tar names the last file that was read."""
        return self._open_files_in_folder() if self.path.is_dir() else self._open_files_in_tar()

    def _find_folders(self) -> dict[str, Path]:
        """Return the folder of every split that exists."""
        inner = sorted(path for path in self.path.iterdir() if path.is_dir())
        for parent in (self.path, self.path / "audioset_v1_embeddings", *inner):
            folders = {split: parent / split for split in self.splits if any((parent / split).glob("*.tfrecord"))}
            if folders:
                return folders
        if self.path.resolve().name in self.splits and any(self.path.glob("*.tfrecord")):
            return {self.path.resolve().name: self.path}
        raise FileNotFoundError(
            f"`source`: {self.path}: no SPLIT/*.tfrecord in it, with SPLIT among {', '.join(self.splits)}"
        )

    def _open_files_in_folder(self) -> Iterator[SourceFile]:
        bytes_before = 0
        for split, files in self._files.items():
            for file in files:
                with file.open("rb", buffering=1 << 18) as stream:
                    yield SourceFile(split, str(file), stream, lambda: bytes_before + stream.tell())  # noqa: B023
                bytes_before += file.stat().st_size

    def _open_files_in_tar(self) -> Iterator[SourceFile]:
        name = None
        with self.path.open("rb") as file:
            try:
                with tarfile.open(fileobj=file, mode="r|*") as tar:
                    for member in tar:
                        path = PurePosixPath(member.name)
                        if not (member.isfile() and path.suffix == ".tfrecord" and path.parent.name in self.splits):
                            continue
                        name = f"{self.path}: {member.name}"
                        stream = cast(BinaryIO, tar.extractfile(member))
                        if member.size <= _MAX_BUFFERED_BYTES:  # A streamed tar is slow to read in small pieces.
                            stream = io.BytesIO(stream.read())
                        yield SourceFile(path.parent.name, name, stream, file.tell)
            except STREAM_ERRORS as error:
                if name is None:
                    raise ValueError(f"`source`: {self.path}: not a tar with TFRecord files ({error})") from error
                reason = f"the tar is damaged or ends early ({error})"
                raise CorruptRecord(name, None, reason, rest_lost=True) from error


def read_records(stream: BinaryIO, file: str) -> Iterator[tuple[int, bytes, int]]:
    """Yield the number of every record of a TFRecord file, from 1, its payload, and its masked CRC32C.

    The lengths are checked here; check the payloads in batches with `compute_crc32c`. A CorruptRecord is raised where
    the file ends inside a record, or a length is damaged, so that the next record cannot be located.
    """
    number = 0
    while header := stream.read(12):
        number += 1
        if len(header) < 12:
            raise CorruptRecord(file, number, f"truncated: {len(header)} of 12 header bytes", rest_lost=True)
        (length,) = struct.unpack_from("<Q", header)
        if struct.unpack_from("<I", header, 8)[0] != _compute_length_crc(header[:8]):
            raise CorruptRecord(file, number, "damaged length (or not a TFRecord file)", rest_lost=True)
        if length > MAX_RECORD_BYTES:
            reason = f"{length} bytes, at most {MAX_RECORD_BYTES} are allowed: not AudioSet's features"
            raise CorruptRecord(file, number, reason, rest_lost=True)
        body = stream.read(length + 4)
        if len(body) < length + 4:
            raise CorruptRecord(file, number, f"truncated: {len(body)} of {length + 4} bytes", rest_lost=True)
        yield number, body[:length], int.from_bytes(body[length:], "little")


_BYTE = np.arange(256, dtype=np.uint32)
for _ in range(8):
    _BYTE = np.where(_BYTE & 1, np.uint32(0x82F63B78) ^ (_BYTE >> 1), _BYTE >> 1)


def _advance(state: np.ndarray, zero_bytes: int) -> np.ndarray:
    """Return the CRC state after further bytes of zero."""
    for _ in range(zero_bytes):
        state = _BYTE[state & 0xFF] ^ (state >> 8)
    return state


_HIGH = _advance(np.arange(1 << 16, dtype=np.uint32), 2)  # contribution of the last two bytes of a word
_LOW = _advance(_HIGH, 2)  # contribution of its first two bytes, two bytes later


def compute_crc32c(records: Sequence[bytes]) -> np.ndarray:
    """Compute the CRC32C (Castagnoli) of many byte strings at once.

    A CRC that starts at zero ignores leading zero bytes, and starting at `0xFFFFFFFF` is the same as inverting the
    first four bytes. So the records are aligned at their *ends* in one matrix, and a single loop over its columns, four
    bytes per step, advances the states of all records together. Similar lengths are fastest.

    >>> hex(compute_crc32c([b"123456789"])[0])
    '0xe3069283'
    """
    if not records:
        return np.zeros(0, np.uint32)
    width = max(4, *(len(record) for record in records)) + 3 & ~3
    # Four spare bytes in front take the inversion of short records.
    padded = np.zeros((len(records), width + 4), np.uint8)
    for row, record in zip(padded, records, strict=True):
        row[width + 4 - len(record) :] = np.frombuffer(record, np.uint8)
    first = width + 4 - np.array([len(record) for record in records])
    inverted = np.minimum(first[:, None] + np.arange(4), width + 3)
    padded[np.arange(len(records))[:, None], inverted] ^= 0xFF
    state = np.zeros(len(records), np.uint32)
    for word in np.ascontiguousarray(padded.view("<u4").T):
        state ^= word
        state = _LOW[state & 0xFFFF] ^ _HIGH[state >> 16]
    state = ~state
    for i, record in enumerate(records):
        if len(record) < 4:
            state[i] = _compute_crc32c_bytewise(record)
    return state


def _compute_crc32c_bytewise(record: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in record:
        state = int(_BYTE[(state ^ byte) & 0xFF]) ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def mask_crc(crc: np.ndarray) -> np.ndarray:
    """Rotate and offset CRCs as they are stored in a TFRecord file."""
    crc = np.asarray(crc, np.uint32)
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


@lru_cache(1 << 16)  # Lengths repeat: two million records have a few hundred different ones.
def _compute_length_crc(length: bytes) -> int:
    return int(mask_crc(np.array([_compute_crc32c_bytewise(length)]))[0])
