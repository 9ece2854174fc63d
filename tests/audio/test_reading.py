"""Reading audio files of every format, and files that are not audio."""

import io
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.signals import make_sine, write_audio
from checks import SHARED
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
def test_every_format_of_libsndfile_is_read_and_its_channels_are_averaged(
    tmp_path, container, subtype, tolerance, channels
):
    lossy = container in ("OGG", "MP3")
    if lossy and channels > 2:
        pytest.skip("MP3 has at most two channels, and the others filter the low-frequency one")
    levels = np.linspace(0.3, 0.6, channels)
    samples = make_sine(48_000, 48_000)[:, None] * 2 * levels
    waveform = audio.load(write_audio(tmp_path / "clip.anything", samples, 48_000, container, subtype), 48_000)
    assert waveform.dtype == np.float32
    assert waveform.shape == (48_000,)
    inner = slice(4800, -4800) if lossy else slice(None)
    np.testing.assert_allclose(waveform[inner], samples.mean(axis=1)[inner], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 384_000])
@pytest.mark.parametrize("target", [16_000, 32_000])
def test_any_sample_rate_is_resampled_to_the_requested_one(tmp_path, rate, target):
    path = write_audio(tmp_path / "clip.wav", make_sine(rate + 37, rate), rate, subtype="FLOAT")
    waveform = audio.load(path, target)
    assert abs(len(waveform) - (rate + 37) * target / rate) <= 1
    inner = slice(target // 10, -target // 10)
    np.testing.assert_allclose(waveform[inner], make_sine(len(waveform), target)[inner], rtol=0, atol=1e-4)


def test_resampling_removes_frequencies_above_half_the_new_sample_rate(tmp_path):
    path = write_audio(tmp_path / "clip.wav", make_sine(44_100, 44_100, hz=12_000), 44_100)
    assert np.abs(audio.load(path, 16_000)[1600:-1600]).max() < 1e-4


@pytest.mark.parametrize(
    ("container", "byte_order"),
    [("WAV", "FILE"), ("WAV", "BIG"), ("AIFF", "FILE"), ("AU", "LITTLE"), ("CAF", "FILE"), ("W64", "FILE")],
)
def test_samples_of_16_bits_are_those_of_libsndfile(tmp_path, container, byte_order):
    samples = np.random.default_rng(0).integers(-32_768, 32_768, (100_000, 2), dtype=np.int16)
    samples[0], samples[-1] = -32_768, 32_767
    path = tmp_path / "recording"
    with soundfile.SoundFile(path, "w", 16_000, 2, "PCM_16", byte_order, container) as file:
        file.write(samples)
    expected = soundfile.read(path, dtype="float32")[0]
    for channel in (1, 2):
        np.testing.assert_array_equal(audio.load(path, 16_000, channel=channel), expected[:, channel - 1])


def test_a_short_part_of_integer_samples_is_rejected_in_a_long_recording(tmp_path):
    waveform = 0.1 * np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    waveform[40_960:49_152] = np.rint(50 * waveform[40_960:49_152])
    path = tmp_path / "recording.wav"
    soundfile.write(path, waveform, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"must be in \[-1, 1\] \(divide 16-bit integers by 32768\); received: "):
        audio.load(path, 16_000)


@pytest.mark.parametrize("name", ["clip.mp3", "clip.raw", "clip.txt", "clip", "clip.WAV", "Türklingel 门铃.flac"])
def test_the_format_is_detected_from_the_content_not_the_name(tmp_path, clip, name):
    shutil.copy(clip, tmp_path / name)
    np.testing.assert_array_equal(audio.load(tmp_path / name, 16_000), audio.load(str(clip), 16_000))


@pytest.mark.parametrize("rate", [16_000, 44_100])
@settings(max_examples=50)
@given(block=st.floats(0.003, 3), offset=st.floats(0, 1.9), duration=st.none() | st.floats(0.01, 4))
def test_concatenated_blocks_equal_the_loaded_waveform(tmp_path_factory, rate, block, offset, duration):
    path = tmp_path_factory.getbasetemp() / f"blocks{rate}.wav"
    if not path.exists():
        write_audio(path, make_sine(2 * rate, rate), rate)
    parts = list(audio.read_blocks(path, 16_000, block, offset_seconds=offset, duration_seconds=duration))
    whole = audio.load(path, 16_000, offset_seconds=offset, duration_seconds=duration)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert {len(part) for part in parts[:-1]} <= {round(block * 16_000)}
    expected_seconds = 2 - offset if duration is None else min(duration, 2 - offset)
    assert abs(len(whole) - expected_seconds * 16_000) <= 1
    if duration is not None and offset + duration < 1.99:
        assert len(whole) == round(duration * 16_000)


def test_an_offset_skips_that_duration(tmp_path):
    path = write_audio(tmp_path / "clip.flac", make_sine(88_200, 44_100), 44_100, "FLAC")
    part = audio.load(path, 32_000, offset_seconds=0.5, duration_seconds=1.0)
    whole = audio.load(path, 32_000)
    assert len(part) == 32_000
    np.testing.assert_allclose(part[500:-500], whole[16_500:47_500], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("container", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_compressed_files_are_not_silent_at_block_edges_or_after_an_offset(tmp_path, container, subtype):
    path = write_audio(tmp_path / "clip", make_sine(480_000, 48_000), 48_000, container, subtype)
    whole = audio.load(path, 48_000)
    np.testing.assert_allclose(whole[:-4800], make_sine(480_000, 48_000)[:-4800], rtol=0, atol=0.1)
    for offset in (0.1, 0.3, 1.0, 9.5):
        part = audio.load(path, 48_000, offset_seconds=offset, duration_seconds=0.4)
        start = round(offset * 48_000)
        np.testing.assert_allclose(part, whole[start : start + 19_200], rtol=0, atol=1e-3)


def test_ten_milliseconds_of_audio_can_be_loaded(tmp_path):
    assert audio.load(write_audio(tmp_path / "click.wav", make_sine(441, 44_100), 44_100), 32_000).shape == (320,)


def test_hours_are_read_in_constant_memory(tmp_path):
    """The file is sparse: 24 hours of silence by its header and size, a few kilobytes on disk."""
    path = write_audio(tmp_path / "day.wav", np.zeros(0), 8_000)
    frames = 24 * 3600 * 8_000
    data = bytearray(path.read_bytes())
    data[4:8], data[40:44] = struct.pack("<I", 36 + 2 * frames), struct.pack("<I", 2 * frames)
    path.write_bytes(data)
    os.truncate(path, 44 + 2 * frames)
    stream = audio.read_windows(path, 16_000, 10.0, 5.0)
    tracemalloc.start()
    try:
        for index, window in zip(range(60), stream, strict=False):
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
        result = subprocess.run(
            [sys.executable, "-c", code], stdin=stream, capture_output=True, text=True, check=True, encoding="utf-8"
        )
    assert result.stdout.strip() == "(16000,)"


@pytest.mark.parametrize("content", [b"", b"no sound at all, but some text" * 50])
def test_standard_input_that_is_not_audio_is_rejected(content):
    with pytest.raises(ValueError, match=r"^standard input: must be audio"):
        audio.read_stream(io.BytesIO(content), 16_000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be audio; received: an empty file"),
        (b"no sound at all, but some text" * 50, "Format not recogni[sz]ed"),
        (b"RIFF\x00\x00\x00\x00WAVE", "must be audio"),
        (b"\xff\xfb\x90\x00" + bytes(60), "must be audio"),
    ],
)
def test_a_file_that_is_not_audio_is_rejected_in_one_line(tmp_path, content, message):
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        audio.load(path, 16_000)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_16"), ("AIFF", "PCM_16")])
def test_a_file_without_samples_is_rejected(tmp_path, container, subtype):
    path = write_audio(tmp_path / "clip.wav", np.zeros(0), 16_000, container, subtype)
    with pytest.raises(ValueError, match=r"clip\.wav: must .*no samples"):
        audio.load(path, 16_000)


def test_an_offset_beyond_the_end_is_rejected(clip):
    with pytest.raises(ValueError, match=r"clip\.wav: must have at least one sample; received: none after 3 s"):
        audio.load(clip, 16_000, offset_seconds=3)


def test_missing_and_unreadable_files_are_rejected(tmp_path, clip):
    with pytest.raises(FileNotFoundError, match=r"nothing\.wav: no such file"):
        audio.load(tmp_path / "nothing.wav", 16_000)
    with pytest.raises(ValueError, match="must be a regular file"):
        audio.load(tmp_path, 16_000)
    clip.chmod(0)
    if not os.access(clip, os.R_OK):  # root reads everything
        with pytest.raises(PermissionError):
            audio.load(clip, 16_000)


def test_a_file_deleted_before_it_is_read_is_named_in_the_error(clip):
    windows = audio.read_windows(clip, 16_000, 1.0)
    clip.unlink()
    with pytest.raises(FileNotFoundError, match=r"clip\.wav: no such file"):
        next(windows)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_nan_and_infinity_are_rejected_with_their_position(tmp_path, value, channels):
    samples = np.zeros((40_000, channels), np.float32)
    samples[20_000, -1] = samples[30_000, 0] = value
    path = write_audio(tmp_path / "clip.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"clip\.wav: samples must be finite; received: NaN or infinity at 1\.2500 s"):
        audio.load(path, 32_000)
    with pytest.raises(ValueError, match=r"at 1\.2500 s"):
        list(audio.read_blocks(path, 32_000, offset_seconds=1.0))
    assert len(audio.load(path, 16_000, duration_seconds=1.25)) == 20_000  # the samples before it can be read


@pytest.mark.parametrize("level", [3, 12_000])
def test_integers_stored_as_float_are_rejected(tmp_path, level):
    samples = np.rint(level * make_sine(16_000, 16_000, level=1.0))
    path = write_audio(tmp_path / "clip.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ValueError, match=rf"divide 16-bit integers by 32768\); received: {level} at 0\.00"):
        audio.load(path, 16_000)
    with pytest.raises(ValueError, match=f"`waveform` samples must be in .*; received: {level} at sample"):
        audio.measure_levels(samples.astype(np.float32))


def test_float_files_beyond_full_scale_are_not_clipped(tmp_path):
    path = write_audio(tmp_path / "clip.wav", make_sine(16_000, 16_000, level=1.7), 16_000, subtype="FLOAT")
    waveform = audio.load(path, 16_000)
    assert 1.69 < waveform.max() < 1.71
    assert audio.measure_levels(waveform).remarks[-1] == "peak 1.70 is beyond full scale"


def test_arguments_out_of_range_are_rejected_before_reading(clip):
    for rate in (0, 999, 1_000_001, 16_000.5):
        with pytest.raises(ValueError, match="`sample_rate` must be an integer from 1000 to 1000000 Hz"):
            audio.load(clip, rate)
    with pytest.raises(ValueError, match=r"`offset_seconds` must be at least 0; received: -1"):
        audio.load(clip, 16_000, offset_seconds=-1)
    with pytest.raises(ValueError, match="`duration_seconds` must be at least one sample"):
        audio.load(clip, 16_000, duration_seconds=0)
    with pytest.raises(ValueError, match="`block_seconds` must be at least one sample"):
        audio.read_blocks(clip, 16_000, 0)
    with pytest.raises(ValueError, match=r"`window_seconds` must be at least one sample.*; received: nan"):
        audio.read_windows(clip, 16_000, float("nan"))
    with pytest.raises(ValueError, match="`hop_seconds` must be at least one sample"):
        audio.read_windows(clip, 16_000, 1.0, 0)


@pytest.mark.real
def test_reads_real_recordings():
    for path in sorted((SHARED / "data/esc10").glob("*/*.ogg"))[::40]:
        waveform = audio.load(path, 32_000)
        assert 3.5 * 32_000 < len(waveform) < 7.3 * 32_000
        audio.measure_levels(waveform)
    wav, mp3 = (audio.load(SHARED / f"data/audio/R9_ZSCveAHg_7s.{kind}", 32_000) for kind in ("wav", "mp3"))
    assert abs(len(wav) - len(mp3)) < 3200
    assert audio.measure_levels(wav).rms == pytest.approx(audio.measure_levels(mp3).rms, rel=0.1)
