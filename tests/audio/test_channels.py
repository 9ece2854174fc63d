"""The choice of a channel, and channels that cancel each other."""

import warnings

import numpy as np
import pytest

from audio.signals import make_sine, write_audio
from kerastag import audio
from kerastag.audio.channels import ChannelMixer, parse_channel

SINE = make_sine(32_000, 16_000)


def write_channels(path, *channels, **options):
    return write_audio(path, np.stack(channels, axis=1), subtype="FLOAT", **options)


@pytest.mark.parametrize(
    ("channel", "expected"), [("left", 1), ("right", 2), (1, 1), ("2", 2), (3, 3), ("loudest", 2), ("mean", 2)]
)
@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_a_channel_or_the_mean_is_read(tmp_path, channel, expected, rate):
    path = write_channels(tmp_path / "clip.wav", 0.2 * SINE, 0.4 * SINE, -0.3 * SINE, rate=rate)
    levels = {1: 0.2, 2: 0.4, 3: 0.3, "mean": 0.1}
    for waveform in (
        audio.load(path, 16_000, channel=channel),
        np.concatenate(list(audio.read_blocks(path, 16_000, 0.5, channel=channel))),
        np.concatenate([window.waveform for window in audio.read_windows(path, 16_000, 1.0, channel=channel)]),
    ):
        level = levels["mean" if channel == "mean" else expected]
        assert np.abs(waveform[2000:-2000]).max() == pytest.approx(level / 2, rel=0.02)


def test_the_loudest_channel_is_that_of_the_whole_recording(tmp_path):
    first, second = np.array(SINE), np.float32(0.6) * SINE
    first[8_000:] = 0
    path = write_channels(tmp_path / "clip.wav", first, second)
    np.testing.assert_array_equal(audio.load(path, 16_000, channel="loudest"), second)
    part = audio.load(path, 16_000, channel="loudest", duration_seconds=0.5)
    np.testing.assert_array_equal(part, first[:8_000])


def test_a_recording_of_one_channel_has_only_this_one(clip):
    for channel in ("left", "right", "loudest", 5):
        np.testing.assert_array_equal(audio.load(clip, 16_000, channel=channel), audio.load(clip, 16_000))


@pytest.mark.parametrize("channel", ["", "both", "0", 0, -1, "1.5", "²"])
def test_other_channels_are_rejected(clip, channel):
    with pytest.raises(ValueError, match=r"`channel` must be mean, left, right, loudest or a number.*; received: "):
        audio.load(clip, 16_000, channel=channel)


def test_a_channel_that_a_recording_lacks_is_rejected(tmp_path):
    path = write_channels(tmp_path / "clip.wav", SINE, SINE)
    with pytest.raises(
        ValueError, match=r"clip\.wav: `channel` must be at most the number of channels, 2; received: 3"
    ):
        audio.load(path, 16_000, channel=3)


@pytest.mark.parametrize("gain", [-1.0, -0.95])
def test_channels_that_cancel_each_other_are_one_warning_with_the_name_of_the_file(tmp_path, gain):
    path = write_channels(tmp_path / "clip.wav", SINE, np.float32(gain) * SINE)
    with pytest.warns(audio.AudioWarning) as caught:
        audio.load(path, 8_000)
    message = f"{path}: its channels cancel each other"
    assert [str(warning.message)[: len(message)] for warning in caught] == [message]
    for channel in ("left", "loudest"):
        audio.load(path, 8_000, channel=channel)  # a warning would be an error


def test_channels_that_cancel_each_other_in_a_part_of_a_recording_are_noticed(tmp_path):
    second = SINE.copy()
    second[16_000:] *= -1
    path = write_channels(tmp_path / "clip.wav", SINE, second)
    with pytest.warns(audio.AudioWarning, match=r"cancel each other.*\((4|5)\d % of the time\)"):
        audio.load(path, 16_000)


def test_ordinary_recordings_of_several_channels_give_no_warning(tmp_path):
    random, silence = np.random.default_rng(0), np.zeros_like(SINE)
    noises = random.normal(0, 0.1, (8, len(SINE))).astype(np.float32)
    hiss = noises[0] * 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for channels in (noises[:2], noises, (SINE, silence), (SINE, np.roll(SINE, 9)), (hiss, -hiss), (silence,) * 2):
            audio.load(write_channels(tmp_path / "clip.wav", *channels), 16_000)


def test_a_mixer_of_live_audio_follows_the_loudest_channel():
    mixer = ChannelMixer("loudest")
    quiet, loud = 0.1 * SINE[:1600], SINE[:1600]
    np.testing.assert_array_equal(mixer.mix(np.stack([quiet, loud], axis=1)), loud)
    for _ in range(300):
        mono = mixer.mix(np.stack([loud, quiet], axis=1))
    np.testing.assert_array_equal(mono, loud)
    np.testing.assert_array_equal(mixer.mix(loud[:, None]), loud)
    assert parse_channel("loudest") == "loudest"
