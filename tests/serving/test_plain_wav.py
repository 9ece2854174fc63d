"""WAV files that need no decoder."""

import io
import os

import numpy as np
import pytest
import soundfile

from kerastag import audio
from kerastag.serving.plain_wav import count_plain_samples, read_plain_blocks

RATE = 8_000


@pytest.fixture
def open_file():
    """Return a function that writes bytes into a file in memory, and returns its descriptor."""
    descriptors = []

    def write(content):
        descriptors.append(os.memfd_create("recording"))
        os.write(descriptors[-1], content)
        return descriptors[-1]

    yield write
    for descriptor in descriptors:
        os.close(descriptor)


def encode(num_samples=2_500, num_channels=1, **options):
    samples = np.random.default_rng(0).integers(-32_768, 32_768, (num_samples, num_channels), np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, **({"format": "WAV", "subtype": "PCM_16"} | options))
    return file.getvalue()


@pytest.mark.parametrize("num_samples", [1, 999, 1_000, 2_500])
def test_the_blocks_are_those_of_the_decoder(open_file, tmp_path, num_samples):
    content = encode(num_samples)
    (tmp_path / "clip.wav").write_bytes(content)
    descriptor = open_file(content)
    count = count_plain_samples(descriptor, len(content), RATE)
    assert count == num_samples
    blocks = list(read_plain_blocks(descriptor, count, 1_000))
    expected = list(audio.read_blocks(tmp_path / "clip.wav", RATE, 1_000 / RATE))
    assert [block.dtype for block in blocks] == [np.float32] * len(expected)
    for block, expected_block in zip(blocks, expected, strict=True):
        np.testing.assert_array_equal(block, expected_block)


@pytest.mark.parametrize(
    "content",
    [
        encode(num_channels=2),
        encode(subtype="FLOAT"),
        encode(subtype="PCM_24"),
        encode(format="FLAC"),
        encode(format="AIFF"),
        encode()[:44],
        encode()[:-2],
        encode() + b"LIST",
        encode(endian="BIG"),
        b"RIFF",
        b"",
    ],
)
def test_any_other_file_needs_a_decoder(open_file, content):
    assert count_plain_samples(open_file(content), len(content), RATE) == 0


def test_no_byte_of_the_header_may_differ(open_file):
    content = encode(100)
    assert count_plain_samples(open_file(content), len(content), RATE + 1) == 0
    for position in range(44):
        damaged = bytearray(content)
        damaged[position] ^= 1
        assert count_plain_samples(open_file(bytes(damaged)), len(damaged), RATE) == 0
