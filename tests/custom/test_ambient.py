"""Ambient sound: its two halves share nothing, and damaged recordings cost only themselves."""

import numpy as np
import pytest
import soundfile

from kerastag.custom.ambient import SYNTHETIC_KINDS, split_ambient

RATE = 1_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of a recording of 13 minutes, whose level says which stretch it is, and two short ones."""
    folder = tmp_path_factory.mktemp("ambient")
    levels = np.repeat([0.1, 0.2, 0.3], [300 * RATE, 300 * RATE, 180 * RATE])
    soundfile.write(folder / "a.wav", levels, RATE, subtype="FLOAT")
    (folder / "b.wav").write_bytes(b"RIFF, but no audio")
    soundfile.write(folder / "c.wav", np.full(20 * RATE, 0.4), RATE, subtype="FLOAT")
    return folder


def count_levels(half):
    """Return the number of samples of each level in a half."""
    samples = np.concatenate(list(half.read_recordings(RATE))).astype(float).round(3)
    return {round(level, 3): int((samples == level).sum()) for level in np.unique(samples).tolist()}


def test_every_stretch_is_in_exactly_one_half(folder):
    first, second = split_ambient([folder])
    assert count_levels(first) == {0.1: 300 * RATE, 0.3: 180 * RATE}
    assert count_levels(second) == {0.2: 300 * RATE, 0.4: 20 * RATE}


def test_a_recording_that_cannot_be_read_is_left_out_and_named_once(folder):
    half = split_ambient([folder])[1]
    for _ in range(2):
        assert list(half.read_recordings(RATE))
    (error,) = half.errors
    assert "b.wav" in error


def test_backgrounds_of_a_half_are_parts_of_its_recordings(folder):
    first, second = (half.draw_backgrounds(15.0) for half in split_ambient([folder]))
    assert {round(float(np.median(waveform)), 1) for waveform in first} == {0.1, 0.3}
    assert {round(float(np.median(waveform)), 1) for waveform in second} == {0.2, 0.4}
    assert {len(waveform) for waveform in first} == {15 * 44_100}


def test_synthetic_sounds_are_of_every_kind_and_differ_between_the_halves():
    first, second = (list(half.synthesize()) for half in split_ambient([], synthetic_hours=1 / 8))
    assert len(first) == 45
    assert [kind for kind, _ in first[::3]] == list(SYNTHETIC_KINDS)
    silence, faint, wind = first[0][1], first[3][1], first[10][1]
    assert not silence.any()
    assert np.abs(faint).max() == pytest.approx(10 ** (-50 / 20), rel=1e-4)
    assert np.abs(wind).max() == pytest.approx(10 ** (-26 / 20), rel=1e-4)
    noises = [waveform for kind, waveform in first if kind == "broad noise"]
    assert len({waveform.tobytes() for waveform in noises}) == len(noises) == 15
    for (_, waveform), (_, other) in list(zip(first, second, strict=True))[3:]:
        assert not np.array_equal(waveform, other)
    for (_, waveform), (_, again) in zip(first[:6], split_ambient([])[0].synthesize(), strict=False):
        np.testing.assert_array_equal(waveform, again)


def test_ambient_sound_that_cannot_be_halved_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="`ambient` must be longer than five minutes, or several recordings; .*c.wav"):
        split_ambient([folder / "c.wav"])
    with pytest.raises(ValueError, match="must be a recording or a folder of recordings; received: none"):
        split_ambient([tmp_path])
    with pytest.raises(FileNotFoundError, match="absent: no such recording or folder"):
        split_ambient([tmp_path / "absent"])
