"""WAV files that need no decoder: a header of 44 bytes, and 16-bit samples of one channel up to the end of the file."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import numpy as np

__all__ = ["count_plain_samples", "read_plain_blocks"]

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_SCALE = np.float32(1 / 32_768)


def count_plain_samples(descriptor: int, size: int, sample_rate: int) -> int:
    """Return the number of samples of such a file with this sample rate; 0 for any other file.

    Args:
        descriptor: Descriptor of the file.
        size: Number of bytes of the file.
        sample_rate: Sample rate that the file must have, Hz.
    """
    header = os.pread(descriptor, _HEADER.size, 0)
    num_bytes = size - _HEADER.size
    if num_bytes < 2 or num_bytes % 2:
        return 0
    format_chunk = (b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    expected = (b"RIFF", size - 8, b"WAVE", *format_chunk, b"data", num_bytes)
    return num_bytes // 2 if _HEADER.unpack(header) == expected else 0


def read_plain_blocks(descriptor: int, num_samples: int, block_samples: int) -> Iterator[np.ndarray]:
    """Yield the samples of such a file in blocks, float32 `(samples,)`, with the bits of `kerastag.audio.read_blocks`.

    Args:
        descriptor: Descriptor of the file.
        num_samples: Number of samples, from `count_plain_samples`.
        block_samples: Largest number of samples of a block, at least 1.
    """
    for start in range(0, num_samples, block_samples):
        samples = np.empty(min(block_samples, num_samples - start), "<i2")
        os.preadv(descriptor, [samples.data], _HEADER.size + 2 * start)
        yield samples * _SCALE
