"""Truncated files, headers that lie, and streams whose header could not know the length."""

import shutil
import struct
import warnings

import numpy as np
import pytest

from audio.signals import write
from kerastag import audio


@pytest.mark.parametrize("container", ["WAV", "FLAC", "MP3"])
def test_a_truncated_file_gives_what_is_there_and_a_warning(tmp_path, container):
    subtype = "MPEG_LAYER_III" if container == "MP3" else "PCM_16"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 80_000)
    path = write(tmp_path / "clip", noise, 16_000, container, subtype)
    whole = audio.load(path, 16_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(audio.AudioWarning, match=r"clip: truncated or damaged: 2\.\d\d s of the 5\.00 s in its header"):
        part = audio.load(path, 16_000)
    assert 30_000 < len(part) <= 40_000
    np.testing.assert_array_equal(part[:30_000], whole[:30_000])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio.load(path, 16_000, duration_seconds=1.0)  # asks for nothing that is missing


def test_a_truncated_ogg_gives_what_is_there_and_a_warning(tmp_path):
    path = write(tmp_path / "clip.ogg", np.random.default_rng(0).uniform(-0.5, 0.5, 480_000), 16_000, "OGG", "VORBIS")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(audio.AudioWarning, match="truncated: its stream has no end"):
        assert 100_000 < len(audio.load(path, 16_000)) < 300_000


@pytest.mark.parametrize("size", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_wav_written_to_a_pipe_has_no_length_and_needs_none(clip, size):
    data = bytearray(clip.read_bytes())
    data[40:44] = struct.pack("<I", size)
    clip.write_bytes(data)
    assert len(audio.load(clip, 16_000)) == 32_000


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (22, struct.pack("<H", 0), "Channel count is zero"),
        (22, struct.pack("<H", 65_535), "Too many channels"),
        (24, struct.pack("<I", 1), "its sample rate must be an integer from 1000 to 1000000 Hz. Received: 1$"),
        (24, struct.pack("<I", 2**31 - 1), "Received: 2147483647$"),
    ],
)
def test_absurd_headers_are_refused(clip, monkeypatch, at, value, message):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    data = bytearray(clip.read_bytes())
    data[at : at + len(value)] = value
    clip.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        audio.load(clip, 16_000)
