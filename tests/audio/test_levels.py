"""Levels of waveforms, and arrays that are not waveforms."""

import numpy as np
import pytest

from audio.signals import make_sine
from kerastag import audio


def test_levels_of_a_sine_silence_an_offset_and_clipping():
    levels = audio.measure_levels(make_sine(16_000, 16_000, level=0.5))
    assert levels.peak == pytest.approx(0.5, abs=1e-3)
    assert levels.rms == pytest.approx(0.5 / np.sqrt(2), abs=1e-4)
    assert levels.mean == pytest.approx(0, abs=1e-4)
    assert levels.remarks == ()
    assert audio.measure_levels(np.zeros(100, np.float32)).remarks == ("silent",)
    assert audio.measure_levels(make_sine(16_000, 16_000) + np.float32(0.1)).remarks == ("DC offset of 0.100",)
    clipped = audio.measure_levels(np.clip(make_sine(16_000, 16_000, level=2.0), -1, 1))
    assert clipped.remarks == ("66.5 % of the samples are clipped",)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(9, np.int16), "divide 16-bit samples by 32768; received: int16"),
        ([0.0, 1.0], "array of float samples .*; received: list"),
        (np.zeros((2, 9), np.float32), r"shape \(samples,\), at least one; received: \(2, 9\)"),
        (np.zeros(0, np.float32), r"received: \(0,\)"),
        (np.array([0, 0, np.nan], np.float32), "NaN or infinity at sample 2"),
    ],
)
def test_an_array_that_is_not_a_waveform_is_rejected(waveform, message):
    with pytest.raises(ValueError, match=message):
        audio.measure_levels(waveform)
