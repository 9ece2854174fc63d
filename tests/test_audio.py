"""Files of every kind, and of none, into waveforms."""

import io
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from checks import SHARED, run_python
from kerastag import audio

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg on the PATH")


def sine(frames, rate, hz=440.0, level=0.5):
    return (level * np.sin(2 * np.pi * hz * np.arange(frames) / rate)).astype(np.float32)


def write(path, samples, rate=16_000, container="WAV", subtype="PCM_16"):
    soundfile.write(path, samples, rate, format=container, subtype=subtype)
    return path


@pytest.fixture
def clip(tmp_path):
    return write(tmp_path / "clip.wav", sine(32_000, 16_000))


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


@given(
    samples=st.integers(1, 3000),
    length=st.integers(1, 800),
    hop=st.integers(1, 1500),
    cuts=st.lists(st.integers(0, 3000)),
)
def test_windows_cover_the_waveform(samples, length, hop, cuts):
    waveform = np.arange(1, samples + 1, dtype=np.float32) / 4096
    parts = np.split(waveform, sorted(cut for cut in cuts if cut < samples))
    for found in (
        list(audio.windows(waveform, 1000, length / 1000, hop / 1000)),
        list(audio._windows(iter(parts), 1000, length, hop)),
    ):
        starts = [round(window.start_seconds * 1000) for window in found]
        assert starts == [index * hop for index in range(len(found))]
        for start, (_, window, valid_seconds) in zip(starts, found, strict=True):
            valid = round(valid_seconds * 1000)
            assert 1 <= valid <= length == len(window)
            np.testing.assert_array_equal(window[:valid], waveform[start : start + valid])
            assert not window[valid:].any()
            assert valid == min(length, samples - start)
        ends = [start + length for start in starts]
        assert all(end < samples for end in ends[:-1])
        assert ends[-1] >= samples or starts[-1] + hop >= samples


def test_windows_of_a_file_are_those_of_its_waveform(clip):
    from_file = list(audio.windows(clip, 16_000, 0.7, 0.3))
    from_array = list(audio.windows(audio.load(clip, 16_000), 16_000, 0.7, 0.3))
    assert len(from_file) == len(from_array) == 6
    for one, other in zip(from_file, from_array, strict=True):
        assert (one.start_seconds, one.valid_seconds) == (other.start_seconds, other.valid_seconds)
        np.testing.assert_array_equal(one.waveform, other.waveform)


def test_a_window_is_the_callers_own(clip):
    windows = audio.windows(clip, 16_000, 1.0, 0.5)
    next(windows).waveform[:] = 9
    assert next(windows).waveform.max() < 1


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
        (b"no sound at all, but some text" * 50, "Format not recognised"),
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


def test_levels_of_a_sine_of_silence_of_dc_and_of_clipping():
    levels = audio.check(sine(16_000, 16_000, level=0.5))
    assert levels.peak == pytest.approx(0.5, abs=1e-3)
    assert levels.rms == pytest.approx(0.5 / np.sqrt(2), abs=1e-4)
    assert levels.mean == pytest.approx(0, abs=1e-4)
    assert levels.remarks == ()
    assert audio.check(np.zeros(100, np.float32)).remarks == ("silent",)
    assert audio.check(sine(16_000, 16_000) + np.float32(0.1)).remarks == ("DC offset of 0.100",)
    clipped = audio.check(np.clip(sine(16_000, 16_000, level=2.0), -1, 1))
    assert clipped.remarks == ("66.5 % of the samples are clipped",)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(9, np.int16), "divide 16-bit samples by 32768. Received: int16"),
        ([0.0, 1.0], "array of float samples .* Received: list"),
        (np.zeros((2, 9), np.float32), r"shape \(samples,\), at least one. Received: \(2, 9\)"),
        (np.zeros(0, np.float32), r"Received: \(0,\)"),
        (np.array([0, 0, np.nan], np.float32), "NaN or infinity at sample 2"),
    ],
)
def test_an_array_that_is_no_waveform_is_refused(waveform, message):
    with pytest.raises(ValueError, match=message):
        audio.check(waveform)


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


def by_ffmpeg(source, target, *options):
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", source, *options, target], check=True, stdin=subprocess.DEVNULL
    )
    return target


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip.m4a", ["-c:a", "aac"]),
        ("clip.webm", ["-c:a", "libopus"]),
        ("clip.mka", ["-c:a", "pcm_s16le"]),
        ("video.mp4", ["-f", "lavfi", "-i", "testsrc=duration=2:size=32x32", "-c:a", "aac"]),
    ],
)
def test_ffmpeg_reads_the_rest(tmp_path, name, options):
    clip = write(tmp_path / "clip.wav", sine(96_000, 48_000), 48_000)
    path = by_ffmpeg(clip, tmp_path / name, *options)
    waveform = audio.load(path, 16_000)
    assert abs(len(waveform) - 32_000) < 1600  # what the encoder pads
    spectrum = np.abs(np.fft.rfft(waveform[4000:20_000]))
    assert spectrum.argmax() == 440
    assert 0.4 < np.abs(waveform[4000:20_000]).max() < 0.6
    part = audio.load(path, 16_000, offset_seconds=0.5, duration_seconds=0.25)
    assert len(part) == 4000
    np.testing.assert_allclose(part[400:-400], waveform[8400:11_600], rtol=0, atol=2e-3)


@needs_ffmpeg
def test_ffmpeg_opens_no_playlist(tmp_path, clip):
    path = tmp_path / "list.m4a"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\n{clip}\n")
    with pytest.raises(ValueError, match="must be audio with at least one sample"):
        audio.load(path, 16_000)


@needs_ffmpeg
def test_a_truncated_webm_gives_what_is_there_and_a_warning(tmp_path):
    clip = write(tmp_path / "clip.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 240_000), 48_000)
    path = by_ffmpeg(clip, tmp_path / "clip.webm", "-c:a", "libopus")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(audio.AudioWarning, match="damaged, ffmpeg says"):
        assert 16_000 < len(audio.load(path, 16_000)) < 60_000


@needs_ffmpeg
def test_a_video_without_sound_is_refused(tmp_path):
    path = tmp_path / "silent.mp4"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=duration=1:size=32x32", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(ValueError, match=r"silent\.mp4: must be audio with at least one sample"):
        audio.load(path, 16_000)


@needs_ffmpeg
def test_ffmpeg_ends_when_nobody_reads_on(tmp_path):
    clip = write(tmp_path / "clip.wav", sine(4_800_000, 48_000), 48_000)
    path = by_ffmpeg(clip, tmp_path / "clip.mka", "-c:a", "pcm_s16le")
    blocks = audio.blocks(path, 48_000, 1.0)
    assert len(next(blocks)) == 48_000
    blocks.close()  # would hang, or leave a process and a ResourceWarning, if ffmpeg were waited for


def test_without_ffmpeg_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = tmp_path / "clip.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A " + bytes(100))
    with pytest.raises(ValueError, match=r"clip\.m4a: .* need the program ffmpeg on the PATH: install it"):
        audio.load(path, 16_000)


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
