"""Decoding with the ffmpeg program, where it is installed."""

import shutil
import subprocess

import numpy as np
import pytest

from audio.signals import make_sine, write_audio
from kerastag import audio

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg on the PATH")


def convert(source, target, *options):
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
def test_ffmpeg_decodes_what_libsndfile_does_not(tmp_path, name, options):
    clip = write_audio(tmp_path / "clip.wav", make_sine(96_000, 48_000), 48_000)
    path = convert(clip, tmp_path / name, *options)
    waveform = audio.load(path, 16_000)
    assert abs(len(waveform) - 32_000) < 1600  # the encoder pads
    spectrum = np.abs(np.fft.rfft(waveform[4000:20_000]))
    assert spectrum.argmax() == 440
    assert 0.4 < np.abs(waveform[4000:20_000]).max() < 0.6
    part = audio.load(path, 16_000, offset_seconds=0.5, duration_seconds=0.25)
    assert len(part) == 4000
    np.testing.assert_allclose(part[400:-400], waveform[8400:11_600], rtol=0, atol=2e-3)


@needs_ffmpeg
def test_a_playlist_is_rejected(tmp_path, clip):
    path = tmp_path / "list.m4a"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\n{clip}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must be audio with at least one sample"):
        audio.load(path, 16_000)


@needs_ffmpeg
def test_a_truncated_webm_is_decoded_as_far_as_possible_with_a_warning(tmp_path):
    clip = write_audio(tmp_path / "clip.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 240_000), 48_000)
    path = convert(clip, tmp_path / "clip.webm", "-c:a", "libopus")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(audio.AudioWarning, match="damaged; using the samples that ffmpeg could decode"):
        assert 16_000 < len(audio.load(path, 16_000)) < 60_000


@needs_ffmpeg
def test_a_video_without_an_audio_stream_is_rejected(tmp_path):
    path = tmp_path / "silent.mp4"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=duration=1:size=32x32", path]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    with pytest.raises(ValueError, match=r"silent\.mp4: no audio track"):
        audio.load(path, 16_000)


@needs_ffmpeg
def test_ffmpeg_is_stopped_when_the_reader_stops(tmp_path):
    clip = write_audio(tmp_path / "clip.wav", make_sine(4_800_000, 48_000), 48_000)
    path = convert(clip, tmp_path / "clip.mka", "-c:a", "pcm_s16le")
    blocks = audio.read_blocks(path, 48_000, 1.0)
    assert len(next(blocks)) == 48_000
    blocks.close()  # waiting for ffmpeg here would hang or leave a process behind


def test_without_ffmpeg_the_error_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = tmp_path / "clip.m4a"
    path.write_bytes(b"\x00\x00\x00\x20ftypM4A " + bytes(100))
    with pytest.raises(ValueError, match=r"clip\.m4a: .* need the program ffmpeg on the PATH: install it"):
        audio.load(path, 16_000)


@pytest.mark.parametrize(
    ("name", "container", "size"), [("clip.wav", "WAV", 44), ("lost.wav", "WAV", 42), ("clip.flac", "FLAC", 42)]
)
def test_a_file_without_samples_does_not_ask_for_ffmpeg(tmp_path, monkeypatch, name, container, size):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    path = write_audio(tmp_path / name, make_sine(8000, 8000), 8000, container)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf"{name}: must be audio with at least one sample; received: "):
        audio.load(path, 16_000)
