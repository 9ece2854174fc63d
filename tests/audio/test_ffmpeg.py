"""What libsndfile does not read, by the program ffmpeg, where it is."""

import shutil
import subprocess

import numpy as np
import pytest

from audio.signals import sine, write
from kerastag import audio

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg on the PATH")


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
