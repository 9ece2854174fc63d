"""Any bytes give a waveform or an error of one line, in bounded time and memory."""

import functools
import io
import shutil
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerastag import audio

KINDS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("AIFF", "PCM_16"),
]
HEADERS = [
    *KINDS,
    *((container, "PCM_16") for container in ("WAVEX", "RF64", "W64", "AU", "CAF")),
    *((container, "IMA_ADPCM") for container in ("WAV", "W64", "AIFF")),
    ("MP3", "MPEG_LAYER_III"),
]
MAGIC = [
    b"RIFF\x10\0\0\0WAVEfmt ",
    b"fLaC\0\0\0\x22",
    b"OggS\0\x02",
    b"ID3\x04",
    b"\xff\xfb\x90\x64",
    b"FORM\0\0\0\0AIFF",
    b"",
]


@functools.cache
def encode_noise(container, subtype):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 24_000)
    stream = io.BytesIO()
    soundfile.write(stream, noise, 48_000, format=container, subtype=subtype)
    return stream.getvalue()


def check_loads_or_fails_in_one_line(path, content, max_samples=10 * 16_000):
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", audio.AudioWarning)
        try:
            waveform = next(audio.read_blocks(path, 16_000, 10.0))
        except ValueError as error:
            message = str(error)
        else:
            message = ""
    if message:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return None
    assert waveform.dtype == np.float32
    assert 1 <= len(waveform) <= max_samples
    assert np.isfinite(waveform).all()
    return waveform


@pytest.fixture
def without_ffmpeg(monkeypatch):
    """Hide ffmpeg, whose decoders need no test here; one process per example would take minutes."""
    monkeypatch.setattr(shutil, "which", lambda name: None)


fuzz = functools.partial(settings, max_examples=100, suppress_health_check=list(HealthCheck))


@fuzz()
@given(magic=st.sampled_from(MAGIC), rest=st.binary(max_size=4000))
def test_random_bytes_load_or_fail_in_one_line(tmp_path, without_ffmpeg, magic, rest):
    check_loads_or_fails_in_one_line(tmp_path / "clip", magic + rest)


@pytest.mark.parametrize(("container", "subtype"), KINDS)
@fuzz(max_examples=30)
@given(share=st.floats(0, 1))
def test_truncated_files_load_or_fail_in_one_line(tmp_path, without_ffmpeg, container, subtype, share):
    content = encode_noise(container, subtype)
    waveform = check_loads_or_fails_in_one_line(tmp_path / "clip", content[: int(share * len(content))], 8001)
    assert share < 1 or len(waveform) == 8000


@pytest.mark.parametrize(("container", "subtype"), HEADERS)
def test_files_that_end_in_their_header_fail_in_one_line(tmp_path, without_ffmpeg, container, subtype):
    """As a recorder leaves them that loses power within its first second."""
    content = encode_noise(container, subtype)
    for size in range(1, 200):
        check_loads_or_fails_in_one_line(tmp_path / "clip", content[:size])


@pytest.mark.parametrize(("container", "subtype"), KINDS)
@fuzz(max_examples=30)
@given(changes=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 255)), min_size=1, max_size=8))
def test_random_headers_load_or_fail_in_one_line(tmp_path, without_ffmpeg, container, subtype, changes):
    content = bytearray(encode_noise(container, subtype))
    for offset, value in changes:
        content[offset] = value
    check_loads_or_fails_in_one_line(tmp_path / "clip", bytes(content))


@pytest.mark.parametrize(("container", "subtype"), KINDS)
@fuzz(max_examples=30)
@given(position=st.floats(0, 1), noise=st.binary(min_size=1, max_size=500))
def test_damaged_files_load_or_fail_in_one_line(tmp_path, without_ffmpeg, container, subtype, position, noise):
    content = bytearray(encode_noise(container, subtype))
    start = int(position * len(content))
    content[start : start + len(noise)] = noise
    check_loads_or_fails_in_one_line(tmp_path / "clip", bytes(content))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg on the PATH")
@fuzz(max_examples=6)
@given(
    magic=st.sampled_from([b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI "]), rest=st.binary(max_size=400)
)
def test_random_containers_load_or_fail_in_one_line_with_ffmpeg(tmp_path, magic, rest):
    check_loads_or_fails_in_one_line(tmp_path / "clip", magic + rest)
