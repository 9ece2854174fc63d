"""Truncated files, wrong headers, and streams whose header has no length."""

import shutil
import struct
import warnings

import numpy as np
import pytest

from audio.signals import write_audio
from kerastag import audio


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_a_truncated_file_is_decoded_as_far_as_possible_with_a_warning(tmp_path, container):
    subtype = "MPEG_LAYER_III" if container == "MP3" else "PCM_16"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 80_000)
    path = write_audio(tmp_path / "clip", noise, 16_000, container, subtype)
    whole = audio.load(path, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(audio.AudioWarning, match=r"clip: truncated or damaged; using 2\.\d\d s of the 5\.00 s"):
        part = audio.load(path, 16_000)
    assert 30_000 < len(part) <= 40_000
    np.testing.assert_array_equal(part[:30_000], whole[:30_000])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio.load(path, 16_000, duration_seconds=1.0)  # the missing part is not requested


def test_a_truncated_ogg_is_decoded_as_far_as_possible_with_a_warning(tmp_path):
    path = write_audio(
        tmp_path / "clip.ogg", np.random.default_rng(0).uniform(-0.5, 0.5, 480_000), 16_000, "OGG", "VORBIS"
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(audio.AudioWarning, match="truncated, its Ogg stream has no end"):
        assert 100_000 < len(audio.load(path, 16_000)) < 300_000


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_wav_file_without_a_length_is_read_to_its_end(clip, size):
    data = bytearray(clip.read_bytes())
    data[40:44] = struct.pack("<I", size)
    clip.write_bytes(data)
    assert len(audio.load(clip, 16_000)) == 32_000


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (22, struct.pack("<H", 0), "Channel count is zero"),
        (22, struct.pack("<H", 65_535), "Too many channels"),
        (24, struct.pack("<I", 1), "sample rate must be an integer from 1000 to 1000000 Hz; received: 1$"),
        (24, struct.pack("<I", 2**31 - 1), "received: 2147483647$"),
    ],
)
def test_impossible_headers_are_rejected(clip, monkeypatch, offset, value, message):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    data = bytearray(clip.read_bytes())
    data[offset : offset + len(value)] = value
    clip.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        audio.load(clip, 16_000)
