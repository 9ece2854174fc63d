"""Files of every kind, and of none, into waveforms."""

import io
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.signals import sine, write
from checks import SHARED, run_python
from kerastag import audio


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("container", "subtype", "tolerance"),
    [
        ("WAV", "PCM_U8", 1 / 127),
        ("WAV", "PCM_16", 1 / 32_000),
        ("WAV", "PCM_24", 1e-6),
        ("WAV", "PCM_32", 1e-6),
        ("WAV", "FLOAT", 1e-7),
        ("WAV", "DOUBLE", 1e-7),
        ("WAVEX", "PCM_16", 1 / 32_000),
        ("RF64", "PCM_16", 1 / 32_000),
        ("AIFF", "PCM_16", 1 / 32_000),
        ("FLAC", "PCM_16", 1 / 32_000),
        ("FLAC", "PCM_24", 1e-6),
        ("OGG", "VORBIS", 0.1),
        ("OGG", "OPUS", 0.1),
        ("MP3", "MPEG_LAYER_III", 0.1),
    ],
)
def test_reads_what_libsndfile_reads_and_averages_its_channels(tmp_path, container, subtype, tolerance, channels):
    lossy = container in ("OGG", "MP3")
    if lossy and channels > 2:
        pytest.skip("MP3 has two channels at most, and the others cut the low-frequency one")
    levels = np.linspace(0.3, 0.6, channels)
    samples = sine(48_000, 48_000)[:, None] * 2 * levels
    waveform = audio.load(write(tmp_path / "clip.anything", samples, 48_000, container, subtype), 48_000)
    assert waveform.dtype == np.float32
    assert waveform.shape == (48_000,)
    inner = slice(4800, -4800) if lossy else slice(None)
    np.testing.assert_allclose(waveform[inner], samples.mean(axis=1)[inner], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 384_000])
@pytest.mark.parametrize("target", [16_000, 32_000])
def test_any_rate_becomes_the_asked_one(tmp_path, rate, target):
    path = write(tmp_path / "clip.wav", sine(rate + 37, rate), rate, subtype="FLOAT")
    waveform = audio.load(path, target)
    assert abs(len(waveform) - (rate + 37) * target / rate) <= 1
    inner = slice(target // 10, -target // 10)
    np.testing.assert_allclose(waveform[inner], sine(len(waveform), target)[inner], rtol=0, atol=1e-4)


def test_resampling_keeps_out_what_the_new_rate_cannot_hold(tmp_path):
    path = write(tmp_path / "clip.wav", sine(44_100, 44_100, hz=12_000), 44_100)
    assert np.abs(audio.load(path, 16_000)[1600:-1600]).max() < 1e-4


@pytest.mark.parametrize("name", ["clip.mp3", "clip.raw", "clip.txt", "clip", "clip.WAV", "Türklingel 门铃.flac"])
def test_the_content_decides_and_not_the_name(tmp_path, clip, name):
    shutil.copy(clip, tmp_path / name)
    np.testing.assert_array_equal(audio.load(tmp_path / name, 16_000), audio.load(str(clip), 16_000))


@pytest.mark.parametrize("rate", [16_000, 44_100])
@given(block=st.floats(0.003, 3), offset=st.floats(0, 1.9), duration=st.none() | st.floats(0.01, 4))
def test_blocks_joined_are_the_load(tmp_path_factory, rate, block, offset, duration):
    path = tmp_path_factory.getbasetemp() / f"blocks{rate}.wav"
    if not path.exists():
        write(path, sine(2 * rate, rate), rate)
    parts = list(audio.blocks(path, 16_000, block, offset_seconds=offset, duration_seconds=duration))
    whole = audio.load(path, 16_000, offset_seconds=offset, duration_seconds=duration)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert {len(part) for part in parts[:-1]} <= {round(block * 16_000)}
    wanted = 2 - offset if duration is None else min(duration, 2 - offset)
    assert abs(len(whole) - wanted * 16_000) <= 1
    if duration is not None and offset + duration < 1.99:
        assert len(whole) == round(duration * 16_000)


def test_an_offset_starts_where_it_says(tmp_path):
    path = write(tmp_path / "clip.flac", sine(88_200, 44_100), 44_100, "FLAC")
    part = audio.load(path, 32_000, offset_seconds=0.5, duration_seconds=1.0)
    whole = audio.load(path, 32_000)
    assert len(part) == 32_000
    np.testing.assert_allclose(part[500:-500], whole[16_500:47_500], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("container", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_compressed_files_are_not_mute_at_block_edges_or_after_an_offset(tmp_path, container, subtype):
    path = write(tmp_path / "clip", sine(480_000, 48_000), 48_000, container, subtype)
    whole = audio.load(path, 48_000)
    np.testing.assert_allclose(whole[:-4800], sine(480_000, 48_000)[:-4800], rtol=0, atol=0.1)
    for offset in (0.1, 0.3, 1.0, 9.5):
        part = audio.load(path, 48_000, offset_seconds=offset, duration_seconds=0.4)
        start = round(offset * 48_000)
        np.testing.assert_allclose(part, whole[start : start + 19_200], rtol=0, atol=1e-3)


def test_ten_milliseconds_are_enough(tmp_path):
    assert audio.load(write(tmp_path / "click.wav", sine(441, 44_100), 44_100), 32_000).shape == (320,)


def test_hours_are_read_in_constant_memory(tmp_path):
    """A sparse file: 24 hours of silence by its header and its size, a few kilobytes on the disk."""
    path = write(tmp_path / "day.wav", np.zeros(0), 8_000)
    frames = 24 * 3600 * 8_000
    data = bytearray(path.read_bytes())
    data[4:8], data[40:44] = struct.pack("<I", 36 + 2 * frames), struct.pack("<I", 2 * frames)
    path.write_bytes(data)
    os.truncate(path, 44 + 2 * frames)
    stream = audio.windows(path, 16_000, 10.0, 5.0)
    tracemalloc.start()
    try:
        for index, window in zip(range(200), stream, strict=False):
            assert window.start_seconds == index * 5
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        stream.close()
    assert peak < 20e6
    last = audio.load(path, 16_000, offset_seconds=24 * 3600 - 1)
    assert len(last) == 16_000


def test_standard_input_is_read_to_its_end(clip):
    with clip.open("rb") as stream:
        np.testing.assert_array_equal(audio.read_stream(stream, 32_000), audio.load(clip, 32_000))
    code = "import sys; from kerastag import audio; print(audio.read_stream(sys.stdin, 8_000).shape)"
    with clip.open("rb") as stream:
        done = subprocess.run([sys.executable, "-c", code], stdin=stream, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(16000,)"


@pytest.mark.parametrize("content", [b"", b"no sound at all, but some text" * 50])
def test_standard_input_that_is_no_audio_is_refused(content):
    with pytest.raises(ValueError, match=r"^standard input: must be audio"):
        audio.read_stream(io.BytesIO(content), 16_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be audio. Received: an empty file"),
        (b"no sound at all, but some text" * 50, "Format not recognized"),
        (b"RIFF\x00\x00\x00\x00WAVE", "must be audio"),
        (b"\xff\xfb\x90\x00" + bytes(60), "must be audio"),
    ],
)
def test_what_is_no_audio_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        audio.load(path, 16_000)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_16")])
def test_zero_samples_are_refused(tmp_path, container, subtype):
    path = write(tmp_path / "clip.wav", np.zeros(0), 16_000, container, subtype)
    with pytest.raises(ValueError, match=r"clip\.wav: must .*no samples in it"):
        audio.load(path, 16_000)


def test_an_offset_behind_the_end_is_refused(clip):
    with pytest.raises(ValueError, match=r"clip\.wav: must have at least one sample. Received: none after 3 s"):
        audio.load(clip, 16_000, offset_seconds=3)


def test_missing_and_unreadable_files_are_refused(tmp_path, clip):
    with pytest.raises(FileNotFoundError, match=r"nothing\.wav: there is no such file"):
        audio.load(tmp_path / "nothing.wav", 16_000)
    with pytest.raises(ValueError, match="must be a regular file"):
        audio.load(tmp_path, 16_000)
    clip.chmod(0)
    if not os.access(clip, os.R_OK):  # root reads everything
        with pytest.raises(PermissionError):
            audio.load(clip, 16_000)


def test_a_file_that_vanishes_before_it_is_read_is_named(clip):
    windows = audio.windows(clip, 16_000, 1.0)
    clip.unlink()
    with pytest.raises(FileNotFoundError, match=r"clip\.wav: there is no such file"):
        next(windows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_nan_and_infinity_are_refused_with_their_time(tmp_path, value, channels):
    samples = np.zeros((40_000, channels), np.float32)
    samples[20_000, -1] = samples[30_000, 0] = value
    path = write(tmp_path / "clip.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"clip\.wav: samples must be finite. Received: NaN or infinity at 1\.2500 s"):
        audio.load(path, 32_000)
    with pytest.raises(ValueError, match=r"at 1\.2500 s"):
        list(audio.blocks(path, 32_000, offset_seconds=1.0))
    assert len(audio.load(path, 16_000, duration_seconds=1.25)) == 20_000  # before it, all is well


@pytest.mark.parametrize("level", [3, 12_000])
def test_integers_stored_as_float_are_caught(tmp_path, level):
    samples = np.rint(level * sine(16_000, 16_000, level=1.0))
    path = write(tmp_path / "clip.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=rf"divide 16-bit integers by 32768\). Received: {level} at 0\.00"):
        audio.load(path, 16_000)
    with pytest.raises(ValueError, match=f"`waveform`: samples must be in .* Received: {level} at sample"):
        audio.check(samples.astype(np.float32))


def test_hot_float_files_pass_as_they_are(tmp_path):
    path = write(tmp_path / "clip.wav", sine(16_000, 16_000, level=1.7), 16_000, subtype="FLOAT")
    waveform = audio.load(path, 16_000)
    assert 1.69 < waveform.max() < 1.71
    assert audio.check(waveform).remarks[-1] == "peak 1.70 is beyond full scale"


def test_arguments_out_of_range_are_refused_where_they_arrive(clip):
    for rate in (0, 999, 1_000_001, 16_000.5):
        with pytest.raises(ValueError, match="`sample_rate` must be an integer from 1000 to 1000000 Hz"):
            audio.load(clip, rate)
    with pytest.raises(ValueError, match=r"`offset_seconds` must be at least 0\. Received: -1"):
        audio.load(clip, 16_000, offset_seconds=-1)
    with pytest.raises(ValueError, match="`duration_seconds` must be at least one sample"):
        audio.load(clip, 16_000, duration_seconds=0)
    with pytest.raises(ValueError, match="`block_seconds` must be at least one sample"):
        audio.blocks(clip, 16_000, 0)
    with pytest.raises(ValueError, match=r"`window_seconds` must be at least one sample.* Received: nan"):
        audio.windows(clip, 16_000, float("nan"))
    with pytest.raises(ValueError, match="`hop_seconds` must be at least one sample"):
        audio.windows(clip, 16_000, 1.0, 0)


def test_imports_neither_scipy_nor_a_framework():
    code = "import sys, kerastag.audio; print(sorted({'scipy', 'keras', 'tensorflow'} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


@pytest.mark.real
def test_reads_real_recordings():
    for path in sorted((SHARED / "data/esc10").glob("*/*.ogg"))[::40]:
        waveform = audio.load(path, 32_000)
        assert 3.5 * 32_000 < len(waveform) < 7.3 * 32_000
        audio.check(waveform)
    wav, mp3 = (audio.load(SHARED / f"data/audio/R9_ZSCveAHg_7s.{kind}", 32_000) for kind in ("wav", "mp3"))
    assert abs(len(wav) - len(mp3)) < 3200
    assert audio.check(wav).rms == pytest.approx(audio.check(mp3).rms, rel=0.1)
